"""Rules that can never decide anything, and rules that open everything."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import models
from django.db.models import Exists, OuterRef, Q, Subquery
from django.utils.translation import gettext_lazy as _

from acl.engine.group_tree import GroupTree
from acl.engine.shadowing import ShadowFinder, patterns_of
from acl.models.command_permission import CommandPermission, CommandPermissionQuerySet, Effect
from acl.models.command_set import CommandSetPattern
from devices.models import Device

CHUNK = 500
WIDEST = frozenset({"*", "/*"})


class Fault(models.TextChoices):
    """What is wrong with a rule."""

    EXPIRED = "expired", _("has expired")
    DISABLED_DEVICE = "disabled-device", _("names a disabled device")
    EMPTY_GROUP = "empty-group", _("names a group without devices")
    EMPTY_SET = "empty-set", _("names a command set without commands")
    REPEATED = "repeated", _("says what another rule says already")
    SHADOWED = "shadowed", _("allows nothing: a wider rule denies it all")
    OPENS_EVERYTHING = "opens-everything", _("lets everyone send every command to everyone")


@dataclass(frozen=True, slots=True)
class Finding:
    """A rule, what is wrong with it, and the other rule that makes it so."""

    rule: CommandPermission
    fault: Fault
    other: CommandPermission | None = None

    def __str__(self) -> str:
        other = self.other
        because = f" (#{other.pk} {other.notation})" if other is not None else ""
        return f"#{self.rule.pk} {self.rule.notation}: {self.fault.label}{because}"

    def as_document(self) -> dict[str, Any]:
        """Return the finding for machines."""
        return {
            "rule": self.rule.pk,
            "text": self.rule.notation,
            "fault": self.fault,
            "other": self.other.pk if self.other is not None else None,
        }


def suspects(fault: Fault | None, *, now: datetime) -> CommandPermissionQuerySet:
    """Return the rules that may have the fault: all that have it, and few others."""
    disabled = Device.objects.filter(enabled=False)
    widest = CommandSetPattern.objects.filter(pattern__in=WIDEST)
    conditions = {
        Fault.EXPIRED: Q(valid_until__lte=now),
        Fault.DISABLED_DEVICE: Q(source_device__in=disabled) | Q(destination_device__in=disabled),
        Fault.EMPTY_GROUP: Q(source_kind="group") | Q(destination_kind="group"),
        Fault.EMPTY_SET: Q(command_set__isnull=False) & ~Exists(_own_patterns()),
        Fault.REPEATED: Exists(_twins()),
        Fault.SHADOWED: Q(effect=Effect.ALLOW),
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
        .annotate(twin=Subquery(_twins().values("pk")[:1]), has_patterns=Exists(_own_patterns()))
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
            if (twin := getattr(rule, "twin", None)) is not None:
                yield Finding(rule, Fault.REPEATED, twins[twin])
            if rule.pk in shadows:
                yield Finding(rule, Fault.SHADOWED, shadows[rule.pk])


def _findings(rule: CommandPermission, tree: GroupTree, now: datetime) -> Iterable[Finding]:
    if rule.valid_until is not None and rule.valid_until <= now:
        yield Finding(rule, Fault.EXPIRED)
    for device in (rule.source_device, rule.destination_device):
        if device is not None and not device.enabled:
            yield Finding(rule, Fault.DISABLED_DEVICE)
            break
    groups = {rule.source_group_id, rule.destination_group_id} - {None}
    if not groups <= tree.inhabited:
        yield Finding(rule, Fault.EMPTY_GROUP)
    if rule.command_set_id is not None and not getattr(rule, "has_patterns", True):
        yield Finding(rule, Fault.EMPTY_SET)
    if opens_everything(rule):
        yield Finding(rule, Fault.OPENS_EVERYTHING)


def opens_everything(rule: CommandPermission) -> bool:
    """Whether a rule allows everyone every command to everyone."""
    return (
        rule.effect == Effect.ALLOW
        and rule.source_kind == rule.destination_kind == "everyone"
        and not WIDEST.isdisjoint(patterns_of(rule))
    )


def _twins() -> CommandPermissionQuerySet:
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
