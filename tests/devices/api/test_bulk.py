"""Many devices in one request, and all of them in one stream."""

import json
from typing import Any

import pytest
from rest_framework.test import APIClient

from devices.authentication import authenticate
from devices.extension_points import ACCESS_ENDED
from devices.models import Device, DeviceGroup, PreSharedKey
from tests.devices.api.conftest import Client, account
from tests.support import pki

pytestmark = [pytest.mark.django_db, pytest.mark.once(on="sqlite")]
DEVICES = "/api/v1/devices"
MANY = 1000


def post(client: APIClient, path: str, rows: Any) -> Any:
    return client.post(f"{DEVICES}/{path}", {"devices": rows}, format="json")


def test_creates_devices_with_keys_and_groups(
    api: APIClient, make_group: Any, django_assert_max_num_queries: Any
) -> None:
    group = make_group("lab").pk
    rows = [
        {"identifier": f"sensor-{number}", "groups": [group], "key": {"label": "factory"}}
        for number in range(300)
    ]
    with django_assert_max_num_queries(60):
        answer = post(api, "bulk-create", rows)
    assert answer.status_code == 201, answer.data
    made = answer.data["devices"]
    assert [one["identifier"] for one in made] == [row["identifier"] for row in rows]
    for one in made[::50]:
        assert authenticate(one["identifier"], secret=one["key"]["secret"]).verified
        assert one["groups"] == [group]
    history = Device.history.all()
    assert history.count() == 300
    assert {(row.origin, row.history_user_id) for row in history} == {("api", "admin")}
    assert PreSharedKey.history.values_list("label", flat=True).distinct().get() == "factory"


def test_creates_each_as_it_says(api: APIClient) -> None:
    leaf = pki.device_certificate("c")
    answer = post(
        api,
        "bulk-create",
        [
            {"identifier": "a"},
            {"identifier": "b", "key": {"secret": "correct horse battery"}, "enabled": False},
            {"identifier": "c", "certificate": leaf.pem, "attributes": {"x": 1.5}},
            {"identifier": "d", "key": {"not_after": "2999-01-01T00:00:00Z"}},
        ],
    )
    assert answer.status_code == 201, answer.data
    a, b, _c, d = answer.data["devices"]
    assert "key" not in a
    assert (set(b["key"]), b["enabled"]) == ({"id", "label"}, False)
    assert authenticate("c", certificate=leaf.pem).verified
    assert PreSharedKey.objects.get(pk=d["key"]["id"]).not_after.year == 2999  # type: ignore[union-attr]


WRONG: list[tuple[str, Any, str]] = [
    ("bulk-create", [], "#/devices"),
    ("bulk-create", {}, "#/devices"),
    ("bulk-create", [{"identifier": "x"}] * (MANY + 1), "#/devices"),
    ("bulk-create", [{"identifier": "x"}, 7], "#/devices/1"),
    ("bulk-create", [{"identifier": "x"}, {"identifier": "x"}], "#/devices/1/identifier"),
    ("bulk-create", [{"identifier": "x"}, {"identifier": "known"}], "#/devices/1/identifier"),
    ("bulk-create", [{"identifier": "x"}, {"identifier": "a b"}], "#/devices/1/identifier"),
    ("bulk-create", [{"identifier": "x"}, {"identifier": " y"}], "#/devices/1/identifier"),
    ("bulk-create", [{"identifier": "y\t"}], "#/devices/0/identifier"),
    ("bulk-create", [{"identifier": "//h/p.Component"}], "#/devices/0/identifier"),
    ("bulk-create", [{"identifier": "x", "groups": [1, 404]}], "#/devices/0/groups/1"),
    ("bulk-create", [{"identifier": "x", "key": {"secret": "ab"}}], "#/devices/0/key/secret"),
    ("bulk-create", [{"identifier": "x", "certificate": "-"}], "#/devices/0/certificate"),
    ("bulk-create", [{"identifier": "x", "colour": "red"}], "#/devices/0/colour"),
    ("bulk-create", [{"identifier": "x", "attributes": []}], "#/devices/0/attributes"),
    ("bulk-change", [{"id": 1}], "#/devices/0/if_match"),
    ("bulk-change", [{"if_match": "*"}], "#/devices/0/id"),
    ("bulk-change", [{"id": "1", "if_match": "*"}], "#/devices/0/id"),
    ("bulk-change", [{"id": 404, "if_match": "*"}], "#/devices/0/id"),
    ("bulk-change", [{"id": 1, "if_match": "*", "kind": "toaster"}], "#/devices/0/kind"),
    ("bulk-change", [{"id": 1, "if_match": "*", "identifier": "y"}], "#/devices/0/identifier"),
    ("bulk-create", [{"identifier": "known"}], "#/devices/0/identifier"),
    ("bulk-create", [{"identifier": "x"}, {"identifier": "x"}], "#/devices/1/identifier"),
    ("bulk-delete", [{"id": 404, "if_match": "*"}], "#/devices/0/id"),
    ("bulk-delete", [{"id": 1, "if_match": "*"}, {"id": 1, "if_match": "*"}], "#/devices/1/id"),
]


@pytest.mark.parametrize(
    ("path", "rows", "pointer"),
    WRONG,
    ids=[f"{one[0]} {one[2]} {at}" for at, one in enumerate(WRONG)],
)
def test_names_the_position_of_each_fault_and_writes_nothing(
    api: APIClient, make_device: Any, make_group: Any, path: str, rows: Any, pointer: str
) -> None:
    device, group = make_device("known"), make_group()
    sent = json.loads(json.dumps(rows))
    for row in sent if isinstance(sent, list) else ():
        if isinstance(row, dict) and row.get("id") == 1:
            row["id"] = device.pk
        if isinstance(row, dict) and "groups" in row:
            row["groups"][0] = group.pk
    answer = post(api, path, sent)
    assert answer.status_code == 400, answer.data
    assert pointer in {error["pointer"] for error in answer.json()["errors"]}
    assert Device.objects.count() == 1
    assert Device.history.filter(origin="api").count() == 0


def test_changes_and_deletes_what_the_client_knows(
    api: APIClient, make_group: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[str] = []
    monkeypatch.setattr(
        "devices.extension_points.ACCESS_ENDED",
        [*ACCESS_ENDED, lambda devices, why: ended.extend(f"{one} {why}" for one in devices)],
    )
    group = make_group().pk
    rows = [{"identifier": f"//h/{name}", "groups": [group]} for name in "abc"]
    made = post(api, "bulk-create", rows).data["devices"]
    named = [{"id": one["id"], "if_match": one["etag"]} for one in made]
    changes = [
        {**named[0], "enabled": False},
        {**named[1], "groups": [], "name": "B"},
        {**named[2]},
    ]
    answer = post(api, "bulk-change", changes)
    assert answer.status_code == 200, answer.data
    a, b, c = answer.data["devices"]
    assert (a["enabled"], b["groups"], b["name"], c["etag"]) == (
        False,
        [],
        "B",
        named[2]["if_match"],
    )
    assert ended == ["//h/a disabled"]
    stale = post(api, "bulk-delete", named)
    assert (stale.status_code, stale.json()["code"]) == (412, "stale")
    assert [one["pointer"] for one in stale.json()["errors"]] == [
        "#/devices/0/if_match",
        "#/devices/1/if_match",
    ]
    known = [{"id": one["id"], "if_match": one["etag"]} for one in (a, b, c)]
    assert post(api, "bulk-delete", known).data == {"deleted": 3}
    assert not Device.objects.exists()
    assert set(Device.history.filter(history_type="-").values_list("origin", flat=True)) == {"api"}


def streamed(answer: Any) -> list[dict[str, Any]]:
    assert answer.status_code == 200
    return [json.loads(line) for line in b"".join(answer.streaming_content).splitlines()]


def test_a_stream_says_when_it_is_complete(
    api: APIClient, make_device: Any, make_group: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = make_group("lab")
    for number in range(5):
        make_device(f"device-{number}", groups=[group] if number else [])
    answer = api.get(
        f"{DEVICES}/export?group={group.pk}", headers={"Accept": "application/x-ndjson"}
    )
    assert answer["Content-Type"] == "application/x-ndjson"
    *rows, last = streamed(answer)
    assert [row["identifier"] for row in rows] == [f"device-{number}" for number in range(1, 5)]
    assert last == {"complete": True, "rows": 4}
    make_device("device-5", groups=[make_group("room", parent=group)])
    *rows, last = streamed(api.get(f"{DEVICES}/export?group_or_below={group.pk}"))
    assert [row["identifier"] for row in rows] == [f"device-{number}" for number in range(1, 6)]
    Device.objects.get(identifier="device-5").delete()
    DeviceGroup.objects.get(name="room").delete()
    monkeypatch.setattr("devices.api.base.exporting.BATCH", 2)
    for number in range(5):
        make_group(f"group {number}")
    *groups, last = streamed(api.get("/api/v1/groups/export"))
    assert (len(groups), last) == (6, {"complete": True, "rows": 6})
    refused = api.get(f"{DEVICES}/export?colour=red")
    assert (refused.status_code, refused.json()["code"]) == (400, "parameter")


def test_a_stream_that_fails_has_no_last_line(
    api: APIClient, make_group: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_group()

    def fail(*_args: Any) -> Any:
        yield {"name": "one"}
        raise RuntimeError("the database is gone")

    monkeypatch.setattr("devices.api.groups.GroupViewSet.exported", fail)
    answer: Any = api.get("/api/v1/groups/export")
    got = []
    with pytest.raises(RuntimeError):
        got.extend(answer.streaming_content)
    assert got == [b'{"name":"one"}\n']


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("bulk-create", {"devices": [{"identifier": "//h/a", "key": {}}]}),
        ("provision", {"identifier": "//h/a", "key": {}}),
    ],
)
def test_says_which_permission_credentials_need(
    client_of: Client, path: str, body: dict[str, Any]
) -> None:
    client = client_of(account("line", ["devices.add_device"]))
    answer = client.post(f"/api/v1/devices/{path}", body, format="json")
    assert answer.status_code == 403
    assert answer.json()["detail"] == (
        "This account does not have the permission devices.add_presharedkey."
    )


def test_says_what_goes_with_a_device_and_may_not_be_deleted(
    client_of: Client, make_device: Any
) -> None:
    device = make_device()
    PreSharedKey.objects.issue(device=device)
    client = client_of(account("line", ["devices.view_device", "devices.delete_device"]))
    path = f"{DEVICES}/{device.pk}"
    answer = client.delete(path, headers={"If-Match": client.get(path)["ETag"]})
    assert answer.status_code == 403
    assert "you may not delete: " in answer.json()["detail"]
