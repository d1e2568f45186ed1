"""Rules that can never decide anything, and rules that open everything."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import islice, product
from typing import Any, NamedTuple

from django.db import models
from django.db.models import Exists, OuterRef, Q, Subquery
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from acl import patterns
from acl.engine.group_tree import GroupTree
from acl.engine.shadowing import ShadowFinder, patterns_of
from acl.models.command_permission import (
    CommandPermission,
    CommandPermissionQuerySet,
    Effect,
    RuleState,
)
from acl.models.command_set import CommandSetPattern
from devices.models import Device

CHUNK = 500
MAX_COMPARED = 100  # rules that one is held against, for capitals
MAX_EXAMINED = 2_000  # rules of a report; the command examines all
MAX_FINDINGS = 200
WIDEST = frozenset({"*", "/*"})


class Fault(models.TextChoices):
    """What is wrong with a rule."""

    EXPIRED = "expired", _("has expired")
    DISABLED_DEVICE = "disabled-device", _("names a disabled device")
    EMPTY_GROUP = "empty-group", _("names a group without devices")
    EMPTY_SET = "empty-set", _("names a command set without commands")
    REPEATED = "repeated", _("says what another rule says already")
    SHADOWED = "shadowed", _("allows nothing: a wider rule denies it all")
    CAPITALS = "capitals", _("leaves a denied command allowed when written with other capitals")
    OPENS_EVERYTHING = "opens-everything", _("lets everyone send every command to everyone")


@dataclass(frozen=True, slots=True)
class Finding:
    """A rule, what is wrong with it, and the other rule that makes it so."""

    rule: CommandPermission
    fault: Fault
    other: CommandPermission | None = None

    @property
    def text(self) -> str:
        """What is wrong, as it is said of the rule, with the other rule."""
        other = self.other
        because = f" (#{other.pk} {other.notation})" if other is not None else ""
        return f"{self.fault.label}{because}"

    def __str__(self) -> str:
        return f"#{self.rule.pk} {self.rule.notation}: {self.text}"

    def as_document(self) -> dict[str, Any]:
        return {
            "rule": self.rule.pk,
            "text": self.rule.notation,
            "fault": self.fault,
            "other": self.other.pk if self.other is not None else None,
        }


class Report(NamedTuple):
    """The first findings; whether there are more, and whether rules were left unexamined."""

    findings: list[Finding]
    is_cut: bool
    is_partial: bool


def report(fault: Fault | None) -> Report:
    """Return what is wrong with the oldest rules: everything, or one fault."""
    now = timezone.now()
    rules = rules_to_examine(fault, now=now)
    found = (one for one in lint(rules, now=now, most=MAX_EXAMINED) if fault in {None, one.fault})
    findings = list(islice(found, MAX_FINDINGS + 1))
    more = rules.order_by("pk").values("pk")[MAX_EXAMINED : MAX_EXAMINED + 1].exists()
    return Report(findings[:MAX_FINDINGS], len(findings) > MAX_FINDINGS, more)


def rules_to_examine(fault: Fault | None, *, now: datetime) -> CommandPermissionQuerySet:
    """Return the rules that may have the fault: all that have it, and few others."""
    disabled = Device.objects.filter(enabled=False)
    widest = CommandSetPattern.objects.filter(pattern__in=WIDEST)
    conditions = {
        Fault.EXPIRED: Q(valid_until__lte=now),
        Fault.DISABLED_DEVICE: Q(source_device__in=disabled) | Q(destination_device__in=disabled),
        Fault.EMPTY_GROUP: Q(source_kind="group") | Q(destination_kind="group"),
        Fault.EMPTY_SET: Q(command_set__isnull=False) & ~Exists(_own_patterns()),
        Fault.REPEATED: Exists(_older_equals()),
        Fault.SHADOWED: Q(effect=Effect.ALLOW),
        Fault.CAPITALS: Q(effect=Effect.DENY),
        Fault.OPENS_EVERYTHING: Q(
            Q(pattern__in=WIDEST) | Q(command_set__in=widest.values("command_set")),
            effect=Effect.ALLOW,
            source_kind="everyone",
            destination_kind="everyone",
        ),
    }
    rules = CommandPermission.objects.enabled()
    return rules.filter(conditions[fault]) if fault is not None else rules


def lint(
    rules: CommandPermissionQuerySet, *, now: datetime, most: int | None = None
) -> Iterator[Finding]:
    """Yield what is wrong with those of `rules` that are switched on, a chunk at a time.

    `most` bounds how many are examined, the oldest first.
    """
    tree = GroupTree()
    shadow_finder = ShadowFinder(tree, now)
    with_denials = CommandPermission.objects.enabled().filter(effect=Effect.DENY).exists()
    ordered = (
        rules.enabled()
        .named()
        .annotate(
            twin=Subquery(_older_equals().values("pk")[:1]), has_patterns=Exists(_own_patterns())
        )
        .prefetch_related("command_set__patterns")
        .order_by("pk")
    )
    last, left = 0, most
    # By key, and no cursor of the server's: a pooler may give each statement another connection.
    while chunk := list(ordered.filter(pk__gt=last)[: CHUNK if left is None else min(CHUNK, left)]):
        last, left = chunk[-1].pk, left and left - len(chunk)
        twins = CommandPermission.objects.named().in_bulk(
            {rule.twin for rule in chunk if rule.twin is not None}  # type: ignore[attr-defined]
        )
        allowing = [rule for rule in chunk if rule.effect == Effect.ALLOW]
        denials = shadow_finder.denials(allowing) if with_denials else {}
        shadows = {allowing[position].pk: denial for position, denial in denials.items()}
        for rule in chunk:
            yield from _findings(rule, tree, now)
            if rule.effect == Effect.DENY and (other := differing_by_case(rule, tree, now)):
                yield Finding(rule, Fault.CAPITALS, other)
            if (twin := twins.get(rule.twin)) is not None:  # type: ignore[attr-defined]
                yield Finding(rule, Fault.REPEATED, twin)
            if rule.pk in shadows:
                yield Finding(rule, Fault.SHADOWED, shadows[rule.pk])


def _findings(rule: CommandPermission, tree: GroupTree, now: datetime) -> Iterable[Finding]:
    has_expired = rule.state_at(now) is RuleState.EXPIRED
    if has_expired:
        yield Finding(rule, Fault.EXPIRED)
    for device in (rule.source_device, rule.destination_device):
        if device is not None and not device.enabled:
            yield Finding(rule, Fault.DISABLED_DEVICE)
            break
    groups = {rule.source_group_id, rule.destination_group_id} - {None}
    if not groups <= tree.with_members:
        yield Finding(rule, Fault.EMPTY_GROUP)
    if rule.command_set_id is not None and not getattr(rule, "has_patterns", True):
        yield Finding(rule, Fault.EMPTY_SET)
    if opens_everything(rule) and not has_expired:
        yield Finding(rule, Fault.OPENS_EVERYTHING)


def lint_saved(rule: CommandPermission) -> list[Finding]:
    """Return what is wrong with a rule that was just saved, and with those that it affects."""
    now = timezone.now()
    findings = list(lint(CommandPermission.objects.filter(pk=rule.pk), now=now))
    if rule.effect == Effect.ALLOW and (other := differing_by_case(rule, GroupTree(), now)):
        findings.append(Finding(rule, Fault.CAPITALS, other))
    return findings


def differing_by_case(
    rule: CommandPermission, tree: GroupTree, now: datetime
) -> CommandPermission | None:
    """Return a rule that, with this one, denies a command and allows it in other capitals.

    Names are literal here, while receivers such as Mongoose OS look commands up without case: with
    `/v1/*` allowed and `/v1/Secret.*` denied, `/v1/secret.Get` is allowed, and run. Rules that are
    switched off or have expired count for nothing.
    """
    own, condition, denies = patterns_of(rule), Q(), rule.effect == Effect.DENY
    if denies:
        wider = {wide for narrow in own for wide in patterns.wider(narrow) if wide.endswith("*")}
        condition = Q(pattern__in=wider) | Q(command_set__patterns__pattern__in=wider)
    else:
        for wide in own:
            if wide.endswith("*"):
                condition |= Q(pattern__startswith=wide[:-1], pattern__gt="")
                condition |= Q(command_set__patterns__pattern__startswith=wide[:-1])
    if not condition or rule.state_at(now) in {RuleState.OFF, RuleState.EXPIRED}:
        return None
    others = (
        CommandPermission.objects.enabled()
        .filter(Q(valid_until=None) | Q(valid_until__gt=now))
        .filter(condition, effect=Effect.ALLOW if denies else Effect.DENY)
        .filter(_overlapping("source", rule, tree), _overlapping("destination", rule, tree))
        .named()
        .prefetch_related("command_set__patterns")
        .order_by("pk")
        .distinct()[:MAX_COMPARED]
    )
    for other in others:
        theirs = patterns_of(other)
        pairs = product(theirs, own) if denies else product(own, theirs)
        if any(_leaves_capitals(wide, narrow) for wide, narrow in pairs):
            return other
    return None


def _leaves_capitals(wide: str, narrow: str) -> bool:
    rest = narrow[len(wide) - 1 :]
    return wide.endswith("*") and patterns.covers(wide, narrow) and rest.lower() != rest.upper()


def _overlapping(end: str, rule: CommandPermission, tree: GroupTree) -> Q:
    """Return the condition that a rule may be about a device that this one is about, too."""
    device, group = getattr(rule, f"{end}_device_id"), getattr(rule, f"{end}_group_id")
    if device is None and group is None:
        return Q()
    memberships = Device.groups.through.objects
    about = Q(device=device) if device else Q(devicegroup__in=tree.below(group))
    devices: Any = [device] if device else memberships.filter(about).values("device_id")
    held = set(memberships.filter(device__in=devices).values_list("devicegroup_id", flat=True))
    groups = {above for one in held for above in tree.above(one)}
    return (
        Q(**{f"{end}_device__in": devices})
        | Q(**{f"{end}_group__in": groups})
        | Q(**{f"{end}_device": None, f"{end}_group": None})
    )


def opens_everything(rule: CommandPermission) -> bool:
    """Whether a rule allows everyone every command to everyone."""
    return (
        rule.effect == Effect.ALLOW
        and rule.source_kind == rule.destination_kind == "everyone"
        and not WIDEST.isdisjoint(patterns_of(rule))
    )


def _older_equals() -> CommandPermissionQuerySet:
    """Return the older rules that say what the outer one says, whenever it says it."""
    return (
        CommandPermission.objects.enabled()
        .filter(
            Q(valid_from=None) | Q(valid_from__lte=OuterRef("valid_from")),
            Q(valid_until=None) | Q(valid_until__gte=OuterRef("valid_until")),
            source_key=OuterRef("source_key"),
            destination_key=OuterRef("destination_key"),
            command_key=OuterRef("command_key"),
            effect=OuterRef("effect"),
            pk__lt=OuterRef("pk"),
        )
        .order_by("pk")
    )


def _own_patterns() -> models.QuerySet[Any]:
    return CommandSetPattern.objects.filter(command_set=OuterRef("command_set"))
