"""Reading and checking assertions.

Two forms, a line each; words with spaces are quoted, `#` begins a remark:

    SENDER may [not] COMMAND RECEIVER
    nobody [outside group:NAME] may PATTERN [RECEIVER]

The first is about each device that SENDER and RECEIVER name (an identifier or `group:NAME`; the
receiver also `itself`) and one command, and is decided by the engine. The second is about every
sender, receiver and command there could be, and is decided by looking at every rule that allows
such a command: it holds where each of them names nobody else, or one rule denies all such commands
that it allows; where a receiver is named, all that it lets reach that one.
"""

import copy
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import compress
from typing import NamedTuple

from django.core.exceptions import ValidationError
from django.db.models import Exists, Q
from django.utils import timezone
from django.utils.translation import gettext as _, gettext_lazy

from acl import notation, patterns
from acl.engine.decisions import Request, decide_many
from acl.engine.group_tree import GroupTree
from acl.engine.shadowing import ShadowFinder, patterns_of
from acl.models import Assertion, CommandPermission
from acl.models.command_permission import (
    EVERYONE,
    GROUP,
    ITSELF,
    NAMELESS_KINDS,
    SAME_GROUP,
    SET,
    DestinationKind,
    Effect,
)
from devices.database.batches import batched
from devices.models import Device, DeviceGroup
from devices.models.device import DeviceQuerySet
from devices.values.moments import in_utc
from devices.values.text import isolated, labelled

MAX_PAIRS = 10_000  # of devices that one assertion may be about
MAX_SHOWN = 3  # reasons for one broken assertion
MAX_QUESTIONS = 100  # in one statement
MAX_MOMENTS = 20  # at which rules begin or end
USAGE = gettext_lazy(
    "Write: SENDER may COMMAND RECEIVER, SENDER may not COMMAND RECEIVER, or nobody [outside "
    "group:NAME] may PATTERN [RECEIVER]."
)


@dataclass(frozen=True, slots=True)
class Broken:
    """An assertion that does not hold, and why."""

    text: str
    why: str

    def __str__(self) -> str:
        return labelled(isolated(self.text), self.why)


class Registry(notation.Names):
    """What assertions name, found together: four statements, however many there are."""

    def __init__(self, parsed: Iterable["Parsed"]) -> None:
        super().__init__(end for one in parsed for end in one.ends())
        self.tree = GroupTree()
        inside = {pk for group in self.groups.values() for pk in self.tree.below(group.pk)}
        # Of each device in question all groups, not only those through which it is in question.
        memberships = Device.groups.through.objects
        held = memberships.filter(
            Q(device__in=[device.pk for device in self.devices.values()])
            | Q(device__in=memberships.filter(devicegroup__in=inside).values("device"))
        )
        self._members: dict[int, set[int]] = defaultdict(set)
        self._held: dict[int, set[int]] = defaultdict(set)
        self._enabled: dict[int, str] = {}
        for device, group, identifier, enabled in held.values_list(
            "device_id", "devicegroup_id", "device__identifier", "device__enabled"
        ):
            self._members[group].add(device)
            self._held[device].add(group)
            if enabled:
                self._enabled[device] = identifier

    def members(self, group: DeviceGroup) -> set[int]:
        """Return the devices in a group or below it."""
        return {pk for inside in self.tree.below(group.pk) for pk in self._members[inside]}

    def groups_of(self, devices: Iterable[int]) -> set[int]:
        """Return the groups that devices are in themselves."""
        return {group for device in devices for group in self._held[device]}

    def identifiers(self, text: str) -> list[str]:
        """Return the one device, or the enabled ones of a group."""
        fields = notation.read_end("device", text, self)
        if device := fields.get("device_device"):
            return [device.identifier]
        members = self.members(fields["device_group"])
        return sorted(self._enabled[pk] for pk in members if pk in self._enabled)


@dataclass(frozen=True, slots=True)
class Concrete:
    """These senders may, or may not, send this command to these receivers."""

    source: str
    destination: str
    pattern: str  # one command
    allowed: bool

    def ends(self) -> list[str]:
        return [self.source, self.destination]

    def resolve(self, registry: Registry) -> list[Request]:
        """Return the requests that it is about; raises ValidationError where a name is unknown."""
        sources = registry.identifiers(self.source)
        if self.destination == DestinationKind.ITSELF:
            return [Request(source, source, self.pattern) for source in sources]
        destinations = registry.identifiers(self.destination)
        if len(sources) * len(destinations) > MAX_PAIRS:
            raise ValidationError(
                _("This is about more than %(most)d pairs of devices; name fewer.")
                % {"most": MAX_PAIRS}
            )
        return [Request(s, d, self.pattern) for s in sources for d in destinations]


@dataclass(frozen=True, slots=True)
class Universal:
    """Nobody, or nobody outside one group, may send such commands."""

    outside: str | None
    pattern: str
    destination: str | None

    def ends(self) -> list[str]:
        return [end for end in (self.outside, self.destination) if end is not None]

    def resolve(self, registry: Registry) -> list[Request]:
        """Return no requests; raises ValidationError where a name is unknown."""
        for end in self.ends():
            notation.read_end("end", end, registry)
        return []

    def possible_leaks(
        self, allowing: Iterable[CommandPermission], registry: Registry
    ) -> list[tuple[CommandPermission, DeviceQuerySet]]:
        """Return the rules that may allow it to somebody, each with who could send by it."""
        insiders: set[int] = set()
        if self.outside is not None:
            group = notation.read_end("outside", self.outside, registry)["outside_group"]
            insiders = registry.tree.below(group.pk)
        receivers = self._receivers(registry)
        aimed_at = None if receivers is None else _keys_of(receivers, registry.tree)
        return [
            (rule, _senders(rule, insiders, registry.tree, receivers))
            for rule in allowing
            if (aimed_at is None or rule.destination_key in aimed_at)
            and any(patterns.overlap(one, self.pattern) for one in patterns_of(rule))
        ]

    def aimed(self, rule: CommandPermission, registry: Registry) -> CommandPermission | None:
        """Return a rule as it would be about the receiver of the assertion; None: it names none.

        What denies all of that denies all that the rule itself lets reach the receiver.
        """
        if self.destination is None:
            return None
        aimed = copy.copy(rule)
        aimed.destination_device = aimed.destination_group = None
        for name, value in notation.read_end("destination", self.destination, registry).items():
            setattr(aimed, name, value)
        return aimed

    def _receivers(self, registry: Registry) -> "_Receivers | None":
        """Return the devices and groups that the assertion is about; None: any."""
        if self.destination is None:
            return None
        fields = notation.read_end("receiver", self.destination, registry)
        if device := fields.get("receiver_device"):
            return _Receivers({device.pk}, registry.groups_of([device.pk]), set())
        group = fields["receiver_group"]
        members = registry.members(group)
        return _Receivers(members, registry.groups_of(members), registry.tree.below(group.pk))


class _Receivers(NamedTuple):
    """Devices, the groups that they are in themselves, and the groups that were named."""

    devices: set[int]
    groups: set[int]
    named: set[int]


def _keys_of(receivers: _Receivers, tree: GroupTree) -> set[int]:
    """Return the keys of rules that may reach the receivers."""
    above = {pk for group in receivers.groups | receivers.named for pk in tree.above(group)}
    return receivers.devices | {-pk for pk in above} | {EVERYONE, ITSELF, SAME_GROUP}


Parsed = Concrete | Universal


def read(text: str) -> Parsed:
    """Return what a line means; raises ValidationError with how to mend it."""
    try:
        words = notation.words_of(text)
    except ValueError:
        raise ValidationError(_("A quotation mark is not closed.")) from None
    match words:
        case ["nobody", "may", pattern, *receiver]:
            return _universal(None, pattern, receiver)
        case ["nobody", "outside", group, "may", pattern, *receiver]:
            return _universal(group, pattern, receiver)
        case [source, "may", "not", command, destination]:
            return _concrete(source, destination, command, allowed=False)
        case [source, "may", command, destination]:
            return _concrete(source, destination, command, allowed=True)
    raise ValidationError(USAGE)


def _universal(outside: str | None, pattern: str, receiver: list[str]) -> Universal:
    if len(receiver) > 1 or not set(receiver).isdisjoint(NAMELESS_KINDS["destination"]):
        raise ValidationError(USAGE)
    if outside is not None and not outside.startswith(GROUP):
        raise ValidationError(_("Write the group as group:NAME."))
    patterns.validate_pattern(pattern)
    return Universal(outside, pattern, receiver[0] if receiver else None)


def _concrete(source: str, destination: str, command: str, *, allowed: bool) -> Concrete:
    if "*" in command or command.startswith(SET) or not patterns.candidates(command):
        raise ValidationError(
            _("Name one command, such as /v1/Config.Get. About patterns, write “nobody … may”.")
        )
    if {source, destination} & {"everyone", "nobody", "same-group"} or source == "itself":
        raise ValidationError(_("Name a device or a group:NAME. About all, write “nobody … may”."))
    return Concrete(source, destination, command, allowed)


def validated(text: str) -> str:
    """Return the text with single spaces; raises ValidationError for what cannot be checked.

    That is what cannot be read, names what does not exist, or is about too many devices.
    """
    text = notation.with_single_spaces(text)
    parsed = read(text)
    try:
        parsed.resolve(Registry([parsed]))
    except ValidationError as error:  # at fields of a rule, which an assertion has not
        raise ValidationError(error.messages) from None
    return text


def check(texts: Iterable[str], *, now: datetime | None = None) -> list[Broken]:
    """Return the assertions among the lines that do not hold, with their reasons.

    They are checked together: the number of statements does not grow with that of the lines, but
    for one in many hundreds.
    """
    moment = now or timezone.now()
    failures: dict[str, list[str]] = {text: [] for text in filter(is_statement, texts)}
    parsed, registry, requests = _resolved(failures)
    if registry is not None:
        universals = {
            text: one
            for text, one in parsed.items()
            if isinstance(one, Universal) and text in requests
        }
        for text, why in [
            *_decided_otherwise(parsed, requests, moment),
            *_leaks(universals, registry, moment),
        ]:
            failures[text].append(why)
    return [Broken(text.strip(), _summary(found)) for text, found in failures.items() if found]


def check_later(texts: Iterable[str]) -> list[Broken]:
    """Return the assertions that hold and will not hold later, if no rule is changed until then.

    Each with when that is, and why. They are checked at the `moments` when the answer may change.
    """
    now, listed = timezone.now(), list(texts)
    coming = moments(listed, now=now)
    known = {one.text for one in check(listed, now=now)} if coming else set()
    found = []
    for begins, concerned in coming.items():
        for one in check(concerned, now=begins):
            if one.text not in known:
                known.add(one.text)
                found.append(later(one, begins))
    return found


def moments(texts: Iterable[str], *, now: datetime) -> dict[datetime, list[str]]:
    """Return the first MAX_MOMENTS when rules begin or end, with the assertions that these concern.

    The others hold from such a moment on, or do not, as they did before it.
    """
    about: dict[str, str] = {}
    for text in filter(is_statement, texts):
        with suppress(ValidationError):
            about[text] = read(text).pattern
    if not about:
        return {}
    rules = CommandPermission.objects.enabled().filter(_about(set(about.values()))).order_by()
    found: dict[datetime, set[str]] = defaultdict(set)
    for name in ("valid_from", "valid_until"):
        coming = rules.filter(**{f"{name}__gt": now}).order_by(name).values_list(name, flat=True)
        if some := list(coming.distinct()[:MAX_MOMENTS]):
            named = rules.filter(**{f"{name}__in": some}).values_list(
                name, "pattern", "command_set__patterns__pattern"
            )
            for moment, pattern, of_set in named.distinct():
                found[moment].add(pattern if of_set is None else of_set)
    return {
        moment: [
            text
            for text, pattern in about.items()
            if any(patterns.overlap(one, pattern) for one in found[moment])
        ]
        for moment in sorted(found)[:MAX_MOMENTS]
    }


def later(broken: Broken, moment: datetime) -> Broken:
    """Return an assertion that does not hold from that moment on, which its reason says."""
    return Broken(broken.text, labelled(from_then_on(moment), broken.why))


def from_then_on(moment: datetime) -> str:
    return _("from %(moment)s on") % {"moment": in_utc(moment)}


def _resolved(
    failures: dict[str, list[str]],
) -> tuple[dict[str, Parsed], Registry | None, dict[str, list[Request]]]:
    """Return what each line means, what they all name, and the requests that each is about.

    Why a line makes no sense is put among its failures. Without a line that does, nothing is
    looked up.
    """
    parsed: dict[str, Parsed] = {}
    requests: dict[str, list[Request]] = {}
    for text in failures:
        try:
            parsed[text] = read(text)
        except ValidationError as error:
            failures[text] = error.messages
    registry = Registry(parsed.values()) if parsed else None
    for text, one in parsed.items():
        try:
            requests[text] = one.resolve(registry) if registry else []
        except ValidationError as error:
            failures[text] = error.messages
    return parsed, registry, requests


def _summary(failures: list[str]) -> str:
    shown = failures[:MAX_SHOWN]
    if len(failures) > MAX_SHOWN:
        shown.append(_("and %(n)d more") % {"n": len(failures) - MAX_SHOWN})
    return "; ".join(shown)


def _decided_otherwise(
    parsed: Mapping[str, Parsed], requests: Mapping[str, list[Request]], now: datetime
) -> list[tuple[str, str]]:
    """Return what is not decided as it is asserted, by assertion."""
    asked = [(text, request) for text, listed in requests.items() for request in listed]
    decisions = decide_many([request for _text, request in asked], now=now)
    failing = [
        (text, request, decision)
        for (text, request), decision in zip(asked, decisions, strict=True)
        if decision.allowed != getattr(parsed[text], "allowed", None)
    ]
    rules = CommandPermission.objects.named().in_bulk(
        {decision.rule for _text, _request, decision in failing if decision.rule is not None}
    )
    return [
        (
            text,
            f"{isolated(request.source)} → {isolated(request.destination)}: {decision.text}"
            + (f" ({rules[decision.rule]})" if decision.rule in rules else ""),
        )
        for text, request, decision in failing
    ]


def _leaks(
    universals: Mapping[str, Universal], registry: Registry, now: datetime
) -> list[tuple[str, str]]:
    """Return the rules that allow to somebody what nobody may, by assertion."""
    if not universals:
        return []
    allowing = _allowing({one.pattern for one in universals.values()}, now)
    possible = [
        (text, *leak)
        for text, universal in universals.items()
        for leak in universal.possible_leaks(allowing, registry)
    ]
    reached = _any([senders for _text, _rule, senders in possible])
    leaks = [(text, rule) for text, rule, _senders in compress(possible, reached)]
    narrowed = [
        (position, universals[text].pattern, one)
        for position, (text, rule) in enumerate(leaks)
        for one in (rule, universals[text].aimed(rule, registry))
        if one is not None
    ]
    found = ShadowFinder(registry.tree, now).denials(
        [rule for _position, _pattern, rule in narrowed],
        within=[pattern for _position, pattern, _rule in narrowed],
    )
    denied = {narrowed[place][0] for place in found}
    return [
        (text, _("a rule allows it (%s)") % rule)
        for position, (text, rule) in enumerate(leaks)
        if position not in denied
    ]


def _any(querysets: Sequence[DeviceQuerySet]) -> list[bool]:
    """Return whether each finds a row, many in a statement."""
    found: list[bool] = []
    for some in batched(querysets, MAX_QUESTIONS):
        # One row of the rules, which are there where a rule is suspected.
        rows = CommandPermission.objects.order_by().values_list(*map(Exists, some))
        found += map(bool, rows[0])
    return found


def is_statement(text: str) -> bool:
    """Whether a line says anything: it is neither empty nor a remark."""
    stripped = text.strip()
    return bool(stripped) and not stripped.startswith("#")


def saved() -> list[str]:
    return list(Assertion.objects.values_list("text", flat=True))


def saved_requests() -> list[Request]:
    """Return the requests that the saved assertions are about; `check` reports unreadable ones."""
    _parsed, _registry, resolved = _resolved({text: [] for text in saved()})
    return [request for requests in resolved.values() for request in requests]


def _about(wanted: Iterable[str]) -> Q:
    """Return the condition that a rule is about a command which one of the patterns matches.

    And more: SQLite's LIKE knows no case.
    """
    wide = Q()
    for pattern in wanted:
        wider = patterns.wider(pattern)
        wide |= Q(pattern__in=wider) | Q(command_set__patterns__pattern__in=wider)
        if pattern.endswith("*"):
            wide |= Q(pattern__startswith=pattern[:-1]) & ~Q(pattern="")
            wide |= Q(command_set__patterns__pattern__startswith=pattern[:-1])
    return wide


def _allowing(wanted: Iterable[str], now: datetime) -> list[CommandPermission]:
    """Return the rules in force that allow a command which one of the patterns matches."""
    return list(
        CommandPermission.objects.in_force_at(now)
        .filter(_about(wanted), effect=Effect.ALLOW)
        .named()
        .prefetch_related("command_set__patterns")
        .order_by("pk")
        .distinct()
    )


def _senders(
    rule: CommandPermission, insiders: set[int], tree: GroupTree, receivers: _Receivers | None
) -> DeviceQuerySet:
    """Return the enabled devices in none of the groups that send to the receivers by this rule."""
    devices = Device.objects.enabled().order_by()
    if rule.source_device_id is not None:
        devices = devices.filter(pk=rule.source_device_id)
    elif rule.source_group_id is not None:
        devices = devices.filter(groups__in=tree.below(rule.source_group_id))
    if receivers is not None and rule.destination_key == ITSELF:
        devices = devices.filter(pk__in=receivers.devices)
    elif receivers is not None and rule.destination_key == SAME_GROUP:
        devices = devices.filter(groups__in=receivers.groups)
    if insiders:
        inside = Device.groups.through.objects.filter(devicegroup__in=insiders)
        devices = devices.exclude(pk__in=inside.values("device_id"))
    return devices
