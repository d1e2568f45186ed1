"""Rules, command sets and assertions over the API."""

from collections.abc import Callable
from typing import Any

import pytest
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries
from rest_framework.test import APIClient

from acl.engine.decisions import decide
from acl.models import Assertion, CommandPermission, CommandSet
from tests.devices.api.conftest import Client, account

pytestmark = [pytest.mark.django_db, pytest.mark.once(on="sqlite")]
RULES, SETS, ASSERTIONS = "/api/v1/rules", "/api/v1/command-sets", "/api/v1/assertions"
SENDER, RECEIVER = "//example/sender", "//example/receiver"

Make = Callable[..., Any]


def post(client: APIClient, path: str, body: Any, **headers: str) -> Any:
    return client.post(path, body, format="json", headers=headers)


def patch(client: APIClient, path: str, body: Any, etag: str, query: str = "") -> Any:
    return client.patch(path + query, body, format="json", headers={"If-Match": etag})


def rule_of(ends: list[Any], pattern: str, **more: Any) -> dict[str, Any]:
    return {
        "source_kind": "device",
        "source_device": ends[0].pk,
        "destination_kind": "device",
        "destination_device": ends[1].pk,
        "pattern": pattern,
        **more,
    }


@pytest.fixture
def ends(make_device: Make) -> list[Any]:
    return [make_device(SENDER), make_device(RECEIVER)]


def test_a_rule_decides_once_it_is_made_and_not_once_it_is_deleted(
    api: APIClient, ends: list[Any]
) -> None:
    made = post(api, RULES, rule_of(ends, "/v1/Config.*", note="for tests"))
    assert made.status_code == 201, made.data
    assert made.data["text"] == f"allow {SENDER} → {RECEIVER}: /v1/Config.*"
    assert (made.data["state"], made.data["findings"]) == ("force", [])
    assert decide(SENDER, RECEIVER, "/v1/Config.Get").allowed
    path = made["Location"]
    off = patch(api, path, {"enabled": False}, made["ETag"])
    assert (off.status_code, off.data["state"]) == (200, "off")
    assert not decide(SENDER, RECEIVER, "/v1/Config.Get").allowed
    assert patch(api, path, {"enabled": True}, made["ETag"]).status_code == 412
    assert api.delete(path).status_code == 428
    assert api.delete(path, headers={"If-Match": off["ETag"]}).status_code == 204
    row = CommandPermission.history.filter(history_type="-").get()
    assert (row.origin, row.history_user_id) == ("api", "admin")


@pytest.mark.parametrize(
    ("changed", "pointer"),
    [
        ({"pattern": "/v1/*.Get"}, "#/pattern"),
        ({"pattern": ""}, "#/pattern"),
        ({"source_device": None}, "#/source_device"),
        ({"source_kind": "group"}, "#/source_group"),
        ({"source_kind": "itself"}, "#/source_kind"),
        ({"effect": "maybe"}, "#/effect"),
        ({"valid_from": "tomorrow"}, "#/valid_from"),
        (
            {"valid_from": "2030-01-02T00:00:00Z", "valid_until": "2030-01-01T00:00:00Z"},
            "#/valid_until",
        ),
        ({"text": "allow everyone"}, "#/text"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused_at_its_field(
    api: APIClient, ends: list[Any], changed: dict[str, Any], pointer: str
) -> None:
    answer = post(api, RULES, {**rule_of(ends, "/v1/Config.Get"), **changed})
    assert answer.status_code == 400
    assert pointer in {error["pointer"] for error in answer.json()["errors"]}
    assert not CommandPermission.objects.exists()


def test_a_change_says_what_is_wrong_with_the_rule(api: APIClient, ends: list[Any]) -> None:
    made = post(api, RULES, rule_of(ends, "*", valid_until="2001-01-01T00:00:00Z"))
    assert [one["fault"] for one in made.data["findings"]] == ["expired"]
    assert "findings" not in api.get(made["Location"]).data


def test_a_change_that_breaks_an_assertion_is_asked_about(
    api: APIClient, ends: list[Any], make_rule: Make
) -> None:
    rule = make_rule(*ends, "/v1/Config.Get")
    Assertion.objects.create(text=f"{SENDER} may /v1/Config.Get {RECEIVER}")
    path = f"{RULES}/{rule.pk}"
    etag = api.get(path)["ETag"]
    tried = patch(api, path, {"enabled": False}, etag, "?validate_only=true")
    (broken,) = tried.data["consequences"][0]["broken_assertions"]
    assert broken["text"] == f"{SENDER} may /v1/Config.Get {RECEIVER}"
    asked = patch(api, path, {"enabled": False}, etag)
    assert (asked.status_code, asked.json()["code"]) == (409, "assertion-broken")
    rule.refresh_from_db()
    assert rule.enabled
    meant = patch(api, path, {"enabled": False}, etag, "?accept_broken_assertions=true")
    assert (meant.status_code, meant.data["enabled"]) == (200, False)


def test_rules_are_found_by_what_they_are_about(
    api: APIClient, ends: list[Any], make_rule: Make, make_set: Make, make_group: Make
) -> None:
    group, commands = make_group(), make_set("reading", "/v1/Config.Get")
    one = make_rule(ends[0], ends[1], "/v1/Config.Get")
    two = make_rule(group, "itself", commands, effect="deny", enabled=False)
    for asked, found in {
        f"source_device={ends[0].pk}": [one.pk],
        f"destination_device={ends[1].pk}": [one.pk],
        f"source_group={group.pk}": [two.pk],
        f"command_set={commands.pk}": [two.pk],
        "pattern=/v1/Config.Get": [one.pk],
        "pattern_prefix=/v1/": [one.pk],
        "effect=deny": [two.pk],
        "enabled=true": [one.pk],
        "": [one.pk, two.pk],
    }.items():
        rows = api.get(f"{RULES}?{asked}").data["results"]
        assert [row["id"] for row in rows] == found, asked
    assert api.get(f"{RULES}?note__contains=x").status_code == 400


def test_a_list_costs_one_statement_however_many_there_are(
    api: APIClient,
    ends: list[Any],
    make_rule: Make,
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    for number in range(20):
        make_rule(*ends, f"/v1/Config.{number}")
    with django_assert_num_queries(1):
        assert len(api.get(RULES).data["results"]) == 20


def test_a_command_set_has_its_commands(api: APIClient) -> None:
    made = post(api, SETS, {"name": "reading", "commands": ["/v1/Config.Get", "/v1/Sys.*"]})
    assert made.status_code == 201, made.data
    assert made.data["commands"] == ["/v1/Config.Get", "/v1/Sys.*"]
    path = made["Location"]
    changed = patch(api, path, {"commands": ["/v1/Sys.*", "/v1/FS.List"]}, made["ETag"])
    assert changed.data["commands"] == ["/v1/FS.List", "/v1/Sys.*"]
    assert changed["ETag"] != made["ETag"]
    assert patch(api, path, {"name": "x"}, made["ETag"]).status_code == 412
    kept = patch(api, path, {"name": "listing"}, changed["ETag"])
    assert kept.data["commands"] == ["/v1/FS.List", "/v1/Sys.*"]
    wrong = patch(api, path, {"commands": ["/v1/*.x"]}, kept["ETag"])
    assert wrong.status_code == 400
    assert wrong.json()["errors"][0]["pointer"] == "#/commands"
    assert api.get(path).data["commands"] == ["/v1/FS.List", "/v1/Sys.*"]


def test_a_command_set_in_use_is_not_deleted(
    api: APIClient, make_set: Make, make_rule: Make
) -> None:
    commands = make_set("reading", "/v1/Config.Get")
    make_rule(command=commands)
    path = f"{SETS}/{commands.pk}"
    answer = api.delete(path, headers={"If-Match": api.get(path)["ETag"]})
    assert (answer.status_code, answer.json()["code"]) == (409, "in-use")
    assert CommandSet.objects.exists()


def test_assertions_say_whether_they_hold(
    api: APIClient, ends: list[Any], django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    made = post(api, ASSERTIONS, {"text": f"{SENDER}  may /v1/Config.Get {RECEIVER}"})
    assert made.status_code == 201, made.data
    assert made.data["text"] == f"{SENDER} may /v1/Config.Get {RECEIVER}"
    assert (made.data["holds"], bool(made.data["why"])) == (False, True)
    for number in range(10):
        Assertion.objects.create(text=f"{SENDER} may not /v1/X.{number} {RECEIVER}")
    with django_assert_max_num_queries(8):
        listed = api.get(ASSERTIONS).data["results"]
    assert [row["holds"] for row in listed] == [False] + 10 * [True]
    post(api, RULES, rule_of(ends, "/v1/Config.Get"))
    assert api.get(made["Location"]).data["holds"] is True
    wrong = post(api, ASSERTIONS, {"text": "everybody may everything"})
    assert (wrong.status_code, wrong.json()["errors"][0]["pointer"]) == (400, "#/text")


def test_assertions_are_checked_saved_or_not(api: APIClient, ends: list[Any]) -> None:
    Assertion.objects.create(text=f"{SENDER} may /v1/Config.Get {RECEIVER}")
    saved = post(api, f"{ASSERTIONS}/check", {}).data
    assert (saved["checked"], len(saved["broken"])) == (1, 1)
    lines = [f"{SENDER} may not /v1/X {RECEIVER}", "nonsense"]
    other = post(api, f"{ASSERTIONS}/check", {"texts": lines}).data
    assert [one["text"] for one in other["broken"]] == ["nonsense"]
    assert post(api, f"{ASSERTIONS}/check", {"texts": [*lines, "# no"]}).data["checked"] == 2
    assert Assertion.objects.count() == 1


def test_each_change_needs_its_own_permission(client_of: Client, ends: list[Any]) -> None:
    viewer = client_of(account("viewer", ["acl.view_commandpermission"]))
    assert viewer.get(RULES).status_code == 200
    assert post(viewer, RULES, rule_of(ends, "/v1/X")).status_code == 403
    maker = client_of(account("maker", ["acl.add_commandset"]))  # its commands are rows, too
    assert post(maker, SETS, {"name": "x"}).status_code == 403
    assert not CommandPermission.objects.filter(created__lte=timezone.now()).exists()
