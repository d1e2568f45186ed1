"""Sessions: one from before a second factor asks for it; the table holds no usable cookie.

CWE-613, CWE-256. Rack hashes what it stores sessions under since CVE-2019-16782.
"""

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

pytestmark = pytest.mark.django_db
PASSWORD = "a long enough password"
LOGIN = "/admin/login/"


@pytest.fixture(autouse=True)
def kim(settings: Any) -> User:
    settings.STAFF_SECOND_FACTOR = "optional"
    return User.objects.create_superuser("kim", password=PASSWORD)


def sign_in(address: str = LOGIN) -> Client:
    client = Client()
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
    assert here.get("/admin/devices/device/").status_code == 200
    asked = elsewhere.get("/admin/devices/device/", follow=True)
    assert asked.redirect_chain[-1][0].startswith("/admin/second-factor/")


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
