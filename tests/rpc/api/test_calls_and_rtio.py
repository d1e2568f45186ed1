"""The journal and RTIO over the API."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from pytest_django import DjangoAssertNumQueries
from rest_framework.test import APIClient

from devices.models import Device
from rpc.models import CallCount, CallKey, CallRecord
from rpc.rtio.models import DeviceServiceRoute, RtioServer, SessionEnding
from rpc.rtio.models.route import REFUSING_URL
from tests.devices.api.conftest import Client, account

pytestmark = pytest.mark.django_db
CALLS, SERVERS, ROUTES = "/api/v1/calls", "/api/v1/rtio-servers", "/api/v1/rtio-routes"
SESSIONS = "/api/v1/rtio-sessions"
HOUR = datetime(2030, 1, 1, 12, tzinfo=UTC)
DEVICE = "cfa09baa-4913-4ad7-a936-2e26f9671b05"

Make = Callable[..., Any]


def post(client: APIClient, path: str, body: Any = None) -> Any:
    return client.post(path, body, format="json")


def count(hours: int = 0, **fields: Any) -> None:
    """Count one call, so many hours after HOUR."""
    usual = {
        "endpoint": "verifier",
        "question": "credential",
        "caller": "//example/rtio",
        "subject": DEVICE,
        "destination": "",
        "command": "",
        "reason": "verified",
    }
    moment = HOUR.timestamp() + 3600 * hours
    key = CallKey(int(moment // 3600), **{**usual, **fields})
    CallRecord.objects.add({key: CallCount(1, moment, moment)})


def test_callers_are_told_of_by_the_fields_that_are_asked_for(api: APIClient) -> None:
    count()
    assert api.get(f"{CALLS}/callers?fields=caller").json() == [{"caller": "//example/rtio"}]
    assert "question" in api.get(f"{CALLS}/callers").json()[0]
    assert api.get(f"{CALLS}/callers?fields=colour").status_code == 400


def test_calls_are_read_latest_first_and_found_by_what_they_are_about(api: APIClient) -> None:
    count()
    count(1, reason="unknown-device", subject="other")
    count(2, question="command", reason="no-rule", destination="//example/lamp", caller="10.0.0.1")
    rows = api.get(CALLS).data["results"]
    assert [row["subject"] for row in rows] == [DEVICE, "other", DEVICE]
    for asked, found in {
        "outcome=allowed": [0],
        f"subject={DEVICE}": [2, 0],
        "destination=//example/lamp": [2],
        "caller=10.0.0.1": [2],
        "since=2030-01-01T13:30:00Z": [2, 1],
        "until=2030-01-01T13:30:00Z": [0],
        "since=2030-01-01T13:00:00Z&until=2030-01-01T14:00:00Z&outcome=refused": [1],
    }.items():
        got = api.get(f"{CALLS}?{asked}").data["results"]
        hours = [int((datetime.fromisoformat(row["bucket"]) - HOUR).seconds / 3600) for row in got]
        assert hours == found, asked
    assert api.get(f"{CALLS}/{rows[0]['id']}").data == rows[0]
    assert api.get(f"{CALLS}?since=today").status_code == 400
    assert api.get(f"{CALLS}?command=x").status_code == 400


def test_pages_of_calls_go_on_where_the_last_one_ended(
    api: APIClient, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    for hour in range(5):
        count(hour)
    seen: list[int] = []
    page = api.get(f"{CALLS}?limit=2").data
    while True:
        seen += [row["id"] for row in page["results"]]
        if page["next"] is None:
            break
        with django_assert_num_queries(1):
            page = api.get(page["next"]).data
    assert seen == sorted(CallRecord.objects.values_list("pk", flat=True), reverse=True)


def test_the_journal_is_only_read(api: APIClient, client_of: Client) -> None:
    count()
    path = f"{CALLS}/{CallRecord.objects.get().pk}"
    assert {api.patch(path, {}).status_code, api.delete(path).status_code} == {405}
    assert post(api, CALLS, {}).status_code == 405
    assert client_of(account("nobody")).get(CALLS).status_code == 403


def test_callers_are_listed_with_their_latest_call(api: APIClient) -> None:
    count()
    count(3)
    count(1, caller="//example/cloud")
    rows = api.get(f"{CALLS}/callers").data
    assert [(row["caller"], row["bucket"][11:13]) for row in rows] == [
        ("//example/cloud", "13"),
        ("//example/rtio", "15"),
    ]


def test_a_server_is_made_changed_and_deleted(api: APIClient, make_device: Make) -> None:
    backend = make_device("//example/rtio", kind="backend")
    made = post(api, SERVERS, {"name": "one", "host": "10.0.0.1", "backend": backend.pk})
    assert made.status_code == 201, made.data
    path, headers = made["Location"], {"If-Match": made["ETag"]}
    wrong = api.patch(path, {"tls": "pinned"}, format="json", headers=headers)
    assert wrong.json()["errors"][0]["pointer"] == "#/certificate"
    assert api.delete(path, headers=headers).status_code == 204
    for body, pointer in (
        ({"name": "x", "host": "a b"}, "#/host"),
        ({"name": "x", "host": "203.0.113.1"}, "#/tls"),
        ({"name": "x", "host": "h", "port": 0}, "#/port"),
        ({"name": "x", "host": "h", "port": "17017"}, "#/port"),
        ({"name": "x", "host": "h", "backend": make_device().pk}, "#/backend"),
    ):
        refused = post(api, SERVERS, body)
        assert refused.status_code == 400, body
        assert pointer in {one["pointer"] for one in refused.json()["errors"]}
    assert not RtioServer.objects.exists()


def test_a_route_is_made_and_refuses(api: APIClient) -> None:
    made = post(api, ROUTES, {"uri": "/aa/bb", "url": "http://localhost:1/x"})
    assert made.status_code == 201, made.data
    again = post(api, ROUTES, {"uri": "/aa/bb", "url": "http://localhost:2/x"})
    assert [one["pointer"] for one in again.json()["errors"]] == ["#/uri"]
    assert post(api, f"{made['Location']}/refuse", {"url": "http://x"}).status_code == 400
    refused = post(api, f"{made['Location']}/refuse")
    assert (refused.status_code, refused.data["url"]) == (200, REFUSING_URL)
    assert DeviceServiceRoute.objects.get().url == REFUSING_URL
    too_long = post(api, ROUTES, {"uri": "/cc/dd", "url": "http://localhost/" + "x" * 1000})
    assert too_long.status_code == 201
    full = post(api, ROUTES, {"uri": "/ee/ff", "url": "http://localhost/" + "x" * 1000})
    assert full.status_code == 400
    wrong = post(api, ROUTES, {"uri": "none", "url": "ftp://x"})
    assert {"#/uri", "#/url"} <= {one["pointer"] for one in wrong.json()["errors"]}


def test_sessions_of_a_device_are_ended(api: APIClient, make_device: Make) -> None:
    RtioServer.objects.create(name="one", host="127.0.0.1")
    device: Device = make_device(DEVICE)
    asked = post(api, f"{SESSIONS}/end", {"device": device.pk})
    assert (asked.status_code, asked.data) == (202, {"asked": 1})
    assert post(api, f"{SESSIONS}/end", {"device": device.pk}).data == {"asked": 0}
    (row,) = api.get(f"{SESSIONS}?identifier={DEVICE}&state=waiting").data["results"]
    assert (row["cause"], row["requested_by"], row["device"]) == ("asked", "admin", device.pk)
    assert "secret" not in str(sorted(row))
    assert SessionEnding.objects.get().origin == "api"
    for wrong in (make_device("short"), make_device(kind="backend")):
        assert post(api, f"{SESSIONS}/end", {"device": wrong.pk}).status_code == 400


def test_ending_sessions_needs_its_permission(client_of: Client, make_device: Make) -> None:
    viewer = client_of(account("viewer", ["rpc.view_sessionending", "devices.change_device"]))
    device = make_device(DEVICE)
    assert post(viewer, f"{SESSIONS}/end", {"device": device.pk}).status_code == 403
    assert viewer.get(SESSIONS).status_code == 200


def test_calls_are_exported_whole_or_refused(api: APIClient) -> None:
    for hour in range(3):
        count(hour)
    stream: Any = api.get(f"{CALLS}/export?outcome=allowed&fields=id,subject")
    lines = [json.loads(line) for line in b"".join(stream.streaming_content).splitlines()]
    assert [sorted(line) for line in lines[:-1]] == 3 * [["id", "subject"]]
    assert lines[-1] == {"complete": True, "rows": 3}
    assert api.get(f"{CALLS}/export?fields=nothing").status_code == 400
