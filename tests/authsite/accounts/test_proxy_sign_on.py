"""Staff whom a trusted proxy names in a header."""

import time
from ipaddress import ip_network
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from tests.authsite.accounts.test_login import age, app, code_of
from tests.support.commands import python

pytestmark = [pytest.mark.django_db, pytest.mark.once(on="sqlite")]

PROXY, STRANGER = "192.0.2.1", "192.0.2.2"
PAGE = "/admin/jsi18n/"
GUARDED = "/admin/second-factor/app/"


@pytest.fixture(autouse=True)
def proxy(settings: Any) -> None:
    settings.TRUSTED_PROXIES = (ip_network("192.0.2.1/32"),)
    settings.PROXY_USER_HEADER, settings.PROXY_GROUPS_HEADER = "RemoteUser", "RemoteGroups"
    settings.PROXY_ROLES = {"viewers": ("Viewer",), "security": ("Security",)}


def ask(client: Client, user: str = "", groups: str = "viewers", **extra: Any) -> Any:
    page = extra.pop("page", PAGE)
    extra = {"REMOTE_ADDR": PROXY, "HTTP_REMOTEUSER": user, "HTTP_REMOTEGROUPS": groups} | extra
    return client.get(page, **{name: value for name, value in extra.items() if value})


def roles(name: str = "kim") -> set[str]:
    return {group.name for group in User.objects.get(username=name).groups.all()}


def test_whom_the_proxy_names_is_signed_on(client: Client) -> None:
    assert ask(client, "kim").status_code == 200
    assert roles() == {"Viewer"}
    assert ask(Client(), "kim", "security, viewers,, others").status_code == 200
    assert roles() == {"Viewer", "Security"}
    assert ask(Client(), "łucja".encode().decode("latin-1")).status_code == 200
    assert roles("łucja") == {"Viewer"}
    assert "change your password" not in ask(client, "kim", page="/admin/sessions/").text


def test_who_must_set_a_second_factor_up_is_told(client: Client, settings: Any) -> None:
    settings.STAFF_SECOND_FACTOR = "required"
    assert ask(client, "kim").status_code == 302
    page = ask(client, "kim", page="/admin/second-factor/settings/")
    assert "Set one up to go on" in page.text


def test_the_header_counts_from_the_proxy_only(client: Client, caplog: Any) -> None:
    assert ask(client, "kim", REMOTE_ADDR=STRANGER).status_code == 302
    assert "no proxy of ours" in caplog.text
    assert not User.objects.exists()
    ask(client, "kim")
    assert ask(client, "kim", REMOTE_ADDR=STRANGER).status_code == 302, "nor does its session"


def test_another_spelling_is_another_header(client: Client) -> None:
    assert ask(client, HTTP_REMOTE_USER="kim").status_code == 302
    assert ask(client, REMOTEUSER="kim").status_code == 302
    assert not User.objects.exists()


def test_the_session_is_of_whom_the_proxy_names_now(client: Client) -> None:
    ask(client, "kim")
    assert ask(client, "lee").status_code == 200
    assert client.session["_auth_user_id"] == str(User.objects.get(username="lee").pk)
    assert ask(client).status_code == 302
    assert "_auth_user_id" not in client.session


@pytest.mark.parametrize(
    ("user", "groups", "said"),
    [
        ("kim", "", "brings no role"),
        ("kim", "others", "brings no role"),
        ("kim,lee", "viewers", "gave no name"),
        ("<kim>", "viewers", "gave no name"),
        ("\xff", "viewers", "gave no name"),
        ("x" * 300, "viewers", "gave no name"),
        ("kim\0", "viewers", "gave no name"),
        (("e\u0301" * 150).encode().decode("latin-1"), "viewers", "gave no name"),
        ("taken", "viewers", "There is an account of this name already"),
    ],
)
def test_who_cannot_be_signed_on_is_told_why(
    client: Client, user: str, groups: str, said: str
) -> None:
    User.objects.create_superuser("taken", password="a password")
    answer = ask(client, user, groups)
    assert answer.status_code == 403
    assert said in answer.content.decode()
    assert "_auth_user_id" not in client.session


def test_a_name_that_cannot_be_read_is_refused_whoever_sits_there(
    client: Client, settings: Any
) -> None:
    settings.STAFF_SECOND_FACTOR = "optional"
    client.force_login(User.objects.create_superuser("glass"))
    answer = ask(client, "\xff")
    assert answer.status_code == 403
    assert "gave no name" in answer.content.decode()


def test_a_password_of_ours_goes_on_working_beside_it(client: Client) -> None:
    User.objects.create_superuser("glass", password="a password")
    sent = {"username": "glass", "password": "a password"}
    assert client.post("/admin/login/", sent, REMOTE_ADDR=PROXY).status_code == 302
    assert ask(client).status_code == 200
    assert ask(client, "kim").status_code == 200
    assert client.session["_auth_user_id"] == str(User.objects.get(username="glass").pk)


def test_a_sign_on_is_no_emergency(client: Client, settings: Any, caplog: Any) -> None:
    settings.BREAK_GLASS_ACCOUNTS = ["kim"]
    assert client.post("/admin/login/", {"username": "x", "password": "y"}).status_code == 200
    ask(client, "kim")
    assert "was signed on by the proxy" in caplog.text
    assert "break-glass" not in caplog.text


def test_it_is_off_unless_a_header_is_named(client: Client, settings: Any) -> None:
    settings.PROXY_USER_HEADER = ""
    assert ask(client, "kim", HTTP_="kim").status_code == 302


@pytest.mark.usefixtures("now")
def test_before_a_secret_the_second_factor_is_asked_for(client: Client, settings: Any) -> None:
    settings.STAFF_SECOND_FACTOR = "optional"
    ask(client, "kim")
    assert ask(client, "kim", page=GUARDED).status_code == 200, "the first one can be set up"
    device = app(User.objects.get(username="kim"))
    client.logout()
    named: Any = {"REMOTE_ADDR": PROXY, "HTTP_REMOTEUSER": "kim", "HTTP_REMOTEGROUPS": "viewers"}
    assert ask(client, "kim", page="/admin/").status_code == 302
    client.post("/admin/second-factor/", {"code": code_of(device)}, **named)
    assert ask(client, "kim", page=GUARDED).status_code == 200

    age(client, confirmed_at=3600, password_at=3600)
    confirm = ask(client, "kim", page=GUARDED)["Location"]
    second = ask(client, "kim", page=confirm)["Location"]
    assert second.startswith("/admin/second-factor/?next=")
    confirmed = client.post(second, {"code": code_of(device, steps=1)}, **named)
    assert confirmed["Location"] == GUARDED
    assert ask(client, "kim", page=GUARDED).status_code == 200


@pytest.mark.parametrize(("policy", "said"), [("off", "switch second factors on"),
                                             ("optional", "set up a second factor")])  # fmt: skip
def test_who_has_no_second_factor_cannot_confirm(
    client: Client, settings: Any, policy: str, said: str
) -> None:
    settings.STAFF_SECOND_FACTOR = policy
    ask(client, "kim")
    session = client.session
    session["confirmed_at"] = time.time() - 3600
    session.save()
    page = ask(client, "kim", page="/admin/confirm/?next=" + GUARDED)
    assert said in page.content.decode()
    assert 'name="password"' not in page.content.decode()


def test_without_a_list_of_proxies_nothing_starts() -> None:
    environment = {
        "PROXY_USER_HEADER": "RemoteUser",
        "TRUSTED_PROXIES": "",
        "SECRET_KEY": "x",
        "PEPPERS": "a:" + "A" * 44,
    }
    done = python("-c", "from authsite import settings", env=environment)
    assert "PROXY_USER_HEADER needs TRUSTED_PROXIES" in done.stderr
