"""Accounts, roles and tokens on the command line."""

import json
import re
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import OperationalError
from django.utils import timezone

from authsite.accounts.tokens.models import ApiToken
from devices import history
from devices.events.models import Event
from tests.support.commands import answer, run

pytestmark = [pytest.mark.django_db, pytest.mark.once(on="sqlite")]

VIEW, CHANGE = "devices.view_device", "devices.change_device"


@pytest.fixture
def kim() -> User:
    answer("create_user", "kim", "--role", "Operator", "--email", "kim@example.com")
    return User.objects.get(username="kim")


def test_accounts_are_created_and_listed(kim: User) -> None:
    assert kim.is_staff
    assert not kim.has_usable_password()
    answer("create_user", "sam", "--role", "Viewer", "--password-stdin", stdin="Jq7-plaster\n")
    assert User.objects.get(username="sam").check_password("Jq7-plaster")
    answer("create_service_account", "factory", "--answerable", "kim", "--role", "Operator")
    users = answer("list_users")["users"]
    assert [(one["username"], one["kind"], one["roles"]) for one in users] == [
        ("factory", "service", ["Operator"]),
        ("kim", "staff", ["Operator"]),
        ("sam", "staff", ["Viewer"]),
    ]
    assert [one["username"] for one in answer("list_users", "--role", "Viewer")["users"]] == ["sam"]
    printed, _ = run("list_users", "--services")
    assert printed == "factory  active    Operator  (service, kim answers for it)\n"
    roles = {one["role"]: one for one in answer("list_roles")["roles"]}
    assert {name: one["accounts"] for name, one in roles.items()} == {
        **dict.fromkeys(("Auditor", "Security"), 0),
        "Operator": 2,
        "Viewer": 1,
    }
    assert CHANGE in roles["Operator"]["permissions"]
    assert CHANGE not in roles["Viewer"]["permissions"]
    assert "Operator  (2 accounts, " in run("list_roles")[0]


@pytest.mark.parametrize(
    "words",
    [
        ("create_user", "kim"),
        ("create_user", "KIM"),
        ("create_user", "ｋｉｍ"),  # noqa: RUF001
        ("create_user", "ﬃ" * 150),
        ("create_user", "a b"),
        ("create_user", "\u3164"),
        ("create_user", "a\u115fb"),
        ("create_service_account", "\u3164", "--answerable", "kim"),
        ("create_token", "kim", " ", "--scope", VIEW),
        ("create_user", "x", "--role", "King"),
        ("create_user", "x", "--password-stdin"),  # 12345
        ("create_service_account", "kim", "--answerable", "kim"),
        ("create_service_account", "KIM", "--answerable", "kim"),
        ("create_service_account", "x", "--answerable", "nobody"),
        ("set_roles", "nobody", "Viewer"),
        ("set_roles", "kim", "King"),
        ("disable_user", "nobody"),
        ("disable_user", "kim", "--hand-to", "nobody"),
        ("disable_user", "kim", "--hand-to", "kim"),
        ("create_token", "nobody", "ci", "--scope", VIEW),
        ("create_token", "kim", "ci", "--scope", "acl.add_commandset"),
        ("create_token", "kim", "ci", "--scope", VIEW, "--network", "here"),
        ("create_token", "kim", "ci", "--scope", VIEW, "--limit", "what"),
        ("end_token", "0000000000"),
    ],
    ids=" ".join,
)
def test_what_is_refused(words: tuple[str, ...], kim: User) -> None:
    users, roles = User.objects.count(), kim.groups.count()
    run(*words, code=1, stdin="12345\n")
    assert (User.objects.count(), kim.groups.count()) == (users, roles)
    assert not ApiToken.objects.exists()


def test_roles_are_set(kim: User) -> None:
    given = answer("set_roles", "kim", "Viewer", "Auditor")
    assert (given["roles"], given["staff"]) == (["Auditor", "Viewer"], True)
    none = answer("set_roles", "kim")
    assert (none["roles"], none["staff"]) == ([], False)


def test_a_disabled_account_hands_over_its_services(kim: User) -> None:
    answer("create_user", "sam", "--role", "Viewer")
    answer("create_service_account", "factory", "--answerable", "kim", "--role", "Operator")
    for owner in ("kim", "factory"):
        answer("create_token", owner, "ci", "--scope", VIEW)
    _printed, complaint = run("disable_user", "kim")
    assert "nobody answers for the service factory now" in complaint
    assert [one["state"] for one in answer("list_tokens")["tokens"]] == ["owner"]
    assert "  owner disabled  factory: " in run("list_tokens")[0]
    assert answer("disable_user", "kim", "--hand-to", "sam")["services"] == ["factory"]
    assert [one["state"] for one in answer("list_tokens")["tokens"]] == ["verified"]
    assert answer("enable_user", "kim")["changed"] is True
    assert answer("enable_user", "kim")["changed"] is False
    assert [one["owner"] for one in answer("list_tokens")["tokens"]] == ["factory"]


def test_whoever_has_no_role_may_not_log_in() -> None:
    created = answer("create_user", "kim")
    assert (created["staff"], created["roles"]) == (False, [])
    assert answer("set_roles", "kim", "Viewer")["staff"] is True


def test_the_last_superuser_stays(admin_user: User) -> None:
    assert "No other active superuser would be left" in run("disable_user", "admin", code=1)[1]
    User.objects.create_superuser("second")
    run("disable_user", "admin")


def test_a_superuser_who_may_not_log_in_is_none_that_remains(admin_user: User) -> None:
    """A sign-on that brought no role left the last superuser one; another was made since."""
    left = User.objects.create_superuser("left")
    User.objects.filter(pk=left.pk).update(is_staff=False)
    assert "No other active superuser would be left" in run("disable_user", "admin", code=1)[1]
    run("disable_user", "left")


def test_a_token_is_created_listed_and_ended(kim: User, make_group: Any) -> None:
    make_group("lab")
    document = answer(
        *("create_token", "kim", "ci", "--scope", VIEW, "--scope", CHANGE),
        *("--rule", "devices.change_device:disable in lab, 20 an hour"),
        *("--network", "10.2.0.0/16", "--within", "12h"),
    )
    text = document.pop("token")
    verdict = ApiToken.objects.verify(text, "10.2.0.9", timezone.now())
    assert verdict.token is not None
    assert verdict.token.rules_in_words() == [
        "Devices: change (only disable), only in “lab”, at most 20 an hour"
    ]
    assert re.fullmatch(r"[0-9-]{10}T[0-9:.]+Z", document["not_after"])
    ends = datetime.fromisoformat(document["not_after"]) - timezone.now()
    assert timedelta(hours=11) < ends < timedelta(hours=13)
    assert answer("list_tokens", "--owner", "kim")["tokens"] == [document]
    printed, _ = run("list_tokens")
    assert text not in printed
    assert f"{document['identifier']}  usable    kim: ci, until" in printed
    ending = answer("expiring", "--within", "1d")["expiring"]
    assert [(one["what"], one["name"]) for one in ending] == [("token", "kim ci")]
    assert answer("end_token", text, "--reason", "leaked")["ended"] == 1
    assert answer("end_token", document["identifier"])["ended"] == 0
    assert answer("list_tokens")["tokens"] == []
    assert [one["state"] for one in answer("list_tokens", "--all")["tokens"]] == ["revoked"]
    change = history.history_of(ApiToken).objects.latest("history_id")
    assert (change.origin, change.revoked_reason) == ("command", "leaked")


def test_a_token_may_read_everything_that_its_owner_reads(kim: User) -> None:
    document = answer("create_token", "kim", "report", "--read-only", "--no-end")
    assert document["not_after"] is None
    assert VIEW in document["scopes"]
    assert all(".view_" in scope for scope in document["scopes"])
    assert len(document["scopes"]) > 10
    assert all(User.objects.get(username="kim").has_perm(one) for one in document["scopes"])
    assert answer("end_token", "--owner", "kim")["ended"] == 1


def test_a_token_without_scopes_is_no_command(kim: User) -> None:
    run("create_token", "kim", "ci", code=2)


def test_a_refusal_repeats_no_token(kim: User) -> None:
    wrong = "authsite_0000000000_" + "a" * 38
    _printed, complaint = run("end_token", wrong, code=1)
    assert "authsite_0000000000_…" in complaint
    assert "aaaa" not in complaint + json.dumps(complaint)


def test_commands_of_django_are_recorded_as_all_are(
    kim: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("getpass.getpass", lambda *_prompt, **_more: "Jq7-plaster")
    monkeypatch.setattr("getpass.getuser", lambda: "alan")
    Event.objects.all().delete()
    run("changepassword", kim.get_username(), "--reason", "it was lost")
    run("createsuperuser", "--noinput", "--username", "root", "--email", "root@example.com")
    said = Event.objects.order_by("pk").values_list("kind", "data__by", "data__reason")
    assert [*said] == [
        ("account.password_changed", "alan", "changepassword: it was lost"),
        ("account.created", "alan", "createsuperuser"),
    ]
    assert {*Event.objects.values_list("data__origin", flat=True)} == {"command"}
    assert "Jq7" not in str([*Event.objects.values_list("data", flat=True)])


def test_commands_of_django_end_as_all_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_given: Any, **_more: Any) -> Any:
        raise OperationalError("connection refused")

    monkeypatch.setattr(User.objects, "get_by_natural_key", unreachable)
    words = ("--noinput", "--username", "root", "--email", "root@example.com")
    assert "cannot be asked" in run("createsuperuser", *words, code=2)[1]


def test_a_token_that_ends_at_once_is_refused(kim: User) -> None:
    said = run("create_token", "kim", "ci", "--scope", VIEW, "--within", "0d", code=1)[1]
    assert "lies in the past" in said
    assert not ApiToken.objects.exists()


def test_a_role_that_is_named_twice_is_said_once(kim: User) -> None:
    assert run("set_roles", "kim", "Operator", "Operator")[0] == "kim has Operator.\n"
    printed, _ = run("create_user", "sam", "--role", "Viewer", "--role", "Viewer")
    assert printed == "Created sam, Viewer.\n"
    words = ("--answerable", "kim", "--role", "Operator", "--role", "Operator")
    assert run("create_service_account", "ci", *words)[0] == "Created ci, Operator.\n"
