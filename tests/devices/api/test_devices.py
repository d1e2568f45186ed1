"""Devices over the API: what may be sent, what comes back, and who may."""

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import OperationalError, connection
from django.utils import timezone
from rest_framework.test import APIClient

from acl.models import Assertion
from devices.api.base.idempotency import LEASE, Claim
from devices.models import AttributeDefinition, Device, IdempotentAnswer
from devices.models.idempotent_answer import KEPT
from rpc.wsgi import too_busy
from tests.devices.api.conftest import Client, account
from tests.support.commands import run
from tests.support.rules import make_rule

pytestmark = pytest.mark.django_db
LIST = "/api/v1/devices"


def post(client: APIClient, path: str, body: Any, **headers: str) -> Any:
    return client.post(path, body, format="json", headers=headers)


def test_creates_reads_changes_and_deletes(api: APIClient, make_group: Any) -> None:
    group = make_group("lab")
    made = post(api, LIST, {"identifier": "//example/one", "groups": [group.pk]})
    assert made.status_code == 201, made.data
    path = made["Location"]
    assert path == f"{LIST}/{made.data['id']}"
    read = api.get(path)
    assert read.data == made.data
    assert read["ETag"] == made["ETag"] == read.data["etag"]
    changed = api.patch(path, {"name": "One"}, format="json", headers={"If-Match": read["ETag"]})
    assert changed.status_code == 200, changed.data
    assert changed.data["name"] == "One"
    assert changed["ETag"] != read["ETag"]
    gone = api.delete(path, headers={"If-Match": changed["ETag"]})
    assert gone.status_code == 204
    assert api.get(path).status_code == 404
    row = Device.history.filter(history_type="-").get()
    assert (row.origin, row.history_user_id) == ("api", "admin")


@pytest.mark.parametrize(
    ("again", "changes"), [({"a": [1, {"b": True}]}, 0), ({"a": [True, {"b": 1}]}, 1)]
)
def test_attributes_that_say_the_same_are_no_change(
    api: APIClient, make_device: Any, again: dict[str, Any], changes: int
) -> None:
    device = make_device("lamp", attributes={"a": [1, {"b": True}]})
    before = Device.history.count()
    path = f"{LIST}/{device.pk}"
    version = api.get(path)["ETag"]
    answer = api.patch(path, {"attributes": again}, format="json", headers={"If-Match": version})
    assert answer.status_code == 200, answer.data
    assert Device.history.count() == before + changes


WRONG_BODIES: list[tuple[Any, str]] = [
    ([], "#"),
    ("text", "#"),
    ({}, "#/identifier"),
    ({"identifier": 1999}, "#/identifier"),
    ({"identifier": True}, "#/identifier"),
    ({"identifier": None}, "#/identifier"),
    ({"identifier": "a b"}, "#/identifier"),
    ({"identifier": "x" * 256}, "#/identifier"),
    ({"identifier": "a", "enabled": "true"}, "#/enabled"),
    ({"identifier": "a", "enabled": 1}, "#/enabled"),
    ({"identifier": "a", "kind": 1}, "#/kind"),
    ({"identifier": "a", "kind": "toaster"}, "#/kind"),
    ({"identifier": "a", "groups": ["1"]}, "#/groups/0"),
    ({"identifier": "a", "groups": [True]}, "#/groups/0"),
    ({"identifier": "a", "groups": [[], 2**70]}, "#/groups/1"),
    ({"identifier": "a", "groups": {}}, "#/groups"),
    ({"identifier": "a", "attributes": "{}"}, "#/attributes"),
    ({"identifier": "a", "attributes": []}, "#/attributes"),
    ({"identifier": "a", "colour": "red"}, "#/colour"),
    ({"identifier": "a", "id": 7}, "#/id"),
    ({"identifier": "a", "a/b~c": 7}, "#/a~1b~0c"),
]


@pytest.mark.parametrize("path", [LIST, f"{LIST}/provision"])
def test_says_which_field_another_row_has(api: APIClient, make_device: Any, path: str) -> None:
    make_device("one")
    (error,) = post(api, path, {"identifier": "one"}).json()["errors"]
    assert (error["pointer"], error["code"]) == ("#/identifier", "unique")


@pytest.mark.parametrize(("body", "pointer"), WRONG_BODIES, ids=lambda case: str(case)[:40])
def test_refuses_wrong_kinds(api: APIClient, body: Any, pointer: str) -> None:
    answer = post(api, LIST, body)
    assert answer.status_code == 400
    assert answer["Content-Type"] == "application/problem+json"
    problem = answer.json()
    assert problem["code"] == "invalid"
    assert pointer in {error["pointer"] for error in problem["errors"]}
    assert not Device.objects.exists()


RAW_BODIES = [
    ("no JSON", b"{", 400),
    ("empty", b"", 400),
    ("not UTF-8", b'{"identifier": "\xff"}', 400),
    ("NaN", b'{"identifier": "a", "attributes": {"x": NaN}}', 400),
    ("twice", b'{"identifier": "a", "identifier": "b"}', 400),
    ("NUL", b'{"identifier": "a", "name": "\\u0000"}', 400),
    ("half a pair", b'{"identifier": "a", "name": "\\ud800"}', 400),
    ("deep", b"[" * 100_000, 400),
    ("deep and whole", b"[" * 50 + b"]" * 50, 400),
    ("many digits", b'{"identifier": "a", "attributes": {"x": ' + b"9" * 5000 + b"}}", 400),
    ("infinite", b'{"identifier": "a", "attributes": {"x": 1e999}}', 400),
    ("large", b" " * (4 * 1024 * 1024 + 1), 413),
]
TOLD = {"many digits": "A number has more than 400 digits.", "infinite": "a number that is not"}


@pytest.mark.parametrize(("name", "body", "status"), RAW_BODIES, ids=[one[0] for one in RAW_BODIES])
def test_refuses_bodies_that_are_no_json(
    api: APIClient, name: str, body: bytes, status: int
) -> None:
    answer = api.post(LIST, body, content_type="application/json")
    assert answer.status_code == status
    assert answer.json()["status"] == status
    assert TOLD.get(name, "") in answer.text
    assert answer["Content-Type"] == "application/problem+json"


ASKED = [
    ("get", "/api/v1", 404),
    ("get", "/api/v1/", 404),
    ("get", "/api/v1/nowhere", 404),
    ("post", "/api/v1/nowhere/at/all", 404),
    ("get", f"{LIST}/0", 404),
    ("get", f"{LIST}/99999999999999999999999", 404),
    ("get", f"{LIST}/x", 404),
    ("put", f"{LIST}/1", 405),
    ("delete", LIST, 405),
    ("options", LIST, 405),
    ("get", f"{LIST}?colour=red", 400),
    ("get", f"{LIST}?identifier__contains=red", 400),
    ("get", f"{LIST}?format=xml", 400),
    ("get", f"{LIST}?limit=0", 400),
    ("get", f"{LIST}?limit=1001", 400),
    ("get", f"{LIST}?limit=ten", 400),
    ("get", f"{LIST}?limit=1&limit=1", 400),
    ("post", f"{LIST}?validate_only=true&validate_only=false", 400),
    ("get", f"{LIST}?kind=toaster", 400),
    ("get", f"{LIST}?enabled=1", 400),
    ("get", f"{LIST}?group=lab", 400),
    ("get", f"{LIST}?group=99999999999999999999999", 400),
    ("get", f"{LIST}?group=1_0", 400),
    ("get", f"{LIST}?group_or_below=7.0", 400),
    ("get", f"{LIST}?group=%EF%BC%97", 400),  # a full-width 7
    ("get", f"{LIST}?fields=secret", 400),
    ("get", f"{LIST}?cursor=made-by-hand", 400),
    ("get", f"{LIST}?cursor=cD1hYmM%3D", 400),  # p=abc
    ("get", f"{LIST}?cursor=cD05OTk5OTk5OTk5OTk5OTk5OTk5OTk5", 400),  # p of 20 digits
    ("get", f"{LIST}?cursor=bz0tMQ%3D%3D", 400),  # o=-1
    ("get", f"{LIST}?cursor=AAAA", 400),  # says nothing, which is not the first page
    ("get", f"{LIST}?cursor=%C3%A9", 400),
    ("get", f"{LIST}?cursor=", 400),
    ("get", f"{LIST}?identifier=%00", 400),
    ("get", f"{LIST}?identifier=", 400),
    ("get", f"{LIST}?enabled=", 400),
    ("get", f"{LIST}?kind=", 400),
    ("get", f"{LIST}?group=", 400),
    ("get", f"{LIST}/export?identifier_prefix=", 400),
    ("get", f"{LIST}/export?fields=identifier", 400),
    ("get", "/api/v1/keys?ends_before=", 400),
    ("get", "/api/v1/changes?device=", 400),
]


@pytest.mark.parametrize(
    ("method", "path", "status"), ASKED, ids=[" ".join(one[:2]) for one in ASKED]
)
def test_answers_every_question_with_json(
    api: APIClient, settings: Any, method: str, path: str, status: int
) -> None:
    settings.DEBUG = False
    api.raise_request_exception = False
    answer = getattr(api, method)(path)
    assert answer.status_code == status
    assert answer["Content-Type"] == "application/problem+json"
    assert answer.json()["status"] == status


def test_answers_a_fault_of_ours_with_json(api: APIClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_args: Any, **_kwargs: Any) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr("devices.api.devices.DeviceViewSet.list", fail)
    api.raise_request_exception = False
    answer = api.get(LIST)
    assert answer.status_code == 500
    assert answer.json()["code"] == "internal"
    assert "broken" not in answer.content.decode()


def test_pages_to_the_end_and_beyond(api: APIClient, make_device: Any) -> None:
    devices = [make_device() for _ in range(5)]
    seen, path = [], f"{LIST}?limit=2"
    while path:
        page = api.get(path).json()
        seen += [row["id"] for row in page["results"]]
        path = page["next"]
    assert seen == [device.pk for device in devices]
    last = api.get(f"{LIST}?limit=2").json()["next"]
    Device.objects.filter(pk__gt=devices[0].pk).delete()
    assert api.get(last).json()["results"] == []


def test_gives_the_fields_that_are_asked_for(api: APIClient, make_device: Any) -> None:
    device = make_device("one")
    assert api.get(f"{LIST}?fields=id,identifier").json()["results"] == [
        {"id": device.pk, "identifier": "one"}
    ]


FOUND = [
    ("identifier=one", ["one"]),
    ("identifier_prefix=t", ["two", "three"]),
    ("name_prefix=tH", ["three"]),
    ("kind=backend", ["two"]),
    ("kind=device&identifier_prefix=t", ["three"]),
    ("identifier=On", []),
    ("enabled=false", ["three"]),
    ("enabled=true", ["one", "two"]),
    ("name_prefix=The%20", ["three"]),
    ("name_prefix=The%20%20", []),
]


@pytest.mark.parametrize(("query", "expected"), FOUND, ids=[one[0] for one in FOUND])
def test_finds(api: APIClient, make_device: Any, query: str, expected: list[str]) -> None:
    make_device("one")
    make_device("two", kind="backend")
    make_device("three", name="The third", enabled=False)
    found = api.get(f"{LIST}?{query}&fields=identifier").json()["results"]
    assert [row["identifier"] for row in found] == expected


def test_finds_devices_of_a_group_and_of_those_below_it(
    api: APIClient, make_device: Any, make_group: Any, django_assert_num_queries: Any
) -> None:
    site = make_group("site")
    room = make_group("room", parent=make_group("floor", parent=site))
    make_device("at-site", groups=[site])
    make_device("in-both", groups=[site, room])
    make_device("in-room", groups=[room])
    make_device("elsewhere", groups=[make_group("elsewhere")])
    found = {
        f"group={site.pk}": ["at-site", "in-both"],
        f"group_or_below={site.pk}": ["at-site", "in-both", "in-room"],
        f"group_or_below={site.pk}&group={room.pk}": ["in-both", "in-room"],
        f"group_or_below={room.pk + 99}": [],
    }
    api.get(LIST)
    for query, expected in found.items():
        walked = "below" in query and connection.vendor == "postgresql"
        with django_assert_num_queries((2 if expected else 1) + walked):
            rows = api.get(f"{LIST}?{query}").json()["results"]
        assert [row["identifier"] for row in rows] == expected
    for odd in ("", "0", "site", f"{2**63}"):
        answer = api.get(f"{LIST}?group_or_below={odd}")
        assert answer.json()["errors"][0]["parameter"] == "group_or_below"


def test_list_asks_little(
    api: APIClient, make_device: Any, make_group: Any, django_assert_num_queries: Any
) -> None:
    group = make_group()
    for _ in range(20):
        make_device(groups=[group])
    api.get(LIST)
    with django_assert_num_queries(2):
        assert len(api.get(LIST).json()["results"]) == 20


READ = ["devices", "changes", "events", "lint", "permissions-document", "jobs", "keys/export"]
READ += ["explain?source=a&destination=b&command=/v1/C"]


@pytest.mark.parametrize("path", READ)
def test_head_asks_what_get_does(api: APIClient, path: str) -> None:
    assert api.head(f"/api/v1/{path}").status_code == 200


STALE: list[tuple[str | None, int]] = [
    (None, 428),
    ('"0123456789abcdef0123456789abcdef"', 412),
    ("W/{etag}", 412),
    ("no quotes", 400),
    ("{etag}", 200),
    ('"other", {etag}', 200),
    ("*", 200),
    ("{etag}, *", 400),  # it would ask for nothing (RFC 9110, 13.1.1)
]


@pytest.mark.parametrize(("header", "status"), STALE, ids=[str(one[0]) for one in STALE])
def test_changes_only_what_the_client_knows(
    api: APIClient, make_device: Any, header: str | None, status: int
) -> None:
    path = f"{LIST}/{make_device().pk}"
    etag = api.get(path)["ETag"]
    headers = {} if header is None else {"If-Match": header.replace("{etag}", etag)}
    answer = api.patch(path, {"name": "new"}, format="json", headers=headers)
    assert answer.status_code == status
    assert Device.objects.get().name == ("new" if status == 200 else "")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("devices", {"identifier": "new"}),
        ("devices/bulk-create", {"devices": [{"identifier": "new"}]}),
        ("jobs/delete-devices", {"identifier_prefix": "lamp", "expected": 1}),
    ],
)
def test_takes_no_version_that_it_would_not_heed(
    api: APIClient, make_device: Any, path: str, body: Any
) -> None:
    make_device("lamp")
    answer = api.post(f"/api/v1/{path}", body, format="json", headers={"If-Match": '"x"'})
    assert answer.status_code == 400
    assert "has no ETag" in answer.json()["errors"][0]["detail"]
    assert Device.objects.count() == 1


def test_takes_no_body_that_it_would_not_heed(api: APIClient, make_device: Any) -> None:
    path, star = f"{LIST}/{make_device().pk}", {"If-Match": "*"}
    said = api.delete(path, {"reason": "sold"}, format="json", headers=star)
    assert [one["pointer"] for one in said.json()["errors"]] == ["#/reason"]
    assert api.delete(path, headers=star).status_code == 204


def test_a_membership_moves_the_version_and_a_last_use_does_not(
    api: APIClient, make_device: Any, make_group: Any
) -> None:
    device = make_device()
    before = api.get(f"{LIST}/{device.pk}")["ETag"]
    Device.objects.filter(pk=device.pk).update(last_seen="2026-01-01T00:00:00Z")
    same = api.get(f"{LIST}/{device.pk}", headers={"If-None-Match": before})
    assert (same.status_code, same["ETag"]) == (304, before)
    odd = {"If-None-Match": f"{before}{30_000 * ' '}x"}  # which took half a minute to read
    assert api.get(f"{LIST}/{device.pk}", headers=odd).status_code == 200
    device.groups.add(make_group())
    assert api.get(f"{LIST}/{device.pk}")["ETag"] != before


def test_disables_with_a_reason(api: APIClient, make_device: Any) -> None:
    device = make_device()
    answer = post(api, f"{LIST}/{device.pk}/disable", {"reason": "stolen"})
    assert answer.status_code == 200, answer.data
    assert answer.data["enabled"] is False
    change = Device.history.first()
    assert (change.origin, change.history_change_reason) == ("api", "stolen")
    again = post(api, f"{LIST}/{device.pk}/enable", {}, **{"Change-Reason": "found, schön"})
    assert again.data["enabled"] is True
    assert Device.history.first().history_change_reason == "found, schön"


def test_a_reason_too_long_for_the_history_is_refused(
    api: APIClient, client_of: Client, make_device: Any, make_group: Any
) -> None:
    lab = make_group("lab")
    path = f"{LIST}/{make_device(groups=[lab]).pk}/disable"
    answer = post(api, path, {}, **{"Change-Reason": "x" * 256})
    (fault,) = answer.json()["errors"]
    assert (answer.status_code, fault["header"]) == (400, "Change-Reason")
    assert "has 256 characters; a reason has at most 255" in fault["detail"]
    client = client_of(account("robot", superuser=True), Lab(lab))
    answer = post(client, path, {"reason": "x" * 250})  # which “[lab robot] ” stands before
    (fault,) = answer.json()["errors"]
    assert (answer.status_code, fault["pointer"]) == (400, "#/reason")
    assert "“[lab robot] xxx" in fault["detail"]
    assert Device.objects.get().enabled


def test_tells_what_would_change_and_changes_nothing(api: APIClient) -> None:
    answer = post(api, f"{LIST}?validate_only=true", {"identifier": "one"})
    assert answer.status_code == 200, answer.data
    assert answer.data["result"]["identifier"] == "one"
    assert answer.data["consequences"][0]["broken_assertions"] == []
    assert not Device.objects.exists()
    assert not Device.history.exists()
    refused = post(api, f"{LIST}?validate_only=perhaps", {"identifier": "one"})
    assert refused.status_code == 400


class Lab:
    """A grant for reading and changing the devices of one group, four times."""

    pk = 7

    def __init__(self, group: Any) -> None:
        self.group, self.spent = group, 0

    def __str__(self) -> str:
        return "lab robot"

    def permits(self, permission: str) -> bool:
        return permission in {"devices.view_device", "devices.change_device", "devices.add_device"}

    def narrow(self, queryset: Any) -> Any:
        if queryset.model is Device:
            return queryset.filter(groups=self.group)
        return queryset.filter(pk=self.group.pk)

    def count_use(self, permission: str, rows: Any) -> None:
        from rest_framework.exceptions import Throttled

        self.spent += len(list(rows))
        if self.spent > 4:
            raise Throttled(wait=59.2)


def test_a_grant_narrows_what_an_account_may(
    client_of: Client, make_device: Any, make_group: Any
) -> None:
    lab, other = make_group("lab"), make_group("other")
    inside, outside = make_device(groups=[lab]), make_device(groups=[other])
    client = client_of(account("robot", superuser=True), Lab(lab))
    assert [row["id"] for row in client.get(LIST).json()["results"]] == [inside.pk]
    assert client.get(f"{LIST}/{outside.pk}").status_code == 404
    star = {"If-Match": "*"}
    assert client.delete(f"{LIST}/{inside.pk}", headers=star).status_code == 403
    path = f"{LIST}/{inside.pk}"
    for groups, status in [([other.pk], 400), ([], 403), ([lab.pk], 200)]:
        answer = client.patch(path, {"groups": groups}, format="json", headers=star)
        assert answer.status_code == status, answer.data
    assert post(client, LIST, {"identifier": "new"}).status_code == 403
    change = post(client, f"{LIST}/{inside.pk}/disable", {"reason": "smoke"})
    assert change.status_code == 200
    assert Device.history.first().history_change_reason == "[lab robot] smoke"
    assert Device.objects.count() == 2
    spent = post(client, f"{LIST}/{inside.pk}/enable", {})
    assert (spent.status_code, spent["Retry-After"]) == (429, "60")
    assert not Device.objects.get(pk=inside.pk).enabled


def test_refuses_who_is_nobody_and_who_may_not(client_of: Client, make_device: Any) -> None:
    make_device()
    nobody = APIClient().get(LIST)
    assert (nobody.status_code, "Bearer" in nobody.json()["detail"]) == (401, True)
    refused = client_of(account("nobody")).get(LIST)
    assert (refused.status_code, refused.json()["code"]) == (403, "permission-denied")
    assert refused.json()["detail"] == (
        "This account does not have the permission devices.view_device."
    )
    abroad = client_of(account("other")).get(LIST, headers={"Host": "elsewhere.example"})
    assert (abroad.status_code, "ALLOWED_HOSTS" in abroad.json()["detail"]) == (400, True)


def test_limits_requests_by_the_minute(
    api: APIClient, settings: Any, monkeypatch: pytest.MonkeyPatch, now: datetime
) -> None:
    settings.API_RATE = 2
    assert [api.get(LIST).status_code for _ in range(3)] == [200, 200, 429]
    refused = api.get(LIST)
    assert 1 <= int(refused["Retry-After"]) <= 60
    assert refused.json()["code"] == "throttled"
    next_minute = now + timedelta(seconds=int(refused["Retry-After"]))
    monkeypatch.setattr("time.time", next_minute.timestamp)
    assert api.get(LIST).status_code == 200


def test_asks_before_an_assertion_breaks(api: APIClient, make_device: Any, make_group: Any) -> None:
    group = make_group("lab")
    device, text = make_device("a", groups=[group]), "a may /v1/Config.Get a"
    make_rule(group, "itself", "/v1/*")
    Assertion.objects.create(text=text)
    path, star = f"{LIST}/{device.pk}", {"If-Match": "*"}
    tried = api.patch(f"{path}?validate_only=true", {"groups": []}, format="json", headers=star)
    asked = api.patch(path, {"groups": []}, format="json", headers=star)
    assert (tried.status_code, asked.status_code) == (200, 409)
    assert asked.json()["code"] == "assertion-broken"
    for answer in (tried, asked):
        (turned,) = answer.json()["consequences"]
        assert [one["text"] for one in turned["broken_assertions"]] == [text]
        assert turned["changed_decisions_total"] == 1
    assert device.groups.exists()
    meant = f"{path}?accept_broken_assertions=true"
    assert api.patch(meant, {"groups": []}, format="json", headers=star).status_code == 200
    assert not device.groups.exists()


SENT = [
    ("chunked", {"HTTP_TRANSFER_ENCODING": "chunked"}, "application/json", 411),
    ("a form", {}, "application/x-www-form-urlencoded", 415),
    ("no type", {}, "", 415),
    ("a reason that nobody sees", {"HTTP_CHANGE_REASON": "a\u200bb"}, "application/json", 400),
    ("compressed", {"HTTP_CONTENT_ENCODING": "gzip"}, "application/json", 415),
    ("what cannot be", {"HTTP_ACCEPT": "text/html"}, "application/json", 406),
]


@pytest.mark.parametrize(("name", "meta", "kind", "status"), SENT, ids=[one[0] for one in SENT])
def test_refuses_what_it_would_misread(
    api: APIClient, name: str, meta: dict[str, str], kind: str, status: int
) -> None:
    extra = {one: value.encode().decode("latin-1") for one, value in meta.items()}
    client: Any = api
    answer = client.generic("POST", LIST, b'{"identifier": "one"}', kind, **extra)
    assert (answer.status_code, answer["Content-Type"]) == (status, "application/problem+json")
    assert not Device.objects.exists()
    if status == 415 and not meta:
        assert "Content-Type application/json" in answer.json()["detail"]
    if status == 406:
        assert "application/json" in answer.json()["detail"]


@pytest.mark.parametrize("accept", ["", " , ", "*/*", "application/json", "text/html, */*;q=0.1"])
def test_any_accept_header_that_names_json_or_nothing_gets_json(
    api: APIClient, make_device: Any, accept: str
) -> None:
    make_device()
    listed = api.get(LIST, headers={"Accept": accept})
    assert (listed.status_code, listed["Content-Type"]) == (200, "application/json")
    lines = api.get(f"{LIST}/export", headers={"Accept": accept})
    assert lines.status_code == 200
    refused = api.get(f"{LIST}/0", headers={"Accept": accept})
    assert (refused.status_code, refused["Content-Type"]) == (404, "application/problem+json")


def test_says_what_not_every_standby_has_confirmed(
    api: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "Not-Confirmed-By-Standbys" not in post(api, LIST, {"identifier": "one"})
    found = iter([True, False, False])
    monkeypatch.setattr("devices.database.confirmation.take_unconfirmed", lambda: next(found))
    answer = post(api, LIST, {"identifier": "two"})
    assert (answer.status_code, answer["Not-Confirmed-By-Standbys"]) == (201, "true")


def test_says_that_it_is_busy(rf: Any) -> None:
    answer = too_busy(rf.get(LIST))
    assert (answer.status_code, answer["Retry-After"]) == (503, "5")
    assert json.loads(answer.content)["code"] == "unavailable"
    assert answer["Content-Type"] == "application/problem+json"


class TestIdempotency:
    KEY = {"Idempotency-Key": "0123456789abcdef"}

    def test_answers_a_repeat_once_done(self, api: APIClient) -> None:
        first = post(api, LIST, {"identifier": "one"}, **self.KEY)
        again = post(api, LIST, {"identifier": "one"}, **self.KEY)
        assert first.status_code == again.status_code == 201, again.data
        assert again.json() == first.json()
        assert (again["Location"], again["ETag"]) == (first["Location"], first["ETag"])
        assert again["Idempotency-Replayed"] == "true"
        assert Device.objects.count() == 1

    def test_refuses_the_key_of_another_request(self, api: APIClient) -> None:
        post(api, LIST, {"identifier": "one"}, **self.KEY)
        answer = post(api, LIST, {"identifier": "two"}, **self.KEY)
        assert (answer.status_code, answer.json()["code"]) == (422, "idempotency-key-reused")

    def test_a_key_is_its_owners(self, api: APIClient, client_of: Client) -> None:
        post(api, LIST, {"identifier": "one"}, **self.KEY)
        other = client_of(account("other", superuser=True))
        assert post(other, LIST, {"identifier": "two"}, **self.KEY).status_code == 201

    def test_what_failed_may_be_sent_again(self, api: APIClient) -> None:
        assert post(api, LIST, {"identifier": "a b"}, **self.KEY).status_code == 400
        assert post(api, LIST, {"identifier": "ab"}, **self.KEY).status_code == 201

    @pytest.mark.django_db(transaction=True)
    def test_what_was_committed_unheard_is_not_done_again(
        self, api: APIClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        commit, heard = connection.commit, iter([True, False])  # of the key, of the change

        def commit_and_be_lost() -> None:
            commit()
            if not next(heard, True):
                raise OperationalError("the connection was closed unexpectedly")

        monkeypatch.setattr(connection, "commit", commit_and_be_lost)
        lost = post(api, "/api/v1/devices/provision", {"identifier": "one", "key": {}}, **self.KEY)
        assert lost.status_code == 503
        assert Device.objects.count() == 1
        again = post(api, "/api/v1/devices/provision", {"identifier": "one", "key": {}}, **self.KEY)
        assert (again.status_code, again["Idempotency-Replayed"]) == (201, "true")
        assert again.data["key"]["secret"]

    def test_waits_for_the_first_and_takes_over_what_never_ended(self, api: APIClient) -> None:
        post(api, LIST, {"identifier": "one"}, **self.KEY)
        Device.objects.all().delete()
        kept = IdempotentAnswer.objects.all()
        kept.update(answer=None)
        busy = post(api, LIST, {"identifier": "one"}, **self.KEY)
        assert (busy.status_code, busy.json()["code"]) == (409, "in-progress")
        kept.update(created=timezone.now() - LEASE)
        assert post(api, LIST, {"identifier": "one"}, **self.KEY).status_code == 201

    def test_forgets_after_a_day_and_says_what_it_cannot_read(
        self, api: APIClient, settings: Any
    ) -> None:
        post(api, LIST, {"identifier": "one"}, **self.KEY)
        peppers = settings.PEPPERS
        settings.PEPPERS = {"other": b"x" * 32}
        lost = post(api, LIST, {"identifier": "one"}, **self.KEY)
        assert (lost.status_code, lost.json()["code"]) == (409, "lost")
        settings.PEPPERS = {"other": b"x" * 32, **peppers}  # rotated
        assert post(api, LIST, {"identifier": "one"}, **self.KEY).status_code == 201
        IdempotentAnswer.objects.update(created=timezone.now() - KEPT)
        assert post(api, LIST, {"identifier": "a b"}, **self.KEY).status_code == 400
        assert post(api, LIST, {"identifier": "two"}, **self.KEY).status_code == 201

    def test_who_was_too_slow_and_taken_over_does_nothing(
        self, api: APIClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        keep = Claim.keep

        def keep_late(claim: Claim, response: Any) -> None:
            IdempotentAnswer.objects.update(holder=uuid4())  # by the same request, sent again
            keep(claim, response)

        monkeypatch.setattr(Claim, "keep", keep_late)
        slow = post(api, LIST, {"identifier": "one"}, **self.KEY)
        assert (slow.status_code, slow.json()["code"]) == (409, "in-progress")
        assert not Device.objects.exists()

    @pytest.mark.parametrize("key", ["short", "with a space inside it", "x" * 256])
    def test_refuses_what_is_no_key(self, api: APIClient, key: str) -> None:
        answer = post(api, LIST, {"identifier": "one"}, **{"Idempotency-Key": key})
        assert (answer.status_code, answer.json()["code"]) == (400, "header")


def identifiers(*conditions: str, code: int = 0) -> list[str]:
    words = [word for one in conditions for word in ("--filter", f"attributes__{one}")]
    printed, complaint = run("list_devices", *words, "--json", code=code)
    return [one["identifier"] for one in json.loads(printed)["devices"]] if printed else [complaint]


def test_commands_and_programs_filter_by_typed_attributes(
    api: APIClient, make_device: Callable[..., Device]
) -> None:
    types = {"line": "number", "1": "text", "tested": "yes-no", "on": "date", "colour": "choice"}
    for name, kind in types.items():
        AttributeDefinition.objects.create(name=name, type=kind, choices="red\nblue")
    said = {"line": 7, "1": "x=y", "tested": True, "on": "2027-01-31", "colour": "red"}
    make_device("a", attributes=said)
    make_device("b", attributes={"line": 7.5, "1": "7", "tested": False, "colour": "blue"})
    make_device("c", attributes={"free": 7})

    def listed(**wanted: Any) -> list[str]:
        answer = api.get("/api/v1/devices", {"attributes": json.dumps(wanted)})
        return [row["identifier"] for row in answer.data["results"]]

    for name, value in said.items():
        text = "true" if value is True else str(value)
        assert (identifiers(f"{name}={text}"), listed(**{name: value})) == (["a"], ["a"])
    assert (identifiers("line=7.5", "tested=false"), listed(line=7.5, tested=False)) == (
        ["b"],
        ["b"],
    )
    assert listed(line=10**30) == listed(line=7, tested=False) == []
    assert identifiers(f"line={10**30}", code=1) == []
    assert listed() == ["a", "b", "c"]
    for wrong in ("free=7", "line=x", "tested=1", "colour=green", "on=31.1.2027", "line__lt=8"):
        assert "attributes__" in identifiers(wrong, code=2)[0]
    for refused in ('{"free": 7}', '{"line": "7"}', '{"tested": 1}', "[]", "7", "x", ""):
        answer = api.get("/api/v1/devices", {"attributes": refused})
        assert answer.json()["errors"][0]["parameter"] == "attributes"
    exported: Any = api.get("/api/v1/devices/export", {"attributes": '{"line": 7}'})
    *_rows, last = b"".join(exported.streaming_content).splitlines()
    assert json.loads(last) == {"complete": True, "rows": 1}
