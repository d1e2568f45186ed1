"""Tokens at the API itself: every role and scope at every operation on devices, rules, history."""

import json
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from rest_framework.test import APIClient

from authsite import roles
from authsite.accounts.tokens.models import ApiToken
from authsite.accounts.tokens.rules import Rule
from devices.history import all_histories
from devices.models import Certificate, Device, DeviceGroup, PreSharedKey
from tests.support.forms import filled
from tests.support.pki import device_certificate
from tests.support.staff import staff

pytestmark = [pytest.mark.django_db, pytest.mark.once(on="sqlite")]

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


def ask(client: APIClient, method: str, path: str, body: Any = None) -> Any:
    etag = client.get(path).headers.get("ETag", "*") if method in {"patch", "delete"} else "*"
    return getattr(client, method)(path, body, format="json", headers={"If-Match": etag})


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("role", sorted(roles.ROLES))
def test_a_token_does_what_its_scopes_and_its_owner_s_role_say(
    role: str, scope: str, make_device: Any
) -> None:
    owner = staff(role="Operator")  # has them all, when the token is made
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
        owner=staff(role="Operator"), name="nightly", scopes=[VIEW, CHANGE]
    )
    client_of(text).post(f"{DEVICES}/{device.pk}/disable", {"reason": "lost"}, format="json")
    change = Device.history.latest("history_id")
    assert (change.origin, change.history_user_id) == ("api", "kim")
    assert change.history_change_reason == "[nightly] lost"
    assert not change.enabled


@pytest.mark.parametrize(("body", "kept"), [({}, "stolen"), ({"reason": "lost"}, "lost")])
def test_the_history_keeps_the_header_s_reason_where_the_body_has_none(
    body: dict[str, str], kept: str, make_device: Any
) -> None:
    path = f"{DEVICES}/{make_device().pk}/disable"
    owner = staff(role="Operator")
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
        owner=staff(role="Operator"),
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


# --- What a rule about a group keeps it from -----------------------------------------------------

KEPT = [
    *(
        f"devices.{verb}_{model}"
        for verb in ("view", "add", "change", "delete")
        for model in ("device", "presharedkey", "certificate", "devicegroup")
    ),
    "devices.try_credential",
    "rpc.end_session",
]
HISTORIES = [
    f"devices.view_historical{model}"
    for model in ("device", "membership", "presharedkey", "certificate", "devicegroup")
]  # fmt: skip
NEW = {"identifier": "new"}
# What is asked about a row outside; what is answered where the row is not seen, and where it is
# seen and only nothing is to be done to it.
BEYOND: list[tuple[str, str, Any, int, int]] = [
    ("patch", "devices/{device}", {"name": "x"}, 404, 403),
    ("delete", "devices/{device}", None, 404, 403),
    ("post", "devices/{device}/disable", {}, 404, 403),
    ("post", "devices/{device}/enable", {}, 404, 403),
    ("post", "devices/{device}/rotate-keys", {}, 404, 403),
    ("post", "devices/{device}/revoke-credentials", {}, 404, 403),
    ("post", "devices/try-credential", {"device": "{name}", "secret": "no"}, 400, 403),
    ("post", "devices/bulk-change", {"devices": [{"id": "{device}", "if_match": "*"}]}, 400, 403),
    ("post", "devices/bulk-delete", {"devices": [{"id": "{device}", "if_match": "*"}]}, 400, 403),
    ("post", "groups/{lab}/members", {"devices": ["{device}"]}, 400, 403),
    ("post", "groups/{lab}/members/remove", {"devices": ["{device}"]}, 400, 403),
    ("post", "groups/{group}/members", {"devices": ["{inside}"]}, 404, 404),
    ("post", "keys", {"device": "{device}"}, 400, 403),
    ("patch", "keys/{key}", {"label": "x"}, 404, 403),
    ("delete", "keys/{key}", None, 404, 403),
    ("post", "keys/{key}/revoke", {}, 404, 403),
    ("post", "certificates", {"device": "{device}", "certificate": "{pem}"}, 400, 403),
    ("patch", "certificates/{certificate}", {"label": "x"}, 404, 403),
    ("delete", "certificates/{certificate}", None, 404, 403),
    ("post", "certificates/{certificate}/revoke", {}, 404, 403),
    ("post", "certificates/revoke-presented", {"device": "{device}", "certificate": "{pem}"},
     400, 403),
    ("patch", "groups/{group}", {"name": "x"}, 404, 404),
    ("delete", "groups/{group}", None, 404, 404),
    ("post", "rtio-sessions/end", {"device": "{device}"}, 400, 403),
    ("post", "jobs/delete-devices", {"identifier_prefix": "{name}", "expected": 1}, 409, 403),
    ("post", "devices", NEW, 403, 403),
    ("post", "devices/provision", NEW, 403, 403),
    ("post", "devices/bulk-create", {"devices": [NEW]}, 403, 403),
    ("post", "groups", {"name": "new"}, 403, 403),
    ("patch", "devices/{inside}", {"groups": []}, 403, 200),
    ("post", "groups/{lab}/members/remove", {"devices": ["{inside}"]}, 403, 200),
    ("patch", "groups/{inner}", {"parent": None}, 403, 403),
]  # fmt: skip


@pytest.fixture(scope="module")
def sides(kept_rows: None) -> dict[str, Any]:
    """Return what lies outside the group "lab", some of what lies in it, and a certificate."""
    lab, other = (DeviceGroup.objects.create(name=name) for name in ("lab", "other"))
    inside, outside = (Device.objects.create(identifier=f"{number:036d}") for number in (1, 2))
    for device, group in ((inside, lab), (outside, other)):
        device.groups.add(group)
        PreSharedKey.objects.issue(device=device)
        Certificate.objects.register(device=device, presented=device_certificate("x").pem)
    return {
        "name": outside.identifier,
        "device": outside.pk,
        "key": outside.keys.get().pk,
        "certificate": outside.certificates.get().pk,
        "group": other.pk,
        "lab": lab.pk,
        "inner": DeviceGroup.objects.create(name="inner", parent=lab).pk,
        "inside": inside.pk,
        "key inside": inside.keys.get().pk,
        "certificate inside": inside.certificates.get().pk,
        "pem": device_certificate("y").pem,
    }


def kept_to_lab(permissions: list[str]) -> APIClient:
    """Return a client that may do it all, and what the permissions are for, only in the group."""
    _token, text = ApiToken.objects.issue(
        owner=User.objects.create_superuser("root"),
        name="ci",
        scopes=[*KEPT, *HISTORIES],
        rules=[Rule.parse(f"{permission} in lab") for permission in permissions],
    )
    return client_of(text)


def changes_made() -> int:
    return sum(historical.objects.count() for historical in all_histories())


@pytest.mark.parametrize("seen", [False, True], ids=["unseen", "seen"])
@pytest.mark.parametrize(
    ("method", "path", "body", "unseen_status", "seen_status"),
    BEYOND,
    ids=[f"{at} {row[0]} {row[1]}" for at, row in enumerate(BEYOND)],
)
def test_a_token_that_is_kept_to_a_group_changes_nothing_beyond_it(
    sides: dict[str, Any],
    seen: bool,
    method: str,
    path: str,
    body: Any,
    unseen_status: int,
    seen_status: int,
) -> None:
    client = kept_to_lab([one for one in KEPT if not seen or "view_" not in one])
    changes = changes_made()
    answer = getattr(client, method)(
        f"/api/v1/{path.format(**sides)}",
        filled(body, sides),
        format="json",
        headers={"If-Match": "*"},
    )
    assert answer.status_code == (seen_status if seen else unseen_status), answer.json()
    assert (changes_made() == changes) is (answer.status_code >= 400)


@pytest.mark.parametrize(
    ("path", "inside", "outside"),
    [
        ("devices", "inside", "device"),
        ("groups", "lab", "group"),
        ("keys", "key inside", "key"),
        ("certificates", "certificate inside", "certificate"),
    ],
)
def test_a_token_that_is_kept_to_a_group_sees_nothing_beyond_it(
    sides: dict[str, Any], path: str, inside: str, outside: str
) -> None:
    client = kept_to_lab(KEPT)
    shown = {row["id"] for row in client.get(f"/api/v1/{path}").json()["results"]}
    assert (sides[inside] in shown, sides[outside] in shown) == (True, False)
    statuses = [client.get(f"/api/v1/{path}/{sides[one]}").status_code for one in (inside, outside)]
    assert statuses == [200, 404]
    stream: Any = client.get(f"/api/v1/{path}/export")
    assert json.loads(stream.getvalue().splitlines()[-1])["rows"] == len(shown)


@pytest.mark.parametrize("path", ["provision", "bulk-create"])
@pytest.mark.parametrize("kind", ["presharedkey", "certificate"])
def test_a_new_device_gets_no_credential_that_may_be_added_elsewhere_only(
    sides: dict[str, Any], path: str, kind: str
) -> None:
    client = kept_to_lab([f"devices.add_{kind}"])
    more = {"key": {}} if kind == "presharedkey" else {"certificate": sides["pem"]}
    for group, status in (("group", 403), ("lab", 201)):
        device = {**NEW, "groups": [sides[group]], **more}
        body = device if path == "provision" else {"devices": [device]}
        assert client.post(f"{DEVICES}/{path}", body, format="json").status_code == status


def test_a_token_that_is_kept_to_a_group_sees_no_change_beyond_it(sides: dict[str, Any]) -> None:
    client = kept_to_lab(KEPT)
    shown = client.get("/api/v1/changes").json()["results"]
    assert {(row["model"], row["row"]) for row in shown} == {
        ("devices.certificate", sides["certificate inside"]),
        ("devices.device", sides["inside"]),
        ("devices.device_groups", None),
        ("devices.devicegroup", sides["lab"]),
        ("devices.devicegroup", sides["inner"]),
        ("devices.presharedkey", sides["key inside"]),
    }
    assert sides["name"] not in str(shown)


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
    _token, text = ApiToken.objects.issue(owner=staff(role="Operator"), name="ci", scopes=[VIEW])
    with django_assert_num_queries(5):  # token, permissions of the owner and of its roles, rows
        assert client_of(text).get(DEVICES).status_code == 200
