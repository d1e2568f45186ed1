"""A change is undone, a state restored, a batch taken back: as the admin does, and no further."""

from typing import Any

import pytest
from rest_framework.test import APIClient

from acl.models import Assertion
from authsite.accounts.tokens.models import ApiToken
from authsite.accounts.tokens.rules import Rule
from devices import history
from devices.models import Device, DeviceGroup, PreSharedKey
from tests.devices.api.conftest import Client, account
from tests.support.rules import make_rule

pytestmark = [pytest.mark.django_db, pytest.mark.once(on="sqlite")]

CHANGES = "/api/v1/changes"
DEVICE = ["devices.view_device", "devices.change_device", "devices.view_historicaldevice"]


def post(client: APIClient, what: str, body: Any, **headers: str) -> Any:
    return client.post(f"{CHANGES}/{what}", body, format="json", headers=headers)


def changed(device: Device, **fields: Any) -> dict[str, Any]:
    """Change a device, and return how its change is named."""
    with history.origin("admin", user="kim"):
        for name, value in fields.items():
            setattr(device, name, value)
        device.save()
    change = Device.history.latest("history_id")
    return {"model": "devices.device", "id": change.history_id}


@pytest.fixture
def lamp(make_device: Any) -> Device:
    device: Device = make_device("lamp", name="one", enabled=True)
    return device


def test_one_change_is_undone_and_no_other(api: APIClient, lamp: Device) -> None:
    named = changed(lamp, name="two")
    changed(lamp, description="in the hall")
    listed = api.get(f"{CHANGES}?model=devices.device&row={lamp.pk}").json()["results"]
    assert named["id"] == listed[1]["id"]
    tried = post(api, "undo?validate_only=true", named)
    assert tried.json()["result"]["fields_changed"][0]["new"] == "one"
    refused = post(api, "undo", named, **{"Change-Reason": "x" * 250})
    assert (refused.status_code, refused.json()["errors"][0]["header"]) == (400, "Change-Reason")
    answer = post(api, "undo", named, **{"Change-Reason": "a slip"})
    assert answer.status_code == 200
    assert answer.json() == {
        "model": "devices.device",
        "row": lamp.pk,
        "fields_changed": [{"field": "name", "name": "name", "old": "two", "new": "one"}],
    }
    lamp.refresh_from_db()
    assert (lamp.name, lamp.description) == ("one", "in the hall")
    last = Device.history.latest("history_id")
    assert (last.origin, last.history_user_id) == ("api", "admin")
    assert last.history_change_reason.startswith("undid the change of ")
    assert last.history_change_reason.endswith("UTC: a slip")
    again = post(api, "undo", named)
    assert (again.status_code, again.json()["code"]) == (409, "nothing-to-do")


def test_a_state_is_restored(api: APIClient, lamp: Device) -> None:
    first = Device.history.latest("history_id").history_id
    changed(lamp, name="two", enabled=False)
    changed(lamp, description="x")
    answer = post(api, "restore", {"model": "devices.device", "id": first})
    assert {one["field"] for one in answer.json()["fields_changed"]} == {
        "name",
        "description",
        "enabled",
    }
    lamp.refresh_from_db()
    assert (lamp.name, lamp.description, lamp.enabled) == ("one", "", True)


def test_a_batch_is_undone_as_far_as_it_can_be(api: APIClient, make_device: Any) -> None:
    kept, other = make_device("a"), make_device("b")
    with history.origin("admin", user="kim"):
        Device.objects.set_enabled(enabled=False)
        made = make_device("c")
        batch = str(history.current_batch())
    tried = post(api, "undo-batch?validate_only=true", {"batch": batch}).json()["result"]
    other.refresh_from_db()
    changed(other, name="later")
    moved = post(api, "undo-batch", {"batch": batch, "digest": tried["digest"]})
    assert (moved.status_code, moved.json()["code"]) == (409, "moved")
    tried = post(api, "undo-batch?validate_only=true", {"batch": batch}).json()["result"]
    answer = post(api, "undo-batch", {"batch": batch, "digest": tried["digest"]})
    assert answer.json() == tried
    assert tried["undone"] == 2
    assert tried["left"] == [{"why": "kim changed it since.", "rows": 1}]
    kept.refresh_from_db()
    assert kept.enabled
    assert not Device.objects.filter(pk=made.pk).exists()


def test_an_assertion_that_would_break_is_asked_about(
    api: APIClient, make_device: Any, make_group: Any
) -> None:
    a, _b = make_device("a", enabled=False), make_device("b")

    make_rule(command="/v1/*")
    before = Device.history.get(id=a.pk).history_id
    changed(a, enabled=True)
    Assertion.objects.create(text="a may /v1/Config.Get b")
    body = {"model": "devices.device", "id": before}
    refused = post(api, "restore", body)
    assert (refused.status_code, refused.json()["code"]) == (409, "assertion-broken")
    assert Device.objects.get(pk=a.pk).enabled
    assert post(api, "restore?accept_broken_assertions=true", body).status_code == 200


REFUSED: list[tuple[str, str, Any, int]] = [
    ("no such model", "undo", {"model": "auth.user", "id": 1}, 400),
    ("credentials stay", "restore", {"model": "devices.presharedkey", "id": 1}, 400),
    ("tokens stay", "restore", {"model": "authsite.apitoken", "id": 1}, 400),
    ("no such change", "undo", {"model": "devices.device", "id": 2**62}, 404),
    ("no number", "undo", {"model": "devices.device", "id": "1"}, 400),
    ("beyond numbers", "undo", {"model": "devices.device", "id": 2**63}, 400),
    ("another name", "undo", {"model": "devices.device", "id": 1, "row": 1}, 400),
    ("no batch", "undo-batch", {"batch": "00000000-0000-4000-8000-000000000000"}, 404),
    ("no uuid", "undo-batch", {"batch": 7}, 400),
]


@pytest.mark.parametrize(
    ("name", "what", "body", "status"), REFUSED, ids=[one[0] for one in REFUSED]
)
def test_refused(
    api: APIClient, lamp: Device, name: str, what: str, body: Any, status: int
) -> None:
    PreSharedKey.objects.issue(device=lamp)
    assert post(api, what, body).status_code == status


@pytest.mark.parametrize("lacking", DEVICE[1:])
def test_each_permission_is_needed(client_of: Client, lamp: Device, lacking: str) -> None:
    named = changed(lamp, name="two")
    client = client_of(account("kim", [one for one in DEVICE if one != lacking]))
    assert post(client, "undo", named).status_code == 403
    assert post(client, "restore", {**named, "id": named["id"] - 1}).status_code == 403


def test_a_batch_takes_no_credentials_along_that_one_may_not_delete(
    client_of: Client, make_device: Any
) -> None:
    with history.origin("import", user="kim"):
        PreSharedKey.objects.issue(device=make_device("new"))
        batch = str(history.current_batch())
    client = client_of(account("kim", [*DEVICE, "devices.delete_device"]))
    assert post(client, "undo-batch", {"batch": batch}).status_code == 403
    assert Device.objects.filter(identifier="new").exists()


def token(client: APIClient, rule: str, scopes: list[str]) -> APIClient:
    owner = account("robot", scopes)
    owner.is_staff = True
    owner.save()
    _token, text = ApiToken.objects.issue(
        owner=owner, name="ci", scopes=scopes, rules=[Rule.parse(rule)]
    )
    client.force_authenticate(None)
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {text}")
    return client


@pytest.mark.parametrize(
    ("rule", "status"),
    [
        ("devices.view_device in lab", 404),  # of a device that it does not see
        ("devices.change_device in lab", 403),
        ("devices.change_device:disable in site", 403),  # undoing is another deed
        ("devices.change_device in site", 200),
        ("devices.change_device 1 an hour", 200),
    ],
)
def test_a_narrowed_token_undoes_what_it_might_have_done(
    lamp: Device, make_group: Any, rule: str, status: int
) -> None:
    make_group("lab")
    lamp.groups.add(make_group("site"))
    named = changed(lamp, name="two")
    client = token(APIClient(), rule, DEVICE)
    assert post(client, "undo", named).status_code == status
    batch = str(Device.history.get(history_id=named["id"]).batch)
    assert post(client, "undo-batch", {"batch": batch}).status_code in {403, 404}


def test_a_group_leaves_no_token_s_reach_by_being_restored(make_group: Any) -> None:
    lab, outside = make_group("lab"), make_group("outside")
    inner: DeviceGroup = make_group("inner", parent=outside)
    before = DeviceGroup.history.filter(id=inner.pk).latest("history_id").history_id
    inner.parent = lab
    inner.save()
    client = token(
        APIClient(),
        "devices.view_devicegroup in lab",
        ["devices.view_devicegroup", "devices.change_devicegroup",
         "devices.view_historicaldevicegroup"],
    )  # fmt: skip
    answer = post(client, "restore", {"model": "devices.devicegroup", "id": before})
    assert answer.status_code == 403
    inner.refresh_from_db()
    assert inner.parent == lab
