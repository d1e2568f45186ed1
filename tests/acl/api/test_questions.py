"""Questions about the rules over the API, and permissions as code."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from rest_framework.test import APIClient

from acl.models import Assertion, CommandPermission, CommandSet
from devices.events.kinds import Kind
from devices.events.models import Event
from devices.models import DeviceGroup
from tests.devices.api.conftest import Client, account

pytestmark = [pytest.mark.django_db, pytest.mark.once(on="sqlite")]
SENDER, RECEIVER = "//example/sender", "//example/receiver"
DOCUMENT = "/api/v1/permissions-document"

Make = Callable[..., Any]


def post(client: APIClient, path: str, body: Any) -> Any:
    return client.post(f"/api/v1/{path}", body, format="json")


def put(client: APIClient, body: Any, etag: str, query: str = "") -> Any:
    return client.put(DOCUMENT + query, body, format="json", headers={"If-Match": etag})


@pytest.fixture
def rule(make_device: Make, make_rule: Make) -> CommandPermission:
    made: CommandPermission = make_rule(
        make_device(SENDER), make_device(RECEIVER), "/v1/Config.Get"
    )
    return made


def asked(command: str, source: str = SENDER) -> dict[str, str]:
    return {"source": source, "destination": RECEIVER, "command": command}


def test_decides_as_the_engine_does(api: APIClient, rule: CommandPermission) -> None:
    questions = [asked("/v1/Config.Get"), asked("/v1/Config.Set"), asked("/v1/X", "//nobody")]
    answer = post(api, "decide", {"requests": questions})
    assert [(one["allowed"], one["reason"], one["rule"]) for one in answer.data["results"]] == [
        (True, "allowed", rule.pk),
        (False, "no-rule", None),
        (False, "unknown-source", None),
    ]
    component = asked("/v1/Config.Get", f"{SENDER}.thing")  # an address names its ID
    assert post(api, "decide", {"requests": [component]}).data["results"][0]["allowed"]
    too_many = post(api, "decide", {"requests": 1001 * questions[:1]})
    assert too_many.json()["errors"][0]["pointer"] == "#/requests"
    wrong = post(api, "decide", {"requests": [questions[0], {"source": 7}]})
    pointers = {error["pointer"] for error in wrong.json()["errors"]}
    assert "#/requests/1/source" in pointers


def test_explains_a_decision_with_near_misses(api: APIClient, rule: CommandPermission) -> None:
    told = api.get("/api/v1/explain", asked("/v1/Config.Get")).data
    assert (told["allowed"], told["rules"][0]["standing"]) == (True, "decided")
    missed = api.get("/api/v1/explain", asked("/v1/Config.Set")).data
    assert (missed["allowed"], missed["rules"][0]["standing"]) == (False, "other-command")
    short = api.get("/api/v1/explain", {"source": SENDER, "destination": RECEIVER})
    assert (short.status_code, short.json()["errors"][0]["parameter"]) == (400, "command")
    assert api.get("/api/v1/explain", {**asked("/v1/X"), "more": "1"}).status_code == 400


def test_answers_for_another_moment(api: APIClient, make_device: Make, make_rule: Make) -> None:
    begin = datetime(2126, 1, 3, 9, tzinfo=UTC)
    made = make_rule(make_device(SENDER), make_device(RECEIVER), "/v1/X", valid_from=begin)
    later, before = "2126-01-03T10:00:00+01:00", "2126-01-03T08:59:59Z"
    question = asked("/v1/X")
    for moment, allowed in ((None, False), (before, False), (later, True)):
        at = {} if moment is None else {"at": moment}
        told = api.get("/api/v1/explain", {**question, **at}).data
        assert (told["allowed"], told["rules"][0]["rule"]) == (allowed, made.pk)
        decided = post(api, "decide", {"requests": [question], **at}).data["results"]
        assert [one["allowed"] for one in decided] == [allowed]
        tried = {"change": "delete", "id": made.pk, "requests": [question], **at}
        assert post(api, "what-if", tried).data["changed_decisions_total"] == int(allowed)
    path = f"/api/v1/explain?source={SENDER}&destination={RECEIVER}&command=/v1/X&at="
    assert api.get(path + later).data["at"] == "2126-01-03T09:00:00Z"  # its + is not escaped
    for wrong in ("", "tomorrow", "2126-01-03", "2126-02-30T00:00:00Z", "9" * 500):
        refused = api.get(path + wrong)
        assert (refused.status_code, refused.json()["errors"][0]["parameter"]) == (400, "at")
    refused = post(api, "decide", {"requests": [question], "at": 7})
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (400, "#/at")


@pytest.mark.parametrize(
    ("change", "turned"),
    [
        ({"change": "delete"}, [False]),
        ({"change": "change", "rule": {"enabled": False}}, [False]),
        ({"change": "change", "rule": {"note": "x"}}, []),
        (
            {
                "change": "create",
                "rule": {
                    "effect": "deny",
                    "source_kind": "everyone",
                    "destination_kind": "everyone",
                    "pattern": "*",
                },
            },
            [False],
        ),
    ],
)
def test_tries_a_change_and_takes_it_back(
    api: APIClient, rule: CommandPermission, change: dict[str, Any], turned: list[bool]
) -> None:
    Assertion.objects.create(text=f"{SENDER} may /v1/Config.Get {RECEIVER}")
    if change["change"] != "create":
        change = {**change, "id": rule.pk}
    found = post(api, "what-if", {**change, "requests": [asked("/v1/Config.Get")]}).data
    assert (found["tried"], [one["allowed"] for one in found["changed_decisions"]]) == (1, turned)
    assert len(found["broken_assertions"]) == len(turned)
    known = post(api, "what-if", change).data  # what the assertion is about
    assert (known["tried"], known["changed_decisions_total"]) == (1, len(turned))
    assert list(CommandPermission.objects.values("enabled", "note")) == [
        {"enabled": True, "note": ""}
    ]


@pytest.mark.parametrize(
    ("change", "status", "pointer"),
    [
        ({"change": "create", "id": 1}, 400, "#/id"),
        ({"change": "delete"}, 400, "#/id"),
        ({"change": "create", "rule": {"pattern": 7}}, 400, "#/rule/pattern"),
        ({"change": "turn"}, 400, "#/change"),
        ({"change": "delete", "id": 10**30}, 400, "#/id"),
        ({"change": "delete", "id": 999}, 400, "#/id"),
        ({"change": "delete", "id": "{rule}", "rule": {"effect": "deny"}}, 400, "#/rule"),
    ],
)
def test_a_trial_that_makes_no_sense_is_refused(
    api: APIClient,
    rule: CommandPermission,
    change: dict[str, Any],
    status: int,
    pointer: str | None,
) -> None:
    if change.get("id") == "{rule}":
        change = {**change, "id": rule.pk}
    answer = post(api, "what-if", change)
    assert answer.status_code == status
    assert pointer in {error["pointer"] for error in answer.json().get("errors", [])} | {None}


def test_a_trial_needs_the_permission_of_the_change(
    client_of: Client, rule: CommandPermission
) -> None:
    viewer = client_of(account("viewer", ["acl.view_commandpermission"]))
    assert post(viewer, "what-if", {"change": "delete", "id": rule.pk}).status_code == 403


def test_lists_what_is_wrong_with_rules(
    api: APIClient, rule: CommandPermission, make_rule: Make
) -> None:
    twin = make_rule(rule.source_device, rule.destination_device, rule.pattern)
    report = api.get("/api/v1/lint").data
    assert [(one["rule"], one["fault"], one["other"]) for one in report["findings"]] == [
        (twin.pk, "repeated", rule.pk)
    ]
    assert report["is_partial"] is False
    assert api.get("/api/v1/lint?fault=expired").data["findings"] == []
    assert api.get("/api/v1/lint?fault=ugly").status_code == 400


def test_the_document_is_planned_and_applied(
    api: APIClient, rule: CommandPermission, make_group: Make
) -> None:
    make_group("old")
    read = api.get(DOCUMENT)
    wanted = {
        **read.json(),
        "groups": [{"name": "lab", "devices": [SENDER]}],
        "command_sets": [{"name": "reading", "commands": ["/v1/Config.*"]}],
    }
    assert api.put(DOCUMENT, wanted, format="json").status_code == 428
    plan = put(api, wanted, read["ETag"], "?validate_only=true")
    assert plan.status_code == 200, plan.data
    assert "+- name: lab" in plan.data["result"]["difference"]
    assert DeviceGroup.objects.get().name == "old"
    done = put(api, wanted, read["ETag"])
    assert done.status_code == 200, done.data
    assert done.data["difference"] == plan.data["result"]["difference"]
    assert (DeviceGroup.objects.get().name, CommandSet.objects.get().name) == ("lab", "reading")
    assert CommandPermission.objects.get().pk == rule.pk  # what stays is not touched
    assert api.get(DOCUMENT)["ETag"] == done["ETag"] != read["ETag"]
    assert put(api, wanted, read["ETag"]).status_code == 412
    assert put(api, wanted, done["ETag"]).data["difference"] == []


def test_a_document_with_faults_names_their_places(api: APIClient, rule: CommandPermission) -> None:
    read = api.get(DOCUMENT)
    wrong = {**read.json(), "groups": [{"name": "lab", "devices": ["//nobody"]}]}
    answer = put(api, wrong, read["ETag"])
    assert answer.status_code == 400
    assert [one["pointer"] for one in answer.json()["errors"]] == ["#/groups/0/devices"]
    assert not DeviceGroup.objects.exists()
    bodies: list[Any] = [[], "x", {}, {"format": 2}, {**read.json(), "more": 1}]
    for body in bodies:
        assert put(api, body, read["ETag"]).status_code == 400, body


def test_a_document_that_breaks_an_assertion_is_asked_about(
    api: APIClient, rule: CommandPermission
) -> None:
    Assertion.objects.create(text=f"{SENDER} may /v1/Config.Get {RECEIVER}")
    read = api.get(DOCUMENT)
    empty = {**read.json(), "permissions": []}
    assert put(api, empty, read["ETag"]).json()["code"] == "assertion-broken"
    assert CommandPermission.objects.exists()
    accepted = put(api, empty, read["ETag"], "?accept_broken_assertions=true")
    assert accepted.status_code == 200
    assert not CommandPermission.objects.exists()
    assert Event.objects.filter(kind=Kind.ASSERTION_BROKEN).count() == 1


class OnlyLab:
    """A token that rules keep to the devices of a group."""

    def permits(self, permission: str) -> bool:
        return True

    def narrows(self, permission: str) -> bool:
        return permission == "devices.change_device"


def test_a_token_for_some_devices_does_not_apply_what_is_about_all(client_of: Client) -> None:
    narrow = client_of(account("admin", superuser=True), OnlyLab())
    read = narrow.get(DOCUMENT)
    assert read.status_code == 200
    assert put(narrow, read.json(), read["ETag"]).status_code == 403
