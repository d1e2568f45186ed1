"""Tokens of the API: what is refused, what is written behind, what a rule leaves."""

import json
import logging
import re
import string
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.core.cache import cache
from django.core.exceptions import ValidationError
from django.db.models import ProtectedError
from django.test import RequestFactory
from django.utils import timezone
from rest_framework.exceptions import PermissionDenied, Throttled
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from authsite import roles
from authsite.accounts import token_text
from authsite.accounts.tokens import authentication, last_used
from authsite.accounts.tokens.models import ApiToken, TokenOutcome
from authsite.accounts.tokens.rules import Rule
from authsite.accounts.tokens.service_account import ServiceAccount
from authsite.operations.logging import JsonFormatter, LineFormatter
from devices import history
from devices.api.base.permissions import Grant
from devices.events.models import Event
from devices.history import timeline
from devices.models import Device, DeviceGroup, PreSharedKey
from tests.support.staff import staff

pytestmark = pytest.mark.django_db

VIEW, CHANGE, ADD = "devices.view_device", "devices.change_device", "devices.add_device"
NEWER = bytes(range(32))


class WhoAmI(APIView):
    """Answers who asks, and with which token."""

    permission_classes = [IsAuthenticated]

    def get(self, request: Request) -> Response:
        return Response({"user": request.user.get_username(), "token": str(request.auth)})


def ask(text: str | None, address: str = "192.0.2.7", **meta: Any) -> Any:
    """Ask with a token; None asks without."""
    if text is not None:
        meta["HTTP_AUTHORIZATION"] = f"Bearer {text}"
    return WhoAmI.as_view()(RequestFactory().get("/", REMOTE_ADDR=address, **meta))


@pytest.fixture
def kim() -> User:
    return staff(role="Operator")


def issue(owner: User, **fields: Any) -> tuple[ApiToken, str]:
    return ApiToken.objects.issue(owner=owner, **{"name": "ci", "scopes": [VIEW], **fields})


# --- The text -------------------------------------------------------------------------------


def test_a_token_is_found_by_its_form_and_ends_in_a_checksum() -> None:
    identifier, text = token_text.generate()
    assert re.fullmatch(r"authsite_[0-9A-Za-z]{10}_[0-9A-Za-z]{38}", text)
    assert token_text.identifier_of(text) == identifier
    assert token_text.checksum("authsite") == "3LWBoh"  # 0xb6c52563, to the base 62


def test_any_mistyped_character_is_noticed() -> None:
    _identifier, text = token_text.generate()
    for place in range(len("authsite_"), len(text)):
        if text[place] == "_":
            continue
        other = next(char for char in string.ascii_letters if char != text[place])
        assert token_text.identifier_of(text[:place] + other + text[place + 1 :]) is None
    for wrong in ("", text[:-1], text + "a", text.replace("authsite", "authSite"), text + "\n"):
        assert token_text.identifier_of(wrong) is None


# --- Whom it lets in ------------------------------------------------------------------------


def test_the_owner_asks(kim: User, django_assert_num_queries: Any) -> None:
    _token, text = issue(kim)
    with django_assert_num_queries(1):
        answer = ask(text)
    assert answer.data == {"user": "kim", "token": "ci"}


@pytest.mark.parametrize("scheme", ["Basic", "Token", "BearerX"])
def test_a_token_after_another_scheme_is_none(kim: User, scheme: str) -> None:
    _token, text = issue(kim)
    answer = ask(None, HTTP_AUTHORIZATION=f"{scheme} {text}")
    assert answer.status_code == 401


def test_a_checksum_that_is_wrong_costs_no_statement(
    kim: User, django_assert_num_queries: Any
) -> None:
    _token, text = issue(kim)
    with django_assert_num_queries(0):
        answer = ask(text[:-1] + ("a" if text[-1] != "a" else "b"))
    assert answer.status_code == 401


def another(text: str) -> str:
    """Return a token of the same identifier whose secret is another, with a right checksum."""
    body = f"{text[:20]}{'x' * token_text.SECRET_LENGTH}"
    return body + token_text.checksum(body)


# How a right token is spoilt, and where it is used from; each is refused alike.
SPOILT: dict[str, Callable[[ApiToken, str], str]] = {
    "another secret": lambda token, text: another(text),
    "unknown": lambda token, text: token_text.generate()[1],
    "ended": lambda token, text: (token.revoke(by="ops") and text) or "",
    "owner disabled": lambda token, text: _set(token.owner, is_active=False) or text,
    "owner no staff any more": lambda token, text: _set(token.owner, is_staff=False) or text,
    "expired": lambda token, text: _set(token, not_after=timezone.now()) or text,
    "pepper gone": lambda token, text: _set(token, pepper="lost") or text,
    "digest of another row": lambda token, text: _swap(token) or text,
    "owner deleted": lambda token, text: (token.owner.delete() and text) or "",
}


def _set(row: Any, **fields: Any) -> str:
    """Change a row behind the models' back: what was read counts, not who was told."""
    type(row)._default_manager.filter(pk=row.pk).update(**fields)
    return ""


def _swap(token: ApiToken) -> str:
    other, _text = issue(token.owner, name="other")
    return _set(token, digest=other.digest)


@pytest.mark.parametrize("how", sorted(SPOILT))
def test_what_is_refused(how: str, kim: User, django_assert_num_queries: Any) -> None:
    token, text = issue(kim)
    spoilt = SPOILT[how](token, text)
    with django_assert_num_queries(1):
        answer = ask(spoilt)
    assert answer.status_code == 401
    assert str(answer.data["detail"]) == "This token is not valid here and now."
    assert answer["WWW-Authenticate"] == 'Bearer realm="authsite", error="invalid_token"'


def test_who_shows_nothing_is_told_what_to_show() -> None:
    answer = ask(None)
    assert (answer.status_code, answer["WWW-Authenticate"]) == (401, 'Bearer realm="authsite"')
    basic = RequestFactory().get("/", HTTP_AUTHORIZATION="Basic eDp5")
    assert WhoAmI.as_view()(basic).status_code == 401


NETWORKS = ["192.0.2.0/24", "2001:db8::/64"]


@pytest.mark.parametrize(
    ("address", "meta", "status"),
    [
        ("192.0.2.7", {}, 200),
        ("2001:db8::5", {}, 200),
        ("::ffff:192.0.2.9", {}, 200),
        ("198.51.100.1", {}, 401),
        ("198.51.100.1", {"HTTP_X_FORWARDED_FOR": "192.0.2.7"}, 401),
        ("192.0.2.7", {"HTTP_X_FORWARDED_FOR": "192.0.2.7"}, 401),  # no proxy of ours says so
        ("10.0.0.1", {"HTTP_X_FORWARDED_FOR": "192.0.2.7"}, 200),
        ("10.0.0.1", {"HTTP_X_FORWARDED_FOR": "192.0.2.7, 198.51.100.1"}, 401),
        ("10.0.0.1", {}, 401),
    ],
)
def test_networks(address: str, meta: Any, status: int, kim: User, settings: Any) -> None:
    from ipaddress import ip_network

    settings.TRUSTED_PROXIES = (ip_network("10.0.0.0/8"),)
    _token, text = issue(kim, networks=NETWORKS)
    assert ask(text, address, **meta).status_code == status


def test_guesses_of_an_address_end_before_the_database_is_asked(
    kim: User, django_assert_num_queries: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(authentication, "WINDOW", 10**10)  # from 1970 on: none ends meanwhile
    _token, text = issue(kim)
    of_a_neighbour, used = issue(kim, name="of a program that was let in before")
    assert ask(used).status_code == 200
    for _ in range(authentication.GUESSES):
        assert ask(another(text)).status_code == 401
    with django_assert_num_queries(0):
        answer = ask(text)
    assert answer.status_code == 429
    assert 0 < int(answer["Retry-After"]) <= authentication.WINDOW
    assert ask(used).status_code == 200
    of_a_neighbour.revoke(by="ops")
    assert ask(used).status_code == 401
    assert ask(text, "192.0.2.8").status_code == 200


def test_tokens_that_were_right_are_remembered_within_bounds(monkeypatch: Any) -> None:
    monkeypatch.setattr(authentication, "MAX_VERIFIED", 2)
    kept = set[bytes]()
    monkeypatch.setattr(authentication, "verified", kept)
    for fingerprint in (b"a", b"b", b"c"):
        authentication.remember(fingerprint)
    assert [one in kept for one in (b"a", b"b", b"c")] == [False, False, True]


def test_a_token_that_ended_and_is_still_sent_keeps_nobody_out(kim: User) -> None:
    token, text = issue(kim)
    token.revoke(by="ops")
    for _ in range(authentication.GUESSES + 1):
        assert ask(text).status_code == 401
        assert ask(text[:-2]).status_code == 401
    assert ask(issue(kim)[1]).status_code == 200


def test_tokens_are_verified_while_the_cache_fails(
    kim: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_args: Any, **_kwargs: Any) -> None:
        raise OSError("no cache")

    for name in ("get", "add", "incr"):
        monkeypatch.setattr(cache, name, fail)
    _token, text = issue(kim)
    assert ask(text).status_code == 200
    assert ask(another(text)).status_code == 401


# --- What is written behind -----------------------------------------------------------------


def test_last_use_is_written_behind_and_once_a_minute(
    kim: User, django_assert_num_queries: Any
) -> None:
    token, text = issue(kim)
    ask(text)
    token.refresh_from_db()
    assert token.last_used is None
    last_used.worker.flush()
    token.refresh_from_db()
    assert token.last_used is not None
    assert token.last_used_from == "192.0.2.7"
    ask(text)
    assert last_used.worker.waiting() == 0
    ask(text, "192.0.2.8")
    last_used.worker.flush()
    token.refresh_from_db()
    assert token.last_used_from == "192.0.2.8"
    assert history.history_of(ApiToken).objects.count() == 1


def test_a_pepper_is_rotated_in_two_steps(kim: User, settings: Any) -> None:
    token, text = issue(kim)
    settings.PEPPERS = {**settings.PEPPERS, "next": NEWER}
    assert ask(text).status_code == 200  # the other site may begin first
    settings.PEPPERS = {"next": NEWER, "test-2": settings.PEPPERS["test-2"]}
    assert ask(text).status_code == 200
    assert ApiToken.objects.get().pepper == "test-2"
    last_used.worker.flush()
    assert ApiToken.objects.get().pepper == "next"
    settings.PEPPERS = {"next": NEWER}
    assert ask(text).status_code == 200
    settings.PEPPERS = {"third": NEWER}
    assert ask(text).status_code == 401
    token.refresh_from_db()
    assert token.state_at(timezone.now()) is TokenOutcome.PEPPER_MISSING


def test_what_could_not_be_written_waits(kim: User, monkeypatch: pytest.MonkeyPatch) -> None:
    from django.db import OperationalError

    def fail(_batch: object) -> None:
        raise OperationalError("no server")

    token, text = issue(kim)
    ask(text)
    with monkeypatch.context() as patch:
        patch.setattr(last_used.worker, "write", fail)
        last_used.worker.flush()
    assert last_used.worker.waiting() == 1
    last_used.worker.flush()
    token.refresh_from_db()
    assert token.last_used is not None


# --- What it may do -------------------------------------------------------------------------

SCOPES = sorted(set().union(*roles.ROLES.values()))


@pytest.mark.parametrize("role", sorted(roles.ROLES))
def test_a_role_gives_a_token_what_it_has_and_no_more(role: str) -> None:
    owner = staff(role=role)
    held = [scope for scope in SCOPES if scope in roles.ROLES[role]]
    token, _text = issue(owner, scopes=held)
    for scope in SCOPES:
        assert token.permits(scope) is (scope in roles.ROLES[role]), scope
        if scope not in roles.ROLES[role]:
            with pytest.raises(ValidationError, match=scope):
                issue(User.objects.get(pk=owner.pk), name=scope, scopes=[scope])


def test_a_role_taken_away_holds_at_the_next_request(kim: User) -> None:
    _token, text = issue(kim, scopes=[CHANGE])
    request = Request(RequestFactory().get("/", HTTP_AUTHORIZATION=f"Bearer {text}"))
    verifier = authentication.TokenAuthentication()
    found = verifier.authenticate(request)
    assert found is not None
    assert found[0].has_perm(CHANGE)
    kim.groups.clear()
    ApiToken.objects.get().full_clean()  # it can be edited on
    again = verifier.authenticate(request)
    assert again is not None
    assert not again[0].has_perm(CHANGE)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"scopes": []}, "can do nothing"),
        ({"scopes": "devices.view_device"}, "list of permissions|no such permission"),
        ({"scopes": ["devices.fly_device"]}, "no such permission: devices.fly_device"),
        ({"scopes": ["acl.add_commandset"]}, "does not have these"),
        ({"networks": ["somewhere"]}, "no network such as"),
        ({"networks": ["10.0.0.1/8"]}, "no network such as"),
        ({"networks": ["::ffff:10.0.0.0/104"]}, "no network such as"),
        ({"networks": ["10.0.0.0/8"] * 51}, "at most 50"),
        ({"name": ""}, "blank"),
        ({"name": "x" * 101}, "100"),
        ({"not_after": timezone.now()}, "in the past"),
        ({"rules": [Rule(CHANGE, per_hour=1)]}, "not among the scopes"),
        ({"rules": [Rule(VIEW)]}, "a group, a rate an hour, or both"),
        ({"rules": [Rule(VIEW, only="disable")]}, "has no action “disable”"),
        ({"rules": [Rule(VIEW, per_hour=0)]}, "1 to 1000000"),
        ({"rules": [Rule(VIEW, per_hour=1)] * 21}, "at most 20"),
        ({"scopes": ["acl.view_commandset"], "rules": [Rule("acl.view_commandset", group=1)]},
         "name no group"),
    ],
)  # fmt: skip
def test_what_no_token_is_given(fields: Any, message: str, kim: User) -> None:
    with pytest.raises(ValidationError, match=message):
        issue(kim, **fields)
    assert not ApiToken.objects.exists()


def test_a_name_is_free_again_once_its_token_ended(kim: User) -> None:
    token, _text = issue(kim)
    with pytest.raises(ValidationError, match="has a token of this name"):
        issue(kim)
    assert token.revoke(by="ops")
    assert not token.revoke(by="ops")  # it had ended
    issue(kim)


def test_nobody_gives_a_token_what_they_lack(kim: User) -> None:
    security = staff(name="sam", role="Security")
    with pytest.raises(ValidationError, match="sam does not have these permissions"):
        issue(kim, scopes=[CHANGE], maker=security)
    issue(kim, scopes=[VIEW], maker=security)


# --- Rules ----------------------------------------------------------------------------------


@pytest.fixture
def lab(make_group: Any, make_device: Any) -> dict[str, Any]:
    """Return a group, one that lies in it, and devices in either, in both, and in neither."""
    site = make_group("lab")
    room = make_group("room", parent=site)
    other = make_group("other")
    return {
        "lab": site,
        "room": room,
        "other": other,
        "in lab": make_device(groups=[site]),
        "in room": make_device(groups=[room, other]),
        "outside": make_device(groups=[other]),
        "alone": make_device(),
    }


@pytest.mark.parametrize("where", ["lab", "room", "gone"])
def test_a_group_narrows_what_is_seen_and_what_is_done(
    where: str, lab: dict[str, Any], kim: User
) -> None:
    group = lab[where].pk if where != "gone" else 10**9
    admitted = {"lab": {"in lab", "in room"}, "room": {"in room"}, "gone": set[str]()}[where]
    rules = [Rule(VIEW, group=group), Rule(CHANGE, group=group)]
    token, _text = issue(kim, scopes=[VIEW, CHANGE, "devices.view_presharedkey"], rules=rules)
    seen = set(token.narrow(Device.objects.all()).values_list("pk", flat=True))
    assert seen == {lab[name].pk for name in admitted}
    for name in ("in lab", "in room", "outside", "alone"):
        if name in admitted:
            token.count_use(CHANGE, [lab[name]])
        else:
            with pytest.raises(PermissionDenied):
                token.count_use(CHANGE, [lab[name]])
    with pytest.raises(PermissionDenied):
        token.count_use(CHANGE, [lab["in lab"], lab["outside"]])


def test_what_belongs_to_a_device_goes_by_its_groups(lab: dict[str, Any]) -> None:
    keys = {
        name: PreSharedKey.objects.issue(device=lab[name])[0] for name in ("in room", "outside")
    }
    see, end = "devices.view_presharedkey", "devices.change_presharedkey"
    groups = "devices.view_devicegroup"
    rules = [Rule(one, group=lab["lab"].pk) for one in (see, end, groups)]
    token, _text = issue(staff(role="Security"), scopes=[see, end, groups], rules=rules)
    assert list(token.narrow(PreSharedKey.objects.all())) == [keys["in room"]]
    assert set(token.narrow(DeviceGroup.objects.all())) == {lab["lab"], lab["room"]}
    token.count_use(end, [keys["in room"]])
    token.count_use(groups, [lab["room"], DeviceGroup(name="new", parent=lab["room"])])
    for row in (keys["outside"], lab["other"]):
        with pytest.raises(PermissionDenied):
            token.count_use(end if row is keys["outside"] else groups, [row])


def test_what_has_no_rule_is_not_narrowed(
    lab: dict[str, Any], kim: User, django_assert_num_queries: Any
) -> None:
    issued, _text = issue(kim, scopes=[VIEW, CHANGE], rules=[Rule(CHANGE, per_hour=1)])
    token: Grant = issued  # all that the API asks of a token: mypy compares
    assert (token.narrows(VIEW), token.narrows(CHANGE)) == (False, True)
    assert token.reached_groups(CHANGE) is None
    with django_assert_num_queries(0):
        token.count_use(VIEW, [lab["alone"]])
        rows = token.narrow(Device.objects.all())
    assert rows.count() == 4


@pytest.mark.parametrize(
    ("more", "seen", "reached"), [([], 2, {"lab", "room"}), ([Rule(VIEW, per_hour=1)], 4, None)]
)
def test_a_rule_without_a_group_narrows_nothing_whatever_stands_beside_it(
    lab: dict[str, Any], kim: User, more: list[Rule], seen: int, reached: set[str] | None
) -> None:
    token, _text = issue(kim, rules=[Rule(VIEW, group=lab["lab"].pk), *more])
    assert token.narrow(Device.objects.all()).count() == seen
    groups = None if reached is None else {lab[name].pk for name in reached}
    assert token.reached_groups(VIEW) == groups


def test_of_what_lies_in_no_group_a_rule_about_a_group_shows_nothing(
    lab: dict[str, Any], admin_user: User
) -> None:
    see = "devices.view_event"
    token, _text = issue(admin_user, scopes=[see], rules=[Rule(see, group=lab["lab"].pk)])
    assert Event.objects.exists()
    assert not token.narrow(Event.objects.all()).exists()


def test_a_rate_is_exact_and_says_when_to_come_back(lab: dict[str, Any], kim: User) -> None:
    token, _text = issue(kim, scopes=[CHANGE], rules=[Rule(CHANGE, per_hour=3)])
    row = lab["alone"]
    token.count_use(CHANGE, [row, row])
    with pytest.raises(Throttled):
        token.count_use(CHANGE, [row, row])
    token.count_use(CHANGE, [row])
    past = timezone.now() - timedelta(minutes=50)
    token.uses.filter(count=2).update(moment=past)
    with pytest.raises(Throttled) as refused:
        token.count_use(CHANGE, [row])
    assert 9 * 60 < int(getattr(refused.value, "wait", 0)) <= 10 * 60
    with pytest.raises(Throttled) as never:
        token.count_use(CHANGE, [row] * 4)
    assert getattr(never.value, "wait", 0) == 3600
    token.uses.filter(count=2).update(moment=past - timedelta(minutes=10))
    token.count_use(CHANGE, [row, row])


def test_a_rate_is_of_one_rule_of_one_token(lab: dict[str, Any], kim: User) -> None:
    rules = [Rule(CHANGE, per_hour=1), Rule(ADD, per_hour=1)]
    for name in ("one", "two"):
        token, _text = issue(kim, name=name, scopes=[CHANGE, ADD], rules=rules)
        for permission in (CHANGE, ADD):
            token.count_use(permission, [lab["alone"]])
            with pytest.raises(Throttled):
                token.count_use(permission, [lab["alone"]])


def test_a_row_is_counted_for_a_rule_without_a_rate_if_one_admits_it(
    lab: dict[str, Any], kim: User
) -> None:
    rules = [Rule(CHANGE, group=lab["other"].pk, per_hour=1), Rule(CHANGE, group=lab["lab"].pk)]
    token, _text = issue(kim, scopes=[CHANGE], rules=rules)
    for _ in range(3):
        token.count_use(CHANGE, [lab["in room"]])
    token.count_use(CHANGE, [lab["outside"]])
    with pytest.raises(Throttled):
        token.count_use(CHANGE, [lab["outside"]])


def test_many_rows_cost_as_many_statements_as_one(
    lab: dict[str, Any], kim: User, django_assert_num_queries: Any
) -> None:
    rules = [Rule(CHANGE, group=lab["lab"].pk, per_hour=100)]
    token, _text = issue(kim, scopes=[CHANGE], rules=rules)
    for rows in ([lab["in lab"]], [lab["in lab"], lab["in room"]] * 10):
        with django_assert_num_queries(8):  # the tree, memberships; savepoint, lock, count, insert
            token.count_use(CHANGE, rows)


def test_a_rule_keeps_a_permission_to_one_deed(lab: dict[str, Any], kim: User) -> None:
    rule = Rule.parse("devices.change_device:disable in lab, 20 an hour")
    assert rule == Rule(CHANGE, only="disable", group=lab["lab"].pk, per_hour=20)
    token, _text = issue(kim, scopes=[CHANGE, VIEW], rules=[rule])
    for operation, admitted in (("disable", True), ("partial_update", False), (None, False)):
        token.operation = operation
        if admitted:
            token.count_use(CHANGE, [lab["in lab"]])
        else:
            with pytest.raises(PermissionDenied):
                token.count_use(CHANGE, [lab["in lab"]])


def test_a_device_is_put_into_no_group_beyond_the_rule(lab: dict[str, Any], kim: User) -> None:
    rules = [Rule(one, group=lab["lab"].pk) for one in (ADD, CHANGE)]
    token, _text = issue(kim, scopes=[ADD, CHANGE], rules=rules)
    for operation, seen in (("list", 3), ("create", 2), ("partial_update", 2)):
        token.operation = operation
        assert token.narrow(DeviceGroup.objects.all()).count() == seen


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is no limit such as"),
        ("change_device in lab", "is no limit such as"),
        ("devices.change_device in lab 20 hours", "no group named “lab 20 hours”"),
        ("devices.change_device in nowhere", "no group named “nowhere”"),
    ],
)
def test_what_is_no_rule(text: str, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Rule.parse(text)


@pytest.mark.parametrize(
    "stored", [None, [], {"permission": 1}, {"permission": VIEW, "group": True}, {"colour": 1}]
)
def test_what_is_stored_and_no_rule(stored: Any) -> None:
    with pytest.raises(ValidationError, match="A limit is an object"):
        Rule.read(stored)


# --- Service accounts -----------------------------------------------------------------------


def service(answerable: User, name: str = "factory", **fields: Any) -> ServiceAccount:
    role = Group.objects.filter(name="Operator")
    return ServiceAccount.objects.create_account(
        name, answerable=answerable, **{"roles": role, **fields}
    )


def test_a_service_has_tokens_while_somebody_answers_for_it(kim: User) -> None:
    account = service(kim)
    _token, text = issue(account.user, scopes=[CHANGE])
    assert ask(text).data["user"] == "factory"
    with pytest.raises(ProtectedError):
        kim.delete()
    kim.is_active = False
    kim.save()
    assert ask(text).status_code == 401
    account.answerable = staff(name="alex")
    account.save()
    assert ask(text).status_code == 200


def test_a_service_never_logs_in(kim: User, client: Any) -> None:
    account = service(kim).user
    account.is_staff = account.is_superuser = True
    account.set_password("a password that somebody set")
    account.save()
    account.refresh_from_db()
    assert (account.is_staff, account.is_superuser) == (False, False)
    assert not account.has_usable_password()
    sent = {"username": "factory", "password": "a password that somebody set"}
    assert client.post("/admin/login/", sent).status_code == 200  # the form again
    assert client.get("/admin/").status_code == 302


@pytest.mark.parametrize("fields", [{"is_active": False}, {"is_staff": False}])
def test_only_active_staff_answer(fields: Any) -> None:
    with pytest.raises(ValidationError, match="active staff"):
        service(staff(**fields))
    assert not User.objects.filter(username="factory").exists()


def test_nobody_gives_a_service_a_role_beyond_their_own() -> None:
    sam = staff(name="sam", role="Security")
    with pytest.raises(ValidationError, match="sam does not have these permissions"):
        service(sam, maker=sam)
    service(sam, roles=Group.objects.filter(name__in=["Security", "Viewer"]), maker=sam)


def test_an_account_that_is_disabled_loses_its_tokens_for_good(kim: User) -> None:
    _token, text = issue(kim)
    kim.is_active = False
    with history.origin(history.Origin.COMMAND, user="ops"):
        kim.save()
    kim.is_active = True
    kim.save()
    assert ask(text).status_code == 401
    ended = ApiToken.objects.get()
    assert (ended.revoked_by, ended.revoked_reason) == ("ops", "the account was disabled")


# --- What remains of it ---------------------------------------------------------------------


def test_the_history_tells_of_tokens_without_their_secrets(kim: User) -> None:
    token, text = issue(kim, networks=["10.0.0.0/8"], rules=[Rule(VIEW, per_hour=2)])
    token.revoke(by="ops", reason="leaked")
    kim.delete()
    sam = User.objects.create_superuser("sam")
    entries = timeline.recent(10, sam)
    assert [entry.subject for entry in entries] == ["ci"] * 3
    told = json.dumps([field for entry in entries for field in entry.fields])
    assert "leaked" in told
    for secret in (text, token.digest, text[20:]):
        assert secret not in told


@pytest.mark.parametrize("formatter", [JsonFormatter(), LineFormatter()])
def test_no_log_line_holds_a_token(formatter: logging.Formatter) -> None:
    identifier, text = token_text.generate()
    try:
        int(f"no number {text}")
    except ValueError as error:
        record = logging.LogRecord(
            "django", logging.ERROR, "x.py", 1, "GET /?token=%s", (text,),
            (type(error), error, error.__traceback__),
        )  # fmt: skip
    line = formatter.format(record)
    assert text[20:] not in line
    assert f"authsite_{identifier}_…" in line


def test_a_refusal_is_logged_by_identifier(kim: User, caplog: pytest.LogCaptureFixture) -> None:
    token, text = issue(kim, networks=["10.0.0.0/8"])
    ask(text)
    assert token.identifier in caplog.text
    assert "network" in caplog.text
    assert text not in caplog.text


def test_a_token_names_permissions_that_exist() -> None:
    assert Permission.objects.filter(
        content_type__app_label="authsite", codename="add_apitoken"
    ).exists()
