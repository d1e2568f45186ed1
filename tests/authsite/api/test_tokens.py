"""Tokens at the API itself: every role and scope at every operation on devices, rules, history."""

from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from rest_framework.test import APIClient

from authsite import roles
from authsite.accounts.tokens.models import ApiToken
from authsite.accounts.tokens.rules import Rule
from devices.models import Device

pytestmark = pytest.mark.django_db

DEVICES = "/api/v1/devices"
VIEW, CHANGE = "devices.view_device", "devices.change_device"
# An operation, as method, path below DEVICES and body; and the permission that it needs.
OPERATIONS: list[tuple[str, str, Any, str]] = [
    ("get", "", None, VIEW),
    ("get", "/{pk}", None, VIEW),
    ("post", "", {"identifier": "new"}, "devices.add_device"),
    ("patch", "/{pk}", {"name": "x"}, CHANGE),
    ("post", "/{pk}/disable", {}, CHANGE),
    ("post", "/{pk}/enable", {}, CHANGE),
    ("delete", "/{pk}", None, "devices.delete_device"),
]
SCOPES = sorted({operation[3] for operation in OPERATIONS})


def client_of(text: str, **headers: str) -> APIClient:
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {text}", **headers)
    return client


def owner_of(role: str) -> User:
    user = User.objects.create_user(f"kim-{role}", is_staff=True)
    user.groups.set(Group.objects.filter(name=role))
    return user


def ask(client: APIClient, method: str, path: str, body: Any = None) -> Any:
    etag = client.get(path).headers.get("ETag", "*") if method in {"patch", "delete"} else "*"
    return getattr(client, method)(path, body, format="json", headers={"If-Match": etag})


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("role", sorted(roles.ROLES))
def test_a_token_does_what_its_scopes_and_its_owner_s_role_say(
    role: str, scope: str, make_device: Any
) -> None:
    owner = owner_of("Operator")  # has them all, when the token is made
    scopes = sorted({VIEW, scope})
    _token, text = ApiToken.objects.issue(owner=owner, name="ci", scopes=scopes)
    owner.groups.set(Group.objects.filter(name=role))
    client = client_of(text)
    for method, path, body, needed in OPERATIONS:
        answer = ask(client, method, DEVICES + path.format(pk=make_device().pk), body)
        allowed = needed in scopes and needed in roles.ROLES[role]
        assert (answer.status_code != 403) is allowed, (method, path, answer.data)
        assert answer.status_code < (300 if allowed else 404), (method, path, answer.data)
        if not allowed:
            whose = "token" if needed in roles.ROLES[role] else "account"
            assert (whose in answer.data["detail"], needed in answer.data["detail"]) == (True, True)


def test_the_history_names_the_owner_and_the_token(make_device: Any) -> None:
    device = make_device()
    _token, text = ApiToken.objects.issue(
        owner=owner_of("Operator"), name="nightly", scopes=[VIEW, CHANGE]
    )
    client_of(text).post(f"{DEVICES}/{device.pk}/disable", {"reason": "lost"}, format="json")
    change = Device.history.latest("history_id")
    assert (change.origin, change.history_user_id) == ("api", "kim-Operator")
    assert change.history_change_reason == "[nightly] lost"
    assert not change.enabled


@pytest.mark.parametrize(("body", "kept"), [({}, "stolen"), ({"reason": "lost"}, "lost")])
def test_the_history_keeps_the_header_s_reason_where_the_body_has_none(
    body: dict[str, str], kept: str, make_device: Any
) -> None:
    path = f"{DEVICES}/{make_device().pk}/disable"
    owner = owner_of("Operator")
    _token, text = ApiToken.objects.issue(owner=owner, name="ci", scopes=[VIEW, CHANGE])
    headers = {"Change-Reason": "stolen"}
    assert client_of(text).post(path, body, format="json", headers=headers).status_code == 200
    assert Device.history.latest("history_id").history_change_reason == f"[ci] {kept}"


def test_a_token_disables_devices_of_its_group_and_so_many(
    make_device: Any, make_group: Any
) -> None:
    lab = make_group("lab")
    inside = [make_device(groups=[lab]) for _ in range(3)]
    outside = make_device()
    _token, text = ApiToken.objects.issue(
        owner=owner_of("Operator"),
        name="brake",
        scopes=[VIEW, CHANGE],
        rules=[Rule.parse("devices.change_device:disable in lab, 2 an hour")],
    )
    client = client_of(text)
    path = f"{DEVICES}/{inside[0].pk}"
    assert ask(client, "post", f"{DEVICES}/{outside.pk}/disable").status_code == 403
    assert ask(client, "post", f"{path}/enable").status_code == 403
    assert ask(client, "patch", path, {"name": "x"}).status_code == 403
    tried = client.post(f"{path}/disable?validate_only=true", {}, format="json")
    assert tried.status_code == 200
    answers = [ask(client, "post", f"{DEVICES}/{one.pk}/disable") for one in inside]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert 3500 < int(answers[-1]["Retry-After"]) <= 3600
    assert Device.objects.filter(enabled=True).count() == 2


@pytest.mark.parametrize("text", ["", "x", "authsite_0000000000_" + "0" * 38])
def test_a_refusal_is_a_problem(text: str) -> None:
    answer = client_of(text).get(DEVICES)
    assert answer.status_code == 401
    assert answer["Content-Type"] == "application/problem+json"
    assert answer["WWW-Authenticate"].startswith('Bearer realm="authsite"')
    assert answer.json()["status"] == 401


def test_a_token_opens_nothing_but_the_api(make_device: Any, admin_user: User) -> None:
    _token, text = ApiToken.objects.issue(owner=admin_user, name="ci", scopes=[VIEW])
    client = client_of(text)
    assert client.get(DEVICES).status_code == 200
    assert client.get("/admin/").status_code == 302
    assert client.get("/admin/devices/device/").status_code == 302


def test_a_session_opens_no_api(admin_client: Any) -> None:
    assert admin_client.get(DEVICES).status_code == 401


def test_reading_a_list_costs_two_statements_more_than_the_rows(
    make_device: Any, django_assert_num_queries: Any
) -> None:
    make_device()
    _token, text = ApiToken.objects.issue(owner=owner_of("Operator"), name="ci", scopes=[VIEW])
    with django_assert_num_queries(5):  # token, permissions of the owner and of its roles, rows
        assert client_of(text).get(DEVICES).status_code == 200
