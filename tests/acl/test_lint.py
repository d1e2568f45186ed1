"""Rules that decide nothing, and rules that open everything."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone

from acl.analysis.lint import Fault, lint, lint_saved, rules_to_examine
from acl.models import CommandPermission
from tests.support.commands import run

COMMAND = "/v1/Config.Get"


def found() -> set[tuple[int, str, int | None]]:
    findings = lint(CommandPermission.objects.all(), now=timezone.now())
    return {(f.rule.pk, f.fault, f.other.pk if f.other else None) for f in findings}


def test_useful_rules_are_not_findings(make_device: Any, make_group: Any, make_rule: Any) -> None:
    room = make_group("room", parent=(site := make_group("site")))
    lamp = make_device("lamp", groups=[room])
    make_rule(site, lamp, "/v1/Config.*")
    make_rule(site, lamp, "/v1/Config.*", effect="deny", valid_until=timezone.now() + timedelta(1))
    make_rule(lamp, "itself", COMMAND)
    make_rule("everyone", lamp, "*", enabled=False)
    make_rule(effect="deny", command="/v1/Sys.*")
    assert found() == set()


def test_each_fault_is_found(
    make_device: Any, make_group: Any, make_rule: Any, make_set: Any
) -> None:
    lamp = make_device("lamp")
    empty = make_group("empty", parent=(site := make_group("site")))
    make_device("hub", groups=[site])
    ended = make_rule(lamp, "itself", valid_until=timezone.now() - timedelta(1))
    disabled = make_rule(make_device("off", enabled=False), lamp)
    nobody = make_rule(empty, lamp)
    bare = make_rule(lamp, lamp, make_set("bare"))
    first = make_rule(lamp, site, COMMAND)
    second = make_rule(lamp, site, COMMAND)
    everything = make_rule()
    by_set = make_rule(command=make_set("all", "/*"))
    assert found() == {
        (ended.pk, Fault.EXPIRED, None),
        (disabled.pk, Fault.DISABLED_DEVICE, None),
        (nobody.pk, Fault.EMPTY_GROUP, None),
        (bare.pk, Fault.EMPTY_SET, None),
        (second.pk, Fault.REPEATED, first.pk),
        (everything.pk, Fault.OPENS_EVERYTHING, None),
        (by_set.pk, Fault.OPENS_EVERYTHING, None),
    }


def test_each_fault_has_its_suspects_and_few_others(
    make_device: Any, make_group: Any, make_rule: Any, make_set: Any
) -> None:
    now = timezone.now()
    lamp, hub = make_device("lamp"), make_device("hub")
    rules = {
        Fault.EXPIRED: make_rule(lamp, "itself", valid_until=now - timedelta(1)),
        Fault.DISABLED_DEVICE: make_rule(lamp, make_device("off", enabled=False)),
        Fault.EMPTY_GROUP: make_rule(make_group("empty"), lamp),
        Fault.EMPTY_SET: make_rule(lamp, lamp, make_set("bare")),
        Fault.SHADOWED: make_rule(lamp, hub, COMMAND),
        Fault.OPENS_EVERYTHING: make_rule(command=make_set("all", "/*")),
    }
    make_rule(lamp, hub, "/v1/Config.*", effect="deny")
    make_rule(hub, lamp, COMMAND, effect="deny")
    rules[Fault.REPEATED] = make_rule(hub, lamp, COMMAND, effect="deny")
    make_rule(hub, "itself", "/v1/Useful", effect="deny")
    assert {*rules, Fault.CAPITALS} == set(Fault)  # which the rule that opens everything brings
    for fault, rule in rules.items():
        listed = rules_to_examine(fault, now=now)
        assert {f.rule.pk for f in lint(listed, now=now) if f.fault is fault} == {rule.pk}
        if fault is not Fault.SHADOWED:
            assert [one.pk for one in listed] == [rule.pk]
    assert len(rules_to_examine(None, now=now)) == 10


def test_rules_that_have_expired_open_nothing(make_device: Any, make_rule: Any) -> None:
    past, future = timezone.now() - timedelta(1), timezone.now() + timedelta(1)
    lamp = make_device("lamp")
    ended = [make_rule(valid_until=past), make_rule(lamp, lamp, "/v1/A.*", effect="deny")]
    assert found() == {(ended[0].pk, Fault.EXPIRED, None)}
    ended[0].valid_until, ended[1].valid_until = future, past
    for rule in ended:
        rule.save()
    assert found() == {
        (ended[0].pk, Fault.OPENS_EVERYTHING, None),
        (ended[1].pk, Fault.EXPIRED, None),
    }
    assert [finding.fault for finding in lint_saved(ended[0])] == [Fault.OPENS_EVERYTHING]


def test_so_many_rules_are_examined_the_oldest_first(make_rule: Any) -> None:
    rules = [make_rule(command=command) for command in ("*", "/*")]
    (finding,) = lint(CommandPermission.objects.all(), now=timezone.now(), most=1)
    assert finding.rule == rules[0]


@pytest.mark.parametrize(
    ("denied", "shadowed"),
    [
        (("everyone", "everyone", "*"), True),
        (("site", "everyone", "/v1/*"), True),
        (("room", "hub", "/v1/Config.*"), True),
        (("lamp", "hub", COMMAND), True),
        (("lamp", "room", COMMAND), True),
        (("lamp", "same-group", COMMAND), False),
        (("lamp", "itself", COMMAND), False),
        (("hub", "lamp", COMMAND), False),
        (("lamp", "hub", "/v1/Config.Set"), False),
    ],
)
def test_an_allowance_that_a_denial_covers_is_shadowed(
    make_device: Any,
    make_group: Any,
    make_rule: Any,
    denied: tuple[str, str, str],
    shadowed: bool,
) -> None:
    room = make_group("room", parent=(site := make_group("site")))
    names = {"room": room, "site": site}
    names |= {name: make_device(name, groups=[room]) for name in ("lamp", "hub")}
    allow = make_rule(names["lamp"], names["hub"], COMMAND)
    source, destination, command = denied
    deny = make_rule(
        names.get(source, source), names.get(destination, destination), command, effect="deny"
    )
    assert found() == ({(allow.pk, Fault.SHADOWED, deny.pk)} if shadowed else set())


def test_a_denial_on_the_sender_covers_what_it_sends_itself(
    make_device: Any, make_rule: Any
) -> None:
    lamp = make_device("lamp")
    allow = make_rule(lamp, "itself", COMMAND)
    deny = make_rule("everyone", lamp, "*", effect="deny")
    assert found() == {(allow.pk, Fault.SHADOWED, deny.pk)}


# Days from now at which two rules begin and end, and whether the first lasts as long at least.
WINDOWS = [
    ((None, None), (-1, 1), True),
    ((-2, None), (None, None), False),
    ((-2, None), (-3, None), False),
    ((-2, None), (-2, None), True),
    ((-2, None), (-1, None), True),
    ((None, 2), (None, None), False),
    ((None, 2), (None, 3), False),
    ((None, 2), (None, 2), True),
    ((None, 2), (None, 1), True),
    ((-2, 2), (-3, 1), False),
    ((-2, 2), (-1, 3), False),
    ((-2, 2), (-1, 1), True),
]
Window = tuple[int | None, int | None]


@pytest.fixture
def make_timed_rule(make_device: Any, make_rule: Any, now: datetime) -> Any:
    lamp = make_device("lamp")

    def make(days: Window, command: str = COMMAND, **fields: Any) -> CommandPermission:
        begin, end = (None if day is None else now + timedelta(day) for day in days)
        rule: CommandPermission = make_rule(
            lamp, "itself", command, valid_from=begin, valid_until=end, **fields
        )
        return rule

    return make


@pytest.mark.parametrize(("denied", "allowed", "shadowed"), WINDOWS)
def test_a_denial_covers_an_allowance_only_with_its_whole_window(
    make_timed_rule: Any, denied: Window, allowed: Window, shadowed: bool
) -> None:
    allow = make_timed_rule(allowed)
    deny = make_timed_rule(denied, "*", effect="deny")
    assert found() == ({(allow.pk, Fault.SHADOWED, deny.pk)} if shadowed else set())


@pytest.mark.parametrize(("before", "after", "repeated"), WINDOWS)
def test_a_rule_repeats_an_older_one_only_within_its_window(
    make_timed_rule: Any, before: Window, after: Window, repeated: bool
) -> None:
    older, newer = make_timed_rule(before), make_timed_rule(after)
    assert found() == ({(newer.pk, Fault.REPEATED, older.pk)} if repeated else set())


@pytest.mark.parametrize("older", [{"enabled": False}, {"effect": "deny"}])
def test_what_is_off_or_says_the_opposite_is_not_repeated(
    make_timed_rule: Any, older: dict[str, Any]
) -> None:
    make_timed_rule((None, None), **older)
    make_timed_rule((None, None))
    assert Fault.REPEATED not in {fault for _rule, fault, _other in found()}


@pytest.mark.parametrize(
    ("end", "shadowed"), [("lamp", True), ("room", False), ("everyone", False)]
)
def test_a_denial_to_itself_covers_what_one_device_may_send_to_itself(
    make_device: Any, make_group: Any, make_rule: Any, end: str, shadowed: bool
) -> None:
    room = make_group("room")
    named = {"lamp": make_device("lamp", groups=[room]), "room": room, "everyone": "everyone"}[end]
    allow = make_rule(named, named, COMMAND)
    deny = make_rule("everyone", "itself", COMMAND, effect="deny")
    assert found() == ({(allow.pk, Fault.SHADOWED, deny.pk)} if shadowed else set())


def test_an_allowance_within_groups_is_shadowed_by_a_denial_of_the_same(
    make_device: Any, make_rule: Any
) -> None:
    allow = make_rule(make_device("lamp"), "same-group", COMMAND)
    make_rule("everyone", "itself", "*", effect="deny")
    assert found() == set()
    deny = make_rule("everyone", "same-group", "*", effect="deny")
    assert found() == {(allow.pk, Fault.SHADOWED, deny.pk)}


def test_a_set_is_shadowed_where_each_of_its_patterns_is(
    make_device: Any, make_rule: Any, make_set: Any
) -> None:
    lamp = make_device("lamp")
    allow = make_rule(lamp, "everyone", make_set("two", "/v1/A.Get", "/v1/B.Get"))
    deny = make_rule("everyone", "everyone", make_set("first", "/v1/A.*"), effect="deny")
    assert found() == set()
    make_rule("everyone", "everyone", "/v1/B.*", effect="deny")
    assert found() == {(allow.pk, Fault.SHADOWED, deny.pk)}


def test_the_command_ends_with_one_where_it_finds(make_rule: Any) -> None:
    assert run("lint_permissions")[0] == "No findings.\n"
    rule = make_rule()
    printed, _ = run("lint_permissions", code=1)
    assert f"#{rule.pk} allow everyone → everyone: *: lets everyone" in printed
