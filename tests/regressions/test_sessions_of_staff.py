"""Sessions: one from before a second factor asks for it; the table holds no usable cookie.

CWE-613, CWE-256. Rack hashes what it stores sessions under since CVE-2019-16782.
"""

import re
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth.models import User
from django.contrib.sessions.backends.db import SessionStore as PlainStore
from django.contrib.sessions.models import Session
from django.db import connection
from django.test import Client
from django_otp.oath import totp
from django_otp.plugins.otp_totp.models import TOTPDevice

from authsite.accounts.sessions import SessionStore
from devices.events.models import Event
from tests.support.staff import browser_of

pytestmark = [pytest.mark.django_db, pytest.mark.once(on="sqlite")]
PASSWORD = "a long enough password"
LOGIN = "/admin/login/"


@pytest.fixture(autouse=True)
def kim(settings: Any) -> User:
    settings.STAFF_SECOND_FACTOR = "optional"
    return User.objects.create_superuser("kim", password=PASSWORD)


def sign_in(address: str = LOGIN, **sent: Any) -> Client:
    client = Client(**sent)
    answer = client.post(address, {"username": "kim", "password": PASSWORD})
    assert answer.status_code == 302
    return client


def test_a_session_from_before_the_enrolment_asks_for_the_second_factor() -> None:
    here, elsewhere = sign_in(), sign_in()
    for client in (here, elsewhere):
        assert client.get("/admin/devices/device/").status_code == 200
    here.get("/admin/second-factor/app/")
    app = TOTPDevice.objects.get()
    here.post("/admin/second-factor/app/", {"code": f"{totp(app.bin_key):06d}"})
    added = Event.objects.filter(kind="account.second_factor_added").order_by("pk")
    assert [event.data["factor"] for event in added] == ["app", "recovery codes"]
    assert here.get("/admin/devices/device/").status_code == 200
    asked = elsewhere.get("/admin/devices/device/", follow=True)
    assert asked.redirect_chain[-1][0].startswith("/admin/second-factor/")
    for _ in range(2):
        here.post("/admin/second-factor/remove/", {"factor": "app"})
    removed = Event.objects.get(kind="account.second_factor_removed").data
    assert (removed["factor"], removed["by"]) == ("app", "kim")


def test_a_key_from_the_table_is_no_cookie() -> None:
    client = sign_in()
    cookie = client.cookies["sessionid"].value
    (stored,) = Session.objects.values_list("pk", flat=True)
    assert cookie not in stored
    for taken in (stored, stored[:32]):
        thief = Client()
        thief.cookies["sessionid"] = taken
        assert thief.get("/admin/").headers["Location"].startswith(LOGIN)
    assert client.get("/admin/").status_code == 200


def test_a_key_that_was_sent_is_never_adopted() -> None:
    client = Client()
    client.cookies["sessionid"] = "a" * 32
    assert client.post(LOGIN, {"username": "kim", "password": PASSWORD}).status_code == 302
    assert client.cookies["sessionid"].value != "a" * 32


def test_a_key_of_no_session_is_not_stored_under() -> None:
    sent = SessionStore("a" * 32)
    assert sent.get("anything") is None
    sent["anything"] = 1
    sent.save()
    assert sent.session_key not in {None, "a" * 32}
    assert SessionStore("a" * 32).get("anything") is None
    assert SessionStore(sent.session_key).get("anything") == 1


def test_staff_see_and_end_other_sessions_of_their_own() -> None:
    page = "/admin/sessions/"
    mac = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 Version/18.1"
    here = sign_in(REMOTE_ADDR="::ffff:192.0.2.7", headers={"User-Agent": f"{mac} Safari/605.1.15"})
    elsewhere = sign_in(headers={"User-Agent": "curl/8\u202e<b>"})
    third = sign_in(headers={"User-Agent": f"{mac} Chrome/131.0 Safari/537.36 Edg/131.0"})
    stranger = browser_of(User.objects.create_superuser("lee"))
    stranger.get("/admin/")
    shown = here.get(page).content.decode()
    (button, *_others) = re.findall(r'name="session" value="(\w+)"', shown)
    assert (shown.count("Password ·"), shown.count("This session")) == (3, 1)
    for browser in ("<strong>Safari (macOS)", "<strong>Edge (macOS)", "<strong>curl/8&lt;b&gt;"):
        assert browser in shown
    assert "from 192.0.2.7, last used" in shown
    assert "0 sessions ended" in stranger.post(page, {"session": button}, follow=True).text
    assert "1 session ended" in here.post(page, {"session": button}, follow=True).text
    opened = [one.get("/admin/").status_code for one in (here, elsewhere, third, stranger)]
    assert sorted(opened) == [200, 200, 200, 302]
    here.post(page)
    opened = [one.get("/admin/").status_code for one in (here, elsewhere, third, stranger)]
    assert opened == [200, 302, 302, 200]


def test_leaving_ends_the_session() -> None:
    client = sign_in()
    client.post("/admin/logout/")
    assert not Session.objects.exists()


def test_sessions_of_the_earlier_release_go_on(kim: User) -> None:
    client = sign_in()
    plain = PlainStore()
    plain.update(dict(client.session.items()))
    plain.save()
    hash_keys = import_module("authsite.migrations.0002_hash_session_keys").hash_keys
    for _ in range(2):  # twice does no harm
        hash_keys(apps, SimpleNamespace(connection=connection))
    client.cookies["sessionid"] = plain.session_key or ""
    assert client.get("/admin/").status_code == 200
    assert not Session.objects.filter(pk=plain.session_key).exists()


@pytest.mark.parametrize(
    "wanted", ["//evil.example/", "https://evil.example/", "javascript:alert(1)", "/\\evil.example"]
)
def test_a_login_that_would_lead_elsewhere_leads_to_the_start_page(wanted: str) -> None:
    client = Client()
    answer = client.post(
        f"{LOGIN}?next={wanted}", {"username": "kim", "password": PASSWORD, "next": wanted}
    )
    assert answer.headers["Location"] == "/admin/"
    assert client.get("/admin/").status_code == 200
