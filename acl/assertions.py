"""Reading and checking assertions.

Two forms, a line each; words with spaces are quoted, `#` begins a remark:

    SENDER may [not] COMMAND RECEIVER
    nobody [outside group:NAME] may PATTERN [RECEIVER]

The first is about each device that SENDER and RECEIVER name (an identifier or `group:NAME`; the
receiver also `itself`) and one command, and is decided by the engine. The second is about every
sender, receiver and command there could be, and is decided by looking at every rule that allows
such a command: it holds where each of them is denied in full by a wider rule or names nobody else.
"""

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from django.core.exceptions import ValidationError
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext as _

from acl import notation, patterns
from acl.coverage import Coverage, patterns_of
from acl.decisions import EVERYONE, ITSELF, SAME_GROUP, Effect, Request
from acl.groups import GroupTree
from acl.models import Assertion, CommandPermission
from acl.trials import Change, decide_all, within_change
from devices.models import Device

MOST_PAIRS = 10_000  # of devices that one expectation may be about
MOST_SHOWN = 3  # reasons for one broken expectation
USAGE = (
    "Write: SENDER may COMMAND RECEIVER, SENDER may not COMMAND RECEIVER, or nobody [outside "
    "group:NAME] may PATTERN [RECEIVER]."
)


@dataclass(frozen=True, slots=True)
class Broken:
    """An expectation that does not hold, and why."""

    text: str
    why: str

    def __str__(self) -> str:
        return f"{self.text}: {self.why}"


@dataclass(frozen=True, slots=True)
class Concrete:
    """These senders may, or may not, send this command to these receivers."""

    source: str
    destination: str
    command: str
    allowed: bool

    def resolve(self) -> list[Request]:
        """Return the requests that it is about; raises ValidationError where a name is unknown."""
        sources = _devices(self.source)
        itself = self.destination == notation.ITSELF
        destinations = sources if itself else _devices(self.destination)
        if not itself and len(sources) * len(destinations) > MOST_PAIRS:
            raise ValidationError(
                _("This is about more than %(most)d pairs of devices; name fewer.")
                % {"most": MOST_PAIRS}
            )
        if itself:
            return [Request(source, source, self.command) for source in sources]
        return [Request(s, d, self.command) for s in sources for d in destinations]

    def failures(self, tree: GroupTree, now: datetime) -> list[str]:
        """Return what does not hold."""
        requests = self.resolve()
        failing = [
            (request, decision)
            for request, decision in zip(requests, decide_all(requests, now), strict=True)
            if decision.allowed != self.allowed
        ]
        rules = CommandPermission.objects.named().in_bulk(
            {decision.rule for _request, decision in failing if decision.rule is not None}
        )
        return [
            f"{request.source} → {request.destination}: {decision.text}"
            + (f" ({rules[decision.rule]})" if decision.rule is not None else "")
            for request, decision in failing
        ]


@dataclass(frozen=True, slots=True)
class Universal:
    """Nobody, or nobody outside one group, may send such commands."""

    outside: str | None
    pattern: str
    destination: str | None

    def resolve(self) -> list[Request]:
        """Return no requests; raises ValidationError where a name is unknown."""
        for end, text in (("outside", self.outside), ("destination", self.destination)):
            if text is not None:
                notation.read_end(end, text)
        return []

    def failures(self, tree: GroupTree, now: datetime) -> list[str]:
        """Return the rules that allow it to somebody."""
        insiders = self._insiders(tree)
        receivers = self._receivers(tree)
        aimed_at = None if receivers is None else _keys_of(receivers, tree)
        suspects = [
            rule
            for rule in _allowing(self.pattern, now)
            if (aimed_at is None or rule.destination_key in aimed_at)
            and _reaches(rule, insiders, tree, receivers)
        ]
        denied = Coverage(tree, now).denials(suspects, within=self.pattern)
        return [
            _("a rule allows it (%s)") % rule
            for position, rule in enumerate(suspects)
            if position not in denied
        ]

    def _insiders(self, tree: GroupTree) -> set[int]:
        if self.outside is None:
            return set()
        group = notation.read_end("outside", self.outside)["outside_group"]
        return tree.below(group.pk)

    def _receivers(self, tree: GroupTree) -> "_Receivers | None":
        """Return the devices and groups that the expectation is about; None: any."""
        if self.destination is None:
            return None
        fields = notation.read_end("receiver", self.destination)
        if device := fields.get("receiver_device"):
            return _Receivers({device.pk}, set(device.groups.values_list("pk", flat=True)), set())
        inside = tree.below(fields["receiver_group"].pk)
        members = Device.objects.filter(groups__in=inside)
        groups = set(members.values_list("groups", flat=True)) - {None}
        return _Receivers(set(members.values_list("pk", flat=True)), groups, inside)


class _Receivers(NamedTuple):
    """Devices, the groups that they are in themselves, and the groups that were named."""

    devices: set[int]
    groups: set[int]
    named: set[int]


def _keys_of(receivers: _Receivers, tree: GroupTree) -> set[int]:
    """Return the keys of rules that may reach the receivers."""
    above = {pk for group in receivers.groups | receivers.named for pk in tree.above(group)}
    return receivers.devices | {-pk for pk in above} | {EVERYONE, ITSELF, SAME_GROUP}


Expectation = Concrete | Universal


def read(text: str) -> Expectation:
    """Return what a line means; raises ValidationError with how to mend it."""
    try:
        words = shlex.split(text, comments=True)
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
    if len(receiver) > 1 or any(word in {"everyone", "itself", "same-group"} for word in receiver):
        raise ValidationError(USAGE)
    if outside is not None and not outside.startswith(notation.GROUP):
        raise ValidationError(_("Write the group as group:NAME."))
    patterns.validate_pattern(pattern)
    return Universal(outside, pattern, receiver[0] if receiver else None)


def _concrete(source: str, destination: str, command: str, *, allowed: bool) -> Concrete:
    if "*" in command or not patterns.candidates(command):
        raise ValidationError(
            _("Name one command, such as /v1/Config.Get. About patterns, write “nobody … may”.")
        )
    if {source, destination} & {"everyone", "nobody", "same-group"} or source == "itself":
        raise ValidationError(_("Name a device or a group:NAME. About all, write “nobody … may”."))
    return Concrete(source, destination, command, allowed)


def check(texts: Iterable[str], *, now: datetime | None = None) -> list[Broken]:
    """Return the expectations among the lines that do not hold, with their reasons."""
    moment = now or timezone.now()
    tree = GroupTree()
    broken: list[Broken] = []
    for text in texts:
        if not says_something(text):
            continue
        try:
            failures = read(text).failures(tree, moment)
        except ValidationError as error:
            failures = error.messages
        if failures:
            shown = failures[:MOST_SHOWN]
            if len(failures) > MOST_SHOWN:
                shown.append(_("and %(n)d more") % {"n": len(failures) - MOST_SHOWN})
            broken.append(Broken(text.strip(), "; ".join(shown)))
    return broken


def broken_by(change: Change) -> list[Broken]:
    """Return the saved expectations that hold, and would not once `change` is made."""
    texts = saved()
    if not texts:
        return []
    already = {one.text for one in check(texts)}
    return [one for one in within_change(change, lambda: check(texts)) if one.text not in already]


def says_something(text: str) -> bool:
    """Whether a line says anything: it is neither empty nor a remark."""
    stripped = text.strip()
    return bool(stripped) and not stripped.startswith("#")


def saved() -> list[str]:
    """Return the saved expectations."""
    return list(Assertion.objects.values_list("text", flat=True))


def saved_requests() -> list[Request]:
    """Return the requests that the saved expectations are about; unreadable ones are left out."""
    requests: dict[Request, None] = {}
    for text in saved():
        try:
            requests.update(dict.fromkeys(read(text).resolve()))
        except ValidationError:
            continue  # `check` reports it
    return list(requests)


def _devices(text: str) -> Sequence[str]:
    fields = notation.read_end("device", text)
    if device := fields.get("device_device"):
        return [device.identifier]
    inside = GroupTree().below(fields["device_group"].pk)
    members = Device.objects.enabled().filter(groups__in=inside).distinct()
    return list(members.order_by("identifier").values_list("identifier", flat=True))


def _allowing(pattern: str, now: datetime) -> list[CommandPermission]:
    """Return the rules in force that allow a command which the pattern matches."""
    wide = Q(pattern__in=patterns.wider(pattern)) | Q(
        command_set__patterns__pattern__in=patterns.wider(pattern)
    )
    if pattern.endswith("*"):
        wide |= Q(pattern__startswith=pattern[:-1]) & ~Q(pattern="")
        wide |= Q(command_set__patterns__pattern__startswith=pattern[:-1])
    rules = (
        CommandPermission.objects.in_force_at(now)
        .filter(wide, effect=Effect.ALLOW)
        .named()
        .prefetch_related("command_set__patterns")
        .order_by("pk")
        .distinct()
    )
    # SQLite's LIKE knows no case: what it found beyond the pattern is dropped here.
    return [rule for rule in rules if any(patterns.overlap(p, pattern) for p in patterns_of(rule))]


def _reaches(
    rule: CommandPermission, insiders: set[int], tree: GroupTree, receivers: _Receivers | None
) -> bool:
    """Whether an enabled device in none of the groups can send to the receivers by this rule."""
    devices = Device.objects.enabled()
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
    return devices.exists()
