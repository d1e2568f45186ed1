"""The engine against the oracle, on thousands of random registries."""

from datetime import UTC, datetime, timedelta
from itertools import product, starmap
from typing import Any
from unittest import mock

import pytest
from django.db import connection, transaction
from hypothesis import HealthCheck, Phase, given, settings, strategies as st

from acl.analysis.assertions import check
from acl.analysis.lint import Fault, lint
from acl.engine.decisions import Decision, Request, decide, decide_many, find_decisions
from acl.engine.explanations import Standing, explain
from acl.models import CommandPermission, CommandSet, CommandSetPattern
from devices.database.statements import answered
from devices.models import Device, DeviceGroup
from tests.support.fuzz import TIMES
from tests.support.oracle import Registry, Rule, matches

EPOCH = datetime(2030, 1, 1, tzinfo=UTC)
GROUPS = ["g0", "g1", "g2", "g3"]
DEVICES = ["d0", "d1", "d2"]
COMMANDS = [
    "/v1/A.Get",
    "/v1/A.Set",
    "/v1/B.Get",
    "/v1/",
    "A.Get",
    "Get",
    "*",
    "*1",
    "/v1/A.*",
    "/",
]
PATTERNS = ["*", "/*", "/v1/*", "/v1/A.*", "/v1/A.Get", "/v1/A.Set", "A.*", "Get", "/v1/"]
moments = st.integers(0, 4)


@st.composite
def registries(draw: Any) -> Registry:
    """Draw groups (a forest), devices in them, and rules about them."""
    parents: dict[str, str | None] = {}
    for name in GROUPS:
        parents[name] = draw(st.sampled_from([None, *parents]))
    devices = {
        name: (
            draw(st.integers(0, 7)) > 0,
            frozenset(draw(st.lists(st.sampled_from(GROUPS), max_size=2))),
        )
        for name in DEVICES
    }
    named = st.one_of(
        st.tuples(st.just("device"), st.sampled_from(DEVICES)),
        st.tuples(st.just("group"), st.sampled_from(GROUPS)),
        st.just(("everyone", "")),
    )
    special = st.sampled_from([("itself", ""), ("same-group", "")])
    patterns = st.one_of(
        st.sampled_from(PATTERNS).map(lambda pattern: [pattern]),
        st.lists(st.sampled_from(PATTERNS), max_size=3, unique=True).filter(lambda p: len(p) != 1),
    )
    rules = draw(
        st.lists(
            st.builds(
                Rule,
                st.sampled_from(["allow", "allow", "allow", "deny"]),
                named,
                st.one_of(named, special),
                patterns,
                st.sampled_from([True, True, True, False]),
                st.sampled_from([None, None, None, 1, 2]),
                st.sampled_from([None, None, None, 2, 3]),
            ),
            min_size=2,
            max_size=14,
        )
    )
    for rule in rules:
        if rule.begins is not None and rule.ends is not None and rule.begins >= rule.ends:
            rule.ends = None
    return Registry(parents, devices, rules)


def stored(registry: Registry) -> list[int]:
    """Store the registry; return the primary keys of its rules in their order."""
    groups: dict[str, DeviceGroup] = {}
    for name, parent in registry.parents.items():
        groups[name] = DeviceGroup(name=name, parent=groups[parent] if parent else None)
        groups[name].save_base(raw=True, force_insert=True)  # the tree is right; no history
    devices = {
        device.identifier: device
        for device in Device.objects.bulk_create(
            Device(identifier=name, enabled=enabled)
            for name, (enabled, _) in registry.devices.items()
        )
    }
    Device.groups.through.objects.bulk_create(
        Device.groups.through(device_id=devices[name].pk, devicegroup_id=groups[group].pk)
        for name, (_, held) in registry.devices.items()
        for group in held
    )

    def at(moment: int | None) -> datetime | None:
        return None if moment is None else EPOCH + timedelta(hours=moment)

    rows = []
    for number, rule in enumerate(registry.rules):
        fields: dict[str, Any] = {}
        for end, (kind, name) in (("source", rule.source), ("destination", rule.destination)):
            fields[f"{end}_kind"] = kind
            if kind in {"device", "group"}:
                fields[f"{end}_{kind}"] = (devices if kind == "device" else groups)[name]
        if len(rule.patterns) == 1:
            fields["pattern"] = rule.patterns[0]
        else:
            fields["command_set"] = CommandSet(name=f"set {number}")
            fields["command_set"].save_base(raw=True, force_insert=True)
            CommandSetPattern.objects.bulk_create(
                CommandSetPattern(command_set=fields["command_set"], pattern=pattern)
                for pattern in rule.patterns
            )
        rows.append(
            CommandPermission(
                effect=rule.effect,
                enabled=rule.enabled,
                valid_from=at(rule.begins),
                valid_until=at(rule.ends),
                **fields,
            )
        )
    return [row.pk for row in CommandPermission.objects.bulk_create(rows)]


questions = st.tuples(
    st.sampled_from([*DEVICES, "stranger"]), st.sampled_from(DEVICES), st.sampled_from(COMMANDS)
)


def thorough(examples: int) -> settings:
    """Return settings: that many registries (times `FUZZ`), the same at each run."""
    return settings(
        max_examples=examples * TIMES,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )


def in_loop(asked: list[tuple[str, str, str]], moment: datetime) -> list[Decision]:
    """Return what an event loop finds: on PostgreSQL by one statement, if rules are few."""
    requests = list(starmap(Request, asked))
    steps = find_decisions(requests, now=moment, vendor=connection.vendor, may_wait=False)
    return answered(steps)


@thorough(500)
@given(registry=registries(), asked=st.lists(questions, min_size=8, max_size=8), now=moments)
def test_the_engine_answers_as_the_oracle(
    db: None, registry: Registry, asked: list[tuple[str, str, str]], now: int
) -> None:
    moment = EPOCH + timedelta(hours=now)
    with transaction.atomic():
        keys = stored(registry)
        decisions = decide_many(asked, now=moment)
        assert decide(*asked[0], now=moment) == decisions[0]
        with mock.patch("acl.engine.decisions.MAX_COMBINATIONS", 0):
            assert decide_many(asked, now=moment) == decisions
        assert in_loop(asked, moment) == decisions
        with mock.patch("acl.engine.decisions.MAX_RULES_AT_ONCE", 1):
            assert in_loop(asked, moment) == decisions
        for question, decision in zip(asked, decisions, strict=True):
            allowed, named = registry.decide(*question, now)
            assert decision.allowed is allowed, question
            assert (decision.rule is None) is (not named)
            assert decision.rule is None or decision.rule in {keys[n] for n in named}
        transaction.set_rollback(True)


@pytest.mark.once(on="sqlite")
@thorough(100)
@given(registry=registries(), question=questions, now=moments)
def test_an_explanation_names_what_the_oracle_finds(
    db: None, registry: Registry, question: tuple[str, str, str], now: int
) -> None:
    moment = EPOCH + timedelta(hours=now)
    with transaction.atomic():
        keys = stored(registry)
        explained = explain(*question, now=moment)
        allowed, named = registry.decide(*question, now)
        assert explained.decision.allowed is allowed
        winning = {
            part.rule.pk
            for part in explained.parts
            if part.standing in {Standing.DECIDED, Standing.AGREED}
        }
        assert winning == {keys[n] for n in named}
        assert (explained.decider.pk if explained.decider else None) == explained.decision.rule
        transaction.set_rollback(True)


PIECES = ["", "x", "x.y"]
ANY = {p.removesuffix("*") + piece for p in PATTERNS if p.endswith("*") for piece in PIECES}


@thorough(60)
@given(
    registry=registries(),
    now=moments,
    pattern=st.sampled_from(PATTERNS),
    outside=st.sampled_from([None, *GROUPS]),
    receiver=st.sampled_from([None, *DEVICES, *GROUPS]),
)
def test_what_nobody_may_is_allowed_to_nobody_where_it_holds(
    db: None, registry: Registry, now: int, pattern: str, outside: str | None, receiver: str | None
) -> None:
    def is_in(device: str, group: str | None) -> bool:
        return group in set(registry.groups_of(device))

    words = ["nobody", *(["outside", f"group:{outside}"] if outside else []), "may", pattern]
    if receiver is not None:
        words.append(f"group:{receiver}" if receiver in GROUPS else receiver)
    with transaction.atomic():
        stored(registry)
        broken = check([" ".join(words)], now=EPOCH + timedelta(hours=now))
        transaction.set_rollback(True)
    allowed = [
        (source, destination, command)
        for source, destination in product(DEVICES, DEVICES)
        if not is_in(source, outside)
        and (receiver in {None, destination} or is_in(destination, receiver))
        for command in ANY.union(COMMANDS)
        if matches(pattern, command) and registry.decide(source, destination, command, now)[0]
    ]
    assert broken or not allowed


@pytest.mark.once(on="sqlite")
@thorough(60)
@given(registry=registries(), now=moments)
def test_a_shadowed_rule_allows_nothing_from_now_on(db: None, registry: Registry, now: int) -> None:
    with transaction.atomic():
        keys = stored(registry)
        findings = lint(CommandPermission.objects.all(), now=EPOCH + timedelta(hours=now))
        shadowed = {found.rule.pk for found in findings if found.fault is Fault.SHADOWED}
        transaction.set_rollback(True)
    denials = [rule for rule in registry.rules if rule.effect == "deny"]
    for key, rule in zip(keys, registry.rules, strict=True):
        alone = Registry(registry.parents, registry.devices, [rule, *denials])
        assert key not in shadowed or not any(
            alone.decide(source, destination, command, moment)[0]
            for source, destination in product(DEVICES, DEVICES)
            for command in ANY.union(COMMANDS)
            for moment in range(now, 5)
        )
