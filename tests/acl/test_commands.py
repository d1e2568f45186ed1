"""The commands that list and delete rules, keep assertions, and ask before one breaks."""

from typing import Any

import pytest

from acl.models import Assertion, CommandPermission
from devices.models import Device
from tests.devices.test_commands import answer, run

pytestmark = pytest.mark.django_db


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
    ("disable_device", "lamp"),
    ("delete_device", "hub"),
    ("remove_from_group", "lab", "lamp"),
    ("delete_group", "lab"),
]


@pytest.mark.parametrize("words", BREAKING, ids=[words[0] for words in BREAKING])
def test_a_change_that_breaks_an_assertion_is_refused(words: tuple[str, ...], rule: int) -> None:
    words = tuple(word.format(rule=rule) for word in words)
    before = Device.objects.enabled().count(), CommandPermission.objects.count()
    _printed, complaint = run(*words, code=1)
    assert "This breaks an assertion: lamp may /v1/Config.Get hub" in complaint
    assert (Device.objects.enabled().count(), CommandPermission.objects.count()) == before
    _printed, complaint = run(*words, "--break-assertions")
    assert "warning: an assertion does not hold any more" in complaint


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
