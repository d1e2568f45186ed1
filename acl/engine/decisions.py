"""The decision: may this device send that command to that one?

Both ends must be registered and enabled. Any rule that matches and denies wins; else any that
matches and allows; else the answer is no. Two statements, whatever the number of rules and of
requests: one finds the devices, the groups they are in and the command sets that match; the other
finds the rules, by equality in one index. Both read the same state of the registry: on SQLite in
one transaction; on PostgreSQL, where somebody committed a change between them, it is asked again
what groups and sets were then. An event loop asks PostgreSQL both in one statement where they are
few. Nothing is remembered between two decisions.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from itertools import product, starmap
from operator import neg
from typing import Any, NamedTuple

import msgspec
from django.db import OperationalError, connection, models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from acl import patterns
from acl.engine.statements import (
    CONTEXT,
    CONTEXT_AND_RULES,
    MAX_RULES_AT_ONCE,
    RULES,
    RULES_BETWEEN,
    RULES_OF_STATE,
)
from acl.models.command_permission import EVERYONE, ITSELF, SAME_GROUP, Effect
from devices.database.batches import batched
from devices.database.coalescing import Coalescer
from devices.database.statements import MustWait, Query, Steps, answered, one_state
from devices.values import addresses
from devices.values.text import isolated

MAX_REQUESTS = 1000  # in one statement
MAX_ROUNDS = 3  # in which others may commit changes between the statements
MAX_AT_ONCE = 16  # that an event loop asks PostgreSQL with their rules in one statement
MAX_COMBINATIONS = 2_000  # for each request on average, that are looked up one by one


class Unsettled(OperationalError):
    """Others committed changes between the statements in each of MAX_ROUNDS."""


class Reason(models.TextChoices):
    """Why a command is, or is not, allowed. Only ALLOWED lets it through."""

    ALLOWED = "allowed", _("a rule allows it and none denies it")
    DENIED = "denied", _("a rule denies it")
    NO_RULE = "no-rule", _("no rule allows it")
    UNKNOWN_SOURCE = "unknown-source", _("the sender is not registered")
    UNKNOWN_DESTINATION = "unknown-destination", _("the receiver is not registered")
    DISABLED_SOURCE = "disabled-source", _("the sender is disabled")
    DISABLED_DESTINATION = "disabled-destination", _("the receiver is disabled")
    MALFORMED_COMMAND = "malformed-command", _("malformed command: no rule can match it")


class Decision(NamedTuple):
    """The answer to one request. `rule` is the primary key of the rule that decided, if one did."""

    reason: Reason
    rule: int | None = None

    @property
    def allowed(self) -> bool:
        """Whether the command may pass."""
        return self.reason is Reason.ALLOWED

    @property
    def effect(self) -> Effect | None:
        """The effect of the rule that decided; None where no rule did."""
        if self.rule is None:
            return None
        return Effect.ALLOW if self.allowed else Effect.DENY

    @property
    def text(self) -> str:
        """The reason in words, for staff."""
        return str(self.reason.label)


class Request(NamedTuple):
    """May `source` send `command` to `destination`? Both are IDs, without components."""

    source: str
    destination: str
    command: str

    def __str__(self) -> str:
        source, destination, command = map(isolated, self)
        return f"{source} → {destination}: {command}"

    def answered(self, decision: Decision) -> dict[str, Any]:
        """Return the request and its decision for machines."""
        return {
            **self._asdict(),
            "allowed": decision.allowed,
            "reason": decision.reason,
            "text": decision.text,
            "rule": decision.rule,
        }


class Entity(msgspec.Struct):
    """A registered device as the engine sees it; `groups` holds those above its own too."""

    pk: int
    enabled: bool
    direct: set[int]
    groups: set[int]


Block = tuple[tuple[int, ...], tuple[int, ...]]  # each of these sources, each of these destinations


class Keys(msgspec.Struct):
    """The values under which the rules that match a request lie in the index."""

    sources: list[int]  # the device's own first; likewise of the destinations
    destinations: list[int]
    commands: list[str]

    def blocks(self) -> list[Block]:
        """Return the combinations of ends in blocks; devices of the same groups share one."""
        source, *sources = self.sources
        destination, *destinations = self.destinations
        groups = tuple(sorted(sources))
        return [
            ((source,), tuple(self.destinations)),
            (groups, (destination,)),
            (groups, tuple(sorted(destinations))),
        ]

    def size(self) -> int:
        return len(self.sources) * len(self.destinations) * len(self.commands)

    def matching(self, rules: "RulesBySource") -> list["Rule"]:
        """Return those of some rules that match."""
        return [
            rule
            for source in self.sources
            for rule in rules.get(source, ())
            if rule.destination_key in self.destinations and rule.command_key in self.commands
        ]


class Rule(msgspec.Struct, frozen=True):
    """A matching rule as the index knows it."""

    pk: int
    effect: str
    source_key: int
    destination_key: int
    command_key: str


RulesBySource = dict[int, list[Rule]]  # by the key of their source


@dataclass(frozen=True, slots=True)
class Context:
    """What the first statement finds: devices by identifier, and command sets by pattern."""

    entities: dict[str, Entity]
    sets: dict[str, set[int]]
    state: object = field(default=None, compare=False)  # of the registry, as `{state}` has it

    def verdict_on_ends(self, request: Request) -> Reason | None:
        """Return why the ends alone refuse the request, or None where rules must decide."""
        source = self.entities.get(request.source)
        destination = self.entities.get(request.destination)
        if source is None:
            return Reason.UNKNOWN_SOURCE
        if destination is None:
            return Reason.UNKNOWN_DESTINATION
        if not source.enabled:
            return Reason.DISABLED_SOURCE
        if not destination.enabled:
            return Reason.DISABLED_DESTINATION
        return None

    def keys(self, request: Request, candidates: Sequence[str]) -> Keys:
        """Return where the rules that match the request lie; both ends are known."""
        source = self.entities[request.source]
        destination = self.entities[request.destination]
        destinations = [destination.pk, *map(neg, destination.groups), EVERYONE]
        if source is destination:
            destinations.append(ITSELF)
        if not source.direct.isdisjoint(destination.direct):
            destinations.append(SAME_GROUP)
        return Keys(
            [source.pk, *map(neg, source.groups), EVERYONE],
            destinations,
            [*candidates, *map(set_key, self.matching_sets(candidates))],
        )

    def matching_sets(self, candidates: Iterable[str]) -> dict[int, int]:
        """Return the sets that match, each with the length of its closest pattern."""
        if not self.sets:
            return {}
        return {
            pk: len(pattern) for pattern in candidates for pk in self.sets.get(pattern, ())
        }  # candidates come widest first: the last one stays


def set_key(pk: int) -> str:
    """Return a command set's key in the index: no pattern and no command's candidate is like it."""
    return f"*{pk}"


def decide(source: str, destination: str, command: str, *, now: datetime | None = None) -> Decision:
    """Answer whether `source` may send `command` to `destination`, and why.

    Both are IDs as they are registered, not addresses. Two statements, shared with the threads that
    ask at the same moment. Raises a database's OperationalError where the registry cannot be asked.
    """
    request = Request(source, destination, command)
    if now is None and (decision := DECISIONS.ask(request)):
        return decision
    return decide_many([request], now=now)[0]


def decide_many(
    requests: Iterable[tuple[str, str, str]], *, now: datetime | None = None
) -> list[Decision]:
    """Answer requests (source, destination, command) in their order; two statements a thousand."""
    moment = now or timezone.now()
    return [
        decision
        for some in batched(starmap(Request, requests), MAX_REQUESTS)
        for decision in _found(some, now=moment)
    ]


def _found(requests: Sequence[Request], *, now: datetime) -> list[Decision]:
    """Ask SQLite in a transaction; PostgreSQL, two round trips more, where others always write."""
    vendor = connection.vendor
    if vendor != "sqlite":
        with suppress(Unsettled):
            return answered(find_decisions(requests, now=now, vendor=vendor))
    with one_state():
        return answered(find_decisions(requests, now=now, vendor=vendor))


def _decide_together(requests: Sequence[Request]) -> dict[Request, Decision]:
    return dict(zip(requests, decide_many(requests), strict=True))


DECISIONS = Coalescer(_decide_together)


def statements_in_loop(vendor: str) -> list[Query]:
    """Return what `find_decisions_by_request` asks, with values that show what they are."""
    now = timezone.now()
    context = Query(CONTEXT, ([], []))
    if vendor == "sqlite":
        return [context, Query(RULES, ("[]", now, now))]
    return [
        context,
        Query(RULES_OF_STATE, ("[]", now, now, None)),
        Query(CONTEXT_AND_RULES, ([], [], [], now, now)),
    ]


def find_decisions_by_request(
    requests: Sequence[Request], *, vendor: str
) -> Steps[Mapping[Request, Decision]]:
    """Return the decisions of different requests, at most MAX_REQUESTS, in an event loop.

    Raises MustWait where SQLite would work on them for long.
    """
    found = yield from find_decisions(requests, now=timezone.now(), vendor=vendor, may_wait=False)
    return dict(zip(requests, found, strict=True))


def find_decisions(
    requests: Sequence[Request], *, now: datetime, vendor: str, may_wait: bool = True
) -> Steps[list[Decision]]:
    """Return the decisions of at most MAX_REQUESTS requests in their order.

    An event loop asks without `may_wait`: MustWait is raised where it would be held up, and
    PostgreSQL is asked few requests in one statement, which spares the loop a round trip.
    """
    candidates = [patterns.candidates(request.command) for request in requests]
    rules: RulesBySource | None = None
    if not may_wait and vendor == "postgresql" and len(requests) <= MAX_AT_ONCE:
        context, rules = yield from find_context_and_rules(requests, candidates, now=now)
    else:
        context = yield from find_context(requests, candidates)
    for _round in range(MAX_ROUNDS):
        decisions, open_keys, positions = _without_rules(requests, candidates, context)
        if rules is not None:  # of one statement, so of one state
            found = Found([one.matching(rules) for one in open_keys])
        elif sum(map(Keys.size, open_keys)) <= MAX_COMBINATIONS * len(open_keys):
            found = yield from find_rules(open_keys, now=now, state=context.state)
        elif may_wait or vendor != "sqlite":
            found = yield from find_deciding(open_keys, now=now, vendor=vendor, state=context.state)
        else:
            raise MustWait
        if found.other_state is None:
            break
        before, context = context, (yield from find_context(requests, candidates))
        if context == before and context.state == found.other_state:
            break
    else:
        if not may_wait:
            raise MustWait
        raise Unsettled("the registry changed too often while it was read")
    for position, matching in zip(positions, found.matching, strict=True):
        decisions[position] = verdict_of(matching, context, candidates[position])
    return [decision for decision in decisions if decision is not None]


def _without_rules(
    requests: Sequence[Request], candidates: Sequence[Sequence[str]], context: Context
) -> tuple[list[Decision | None], list[Keys], list[int]]:
    """Return decisions, those that need rules as None; of the latter, the keys and the places."""
    decisions: list[Decision | None] = []
    open_keys: list[Keys] = []
    positions: list[int] = []
    for position, request in enumerate(requests):
        refusal = (
            context.verdict_on_ends(request) if candidates[position] else Reason.MALFORMED_COMMAND
        )
        decisions.append(Decision(refusal) if refusal else None)
        if refusal is None:
            open_keys.append(context.keys(request, candidates[position]))
            positions.append(position)
    return decisions, open_keys, positions


def find_context(
    requests: Sequence[Request], candidates: Sequence[Sequence[str]]
) -> Steps[Context]:
    """Return the devices that the well-formed requests name, and the sets that match."""
    identifiers, commands = _named(requests, candidates)
    return _context((yield Query(CONTEXT, (identifiers, commands))) if identifiers else [])


def find_context_and_rules(
    requests: Sequence[Request], candidates: Sequence[Sequence[str]], *, now: datetime
) -> Steps[tuple[Context, RulesBySource | None]]:
    """Return what `find_context` does, and the rules in force that may match.

    None in place of the rules where there are too many, so that some did not come.
    """
    identifiers, commands = _named(requests, candidates)
    values = identifiers, commands, commands, now, now
    rows = (yield Query(CONTEXT_AND_RULES, values)) if identifiers else []
    rules: RulesBySource = {}
    found = 0
    for effect, pk, _enabled, source, destination, command in rows:
        if command is not None:
            rules.setdefault(source, []).append(Rule(pk, effect, source, destination, command))
            found += 1
    context = _context([row[:4] for row in rows if row[5] is None])
    return context, rules if found < MAX_RULES_AT_ONCE else None


def _named(
    requests: Sequence[Request], candidates: Sequence[Sequence[str]]
) -> tuple[list[str], list[str]]:
    """Return the devices that well-formed requests name, and the patterns that can match."""
    named = {
        end
        for request, possible in zip(requests, candidates, strict=True)
        if possible
        for end in request[:2]
        if addresses.is_storable(end)
    }
    return list(named), list(set().union(*candidates))


def _context(rows: Iterable[tuple[Any, ...]]) -> Context:
    """Return what rows of CONTEXT say."""
    entities: dict[str, Entity] = {}
    sets: dict[str, set[int]] = {}
    state = None
    by_key: dict[int, Entity] = {}
    above: list[tuple[int, int]] = []
    for text, pk, enabled, group in rows:
        if pk is None:
            state = text
        elif text is None:
            above.append((pk, group))
        elif enabled is None:
            sets.setdefault(text, set()).add(pk)
        else:
            entity = by_key.get(pk)
            if entity is None:
                direct: set[int] = set()
                entity = by_key[pk] = entities[text] = Entity(pk, bool(enabled), direct, direct)
            if group is not None:
                entity.direct.add(group)
    for pk, group in above:
        if group is not None:
            by_key[pk].groups = by_key[pk].groups | {group}
    return Context(entities, sets, state)


class Found(NamedTuple):
    """The rules in force that match, for each of some keys.

    `other_state` is that of the registry where it was another one than it was asked about.
    """

    matching: list[list[Rule]]
    other_state: object = None


def find_rules(keys: Sequence[Keys], *, now: datetime, state: object = None) -> Steps[Found]:
    """Return the rules in force that match; `state` is that in which the keys were made."""
    matching: list[list[Rule]] = [[] for _ in keys]
    other_state = None
    if keys:
        for row in (yield _rules(keys, now, state)):
            if row[0] is None:
                other_state = row[2]
            else:
                matching[row[0]].append(Rule(*row[1:]))
    return Found(matching, other_state)


def _rules(keys: Sequence[Keys], now: datetime, state: object) -> Query:
    values = msgspec.json.encode(keys).decode(), now, now
    return Query(RULES, values) if state is None else Query(RULES_OF_STATE, (*values, state))


def find_deciding(
    keys: Sequence[Keys], *, now: datetime, vendor: str, state: object = None
) -> Steps[Found]:
    """Return, of the rules that `find_rules` would, those that a verdict can depend on.

    Of rules for one command that are equally close and of one effect, that is the oldest.
    """
    commands: dict[Block, set[str]] = defaultdict(set)
    for one in keys:
        for block in one.blocks():
            commands[block].update(one.commands)
    if vendor == "sqlite":
        every = sorted(set().union(*commands.values()))
        ends = msgspec.json.encode(list(commands)).decode()
        rows = set((yield Query(RULES_BETWEEN, (ends, now, now, every))))
    else:
        blocks = [
            Keys(list(sources), list(destinations), sorted(named))
            for (sources, destinations), named in commands.items()
        ]
        rows = {row[1:] for row in (yield _rules(blocks, now, state))}
    other_state = next((row[1] for row in rows if row[0] is None), None)
    between: dict[tuple[int, int], list[tuple[Any, Rule]]] = defaultdict(list)
    for rule in (Rule(*row) for row in rows if row[0] is not None):
        closeness = rule.effect, rank(rule.source_key), rank(rule.destination_key)
        between[rule.source_key, rule.destination_key].append((closeness, rule))
    found: dict[Block, dict[str, dict[Any, Rule]]] = {block: {} for block in commands}
    for (sources, destinations), by_command in found.items():
        for pair in product(sources, destinations):
            for closeness, rule in between.get(pair, ()):
                oldest = by_command.setdefault(rule.command_key, {})
                if closeness not in oldest or rule.pk < oldest[closeness].pk:
                    oldest[closeness] = rule
    matching = [
        [
            rule
            for block in one.blocks()
            for command in one.commands
            for rule in found[block].get(command, {}).values()
        ]
        for one in keys
    ]
    return Found(matching, other_state)


def verdict_of(rules: Sequence[Rule], context: Context, candidates: Sequence[str]) -> Decision:
    """Return the decision of the rules that match; the most specific one is named.

    Most specific: the one that names its source most closely (a device, a group, everyone), then
    its destination (a device or itself, the same group, a group, everyone), then its command (the
    longest pattern); of equals, the oldest.
    """
    if not rules:
        return Decision(Reason.NO_RULE)
    denying = [rule for rule in rules if rule.effect == Effect.DENY]
    winning = denying or rules
    if len(winning) == 1:
        decider = winning[0]
    else:
        sets = context.matching_sets(candidates)
        decider = max(winning, key=lambda rule: specificity(rule, sets))
    return Decision(Reason.DENIED if denying else Reason.ALLOWED, decider.pk)


def specificity(rule: Rule, sets: dict[int, int]) -> tuple[int, int, int, int]:
    """Return how closely a matching rule names the request: greater is closer."""
    key = rule.command_key
    length = sets[int(key[1:])] if key.startswith("*") and key != "*" else len(key)
    return rank(rule.source_key), rank(rule.destination_key), length, -rule.pk


def rank(key: int) -> int:
    """Return how closely one end of a rule names a device, from everyone (0) to itself (3)."""
    if key > EVERYONE or key == ITSELF:
        return 3
    if key == SAME_GROUP:
        return 2
    return 1 if key else 0
