"""The commands that list and delete rules, keep assertions, and ask before one breaks."""

from typing import Any

import pytest
from django.utils import timezone

from acl.models import Assertion, CommandPermission
from devices.models import Device
from tests.support.commands import answer, run

pytestmark = [pytest.mark.django_db, pytest.mark.once(on="sqlite")]


@pytest.fixture
def rule(make_device: Any, make_group: Any) -> int:
    """Return the number of a rule: the lamp may read the hub; that is asserted."""
    make_device("lamp", groups=[make_group("lab")])
    make_device("hub")
    number: int = answer(
        *("permit", "--source", "group:lab", "--destination", "hub"),
        *("--command", "/v1/Config.Get"),
    )["rule"]
    assert answer("add_assertion", "lamp may /v1/Config.Get hub", "--note", "x")["holds"]
    return number


def test_rules_are_listed_by_what_they_name(rule: int, make_group: Any) -> None:
    make_group("other")
    row = answer("list_rules", "--device", "hub")["rules"][0]
    assert (row["rule"], row["source"], row["enabled"]) == (rule, "group:lab", True)
    printed, _ = run("list_rules", "--group", "lab")
    assert printed == f"#{rule} allow group:lab → hub: /v1/Config.Get\n"
    assert answer("list_rules", "--group", "other")["rules"] == []
    run("list_rules", "--group", "nowhere", code=1)


# What breaks the assertion, each as a command.
BREAKING = [
    ("delete_rule", "{rule}"),
    ("change_rule", "{rule}", "--disable"),
    ("change_rule", "{rule}", "--valid-until", "2001-01-01"),
    ("change_rule", "{rule}", "--valid-from", "2126-01-01"),
    ("disable_device", "lamp"),
    ("delete_device", "hub"),
    ("remove_from_group", "lab", "lamp"),
    ("delete_group", "lab"),
]


@pytest.mark.parametrize("words", BREAKING, ids=[words[0] + words[-1] for words in BREAKING])
def test_a_change_that_breaks_an_assertion_is_refused(words: tuple[str, ...], rule: int) -> None:
    words = tuple(word.format(rule=rule) for word in words)
    now = timezone.now()
    in_force = CommandPermission.objects.in_force_at(now)
    before = Device.objects.enabled().count(), in_force.count()
    _printed, complaint = run(*words, code=1)
    assert "This breaks an assertion: lamp may /v1/Config.Get hub" in complaint
    assert (Device.objects.enabled().count(), in_force.count()) == before
    _printed, complaint = run(*words, "--break-assertions")
    assert "warning: an assertion does not hold any more" in complaint


def test_a_rule_that_begins_later_breaks_an_assertion_then(rule: int, make_rule: Any) -> None:
    ends = ("--source", "everyone", "--destination", "hub", "--command", "/v1/*", "--deny")
    later = ("--valid-from", "2126-01-31", "--valid-until", "2126-02-01")
    text = "lamp may /v1/Config.Get hub: from 2126-01-31 00:00 UTC on: lamp → hub: a rule denies it"
    assert text in run("permit", *ends, *later, code=1)[1]
    assert CommandPermission.objects.count() == 1
    assert "does not hold any more" in run("permit", *ends, *later, "--break-assertions")[1]
    other = CommandPermission.objects.latest("pk")
    assert list_assertions() == {"lamp may /v1/Config.Get hub": True}
    run("create_group", "other")  # what was accepted is not asked about again
    run("change_rule", str(other.pk), "--note", "why")  # it decides what it did
    run("permit", "--source", "hub", "--destination", "lamp", "--command", "/v1/X", *later)
    run("change_rule", str(other.pk), "--disable")
    assert text in run("change_rule", str(other.pk), "--enable", code=1)[1]
    run("change_rule", str(other.pk), "--enable", "--valid-until", "none", "--break-assertions")


def list_assertions() -> dict[str, bool]:
    return {one["text"]: one["holds"] for one in answer("list_assertions")["assertions"]}


def test_a_rule_is_changed_by_its_number(rule: int, make_rule: Any) -> None:
    other = make_rule("everyone", "everyone", "/v1/Sys.*").pk
    several = answer("change_rule", str(rule), str(other), "--note", "", "--valid-from", "none")
    assert several["rules"] == sorted([rule, other])
    begin, end = "2126-01-31T12:00:00Z", "2126-02-01T00:00:00Z"
    told = answer("change_rule", str(other), "--valid-from", begin, "--valid-until", "2126-02-01")
    assert told["changed"] == {"valid_from": begin, "valid_until": end}
    listed = answer("list_rules")["rules"][1]
    assert [listed[name] for name in ("valid_from", "valid_until", "state")] == [
        begin,
        end,
        "later",
    ]
    assert "(not valid yet)" in run("list_rules")[0]
    row = CommandPermission.objects.get(pk=other)
    assert row.history.first().history_change_reason == "change_rule"
    run("change_rule", str(other), "--disable", "--reason", "a fault")
    assert row.history.first().history_change_reason == "change_rule: a fault"
    assert answer("list_rules")["rules"][1]["state"] == "off"
    run("change_rule", str(other), "--enable", "--valid-from", "none", "--valid-until", "none")
    assert answer("list_rules")["rules"][1]["state"] == "force"
    _printed, complaint = run("change_rule", str(other), "--valid-until", "2001-01-01")
    assert f"warning: #{other} " in complaint


def test_a_change_of_rules_that_makes_no_sense_changes_none(rule: int) -> None:
    said = run("change_rule", str(rule), "999", "--note", "x", code=1)[1]
    assert said == "there is no rule #999"
    ends = ("--valid-from", "2126-01-02", "--valid-until", "2126-01-01")
    assert "must lie after" in run("change_rule", str(rule), *ends, code=1)[1]
    run("change_rule", str(rule), code=2)
    for words in (("--valid-from", ""), ("--valid-from", "soon"), ("--enable", "--disable")):
        run("change_rule", str(rule), *words, code=1)
    row = CommandPermission.objects.get(pk=rule)
    assert (row.note, row.valid_from, row.valid_until) == ("", None, None)


def test_command_sets_are_kept(rule: int) -> None:
    made = answer("create_command_set", "reading", "/v1/Config.Get", "/v1/Sys.*")
    assert made["commands"] == ["/v1/Config.Get", "/v1/Sys.*"]
    run("permit", "--source", "lamp", "--destination", "hub", "--command", "set:reading")
    run("delete_rule", str(rule))  # the set allows it, too
    _printed, complaint = run("change_command_set", "reading", "--remove", "/v1/Config.Get", code=1)
    assert "This breaks an assertion" in complaint
    changed = answer(
        *("change_command_set", "reading", "--name", "looking", "--description", "x"),
        *("--add", "/v1/A.Get", "--add", "/v1/B.Get", "--remove", "/v1/Sys.*"),
    )
    assert changed == {
        "set": "looking",
        "description": "x",
        "commands": ["/v1/A.Get", "/v1/B.Get", "/v1/Config.Get"],
    }
    assert answer("list_command_sets")["sets"] == [changed]
    assert run("list_command_sets")[0] == "looking: /v1/A.Get, /v1/B.Get, /v1/Config.Get\n"
    assert "is in use by #" in run("delete_command_set", "looking", code=1)[1]
    for words in (("--add", "no command"), ("--remove", "/v1/C.Get"), ("--name", "x" * 101)):
        run("change_command_set", "looking", "--description", "y", *words, code=1)
    assert answer("list_command_sets")["sets"] == [changed]
    run("change_command_set", "looking", code=2)
    run("change_command_set", "nothing", "--name", "x", code=1)
    run("create_command_set", "looking", code=1)
    run("create_command_set", "wrong", "/v1/*/x", code=1)
    run("create_command_set", "empty")
    run("delete_command_set", "empty")
    assert run("list_command_sets")[0].count("\n") == 1


def test_a_command_set_in_use_names_some_of_its_rules_in_their_order(
    make_rule: Any, make_set: Any
) -> None:
    reading = make_set("reading", "/v1/Config.Get")
    rules = [make_rule("everyone", "everyone", reading, note=str(n)).pk for n in range(12)]
    named = ", ".join(f"#{pk}" for pk in rules[:10])
    complaint = run("delete_command_set", "reading", code=1)[1]
    assert complaint == f"reading is in use by {named} and 2 more"


def test_rules_are_deleted_together_or_not_at_all(rule: int) -> None:
    run("delete_rule", str(rule), "999999", code=1)
    assert CommandPermission.objects.count() == 1


def test_assertions_are_kept(rule: int) -> None:
    _printed, complaint = run("add_assertion", "nobody may /v1/Config.*")
    assert "it does not hold" in complaint
    states = {one["text"]: one["holds"] for one in answer("list_assertions")["assertions"]}
    assert states == {"lamp may /v1/Config.Get hub": True, "nobody may /v1/Config.*": False}
    assert run("list_assertions")[0].startswith("holds   lamp")
    for wrong in ("lamp may", "lamp may /v1/Config.Get hub", "lamp may /v1/X nothing"):
        run("add_assertion", wrong, code=1)
    run("delete_assertion", "lamp may /v1/Config.Get hub")
    run("delete_assertion", "lamp may /v1/Config.Get hub", code=1)
    Assertion.objects.create(text="gone may /v1/Config.Get hub")
    run("delete_assertion", "gone may  /v1/Config.Get hub")
    assert Assertion.objects.count() == 1
