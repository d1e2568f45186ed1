"""How the list of rules is narrowed: filters that count, each choice by an index of its own."""

from functools import cached_property, reduce
from operator import or_
from typing import Any

from django.db import DEFAULT_DB_ALIAS
from django.db.models import Q, QuerySet, TextChoices
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext_lazy

from acl.engine import decisions
from acl.engine.decisions import Entity, Request
from acl.models import CommandSet
from acl.models.command_permission import (
    EVERYONE,
    DestinationKind,
    Effect,
    RuleState,
    SourceKind,
    state_conditions,
)
from devices.admin.changelist import CountedFilter
from devices.models import Device, DeviceGroup

GROUP = "group-"
MAX_SETS = 15  # that are choices of a filter


UNNAMED = Q(destination_device=None, destination_group=None)


class KindFilter(CountedFilter):
    """Rules by an enumeration; each choice is a condition that has an index of its own."""

    kinds: type[TextChoices]

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        """Return the choices."""
        return list(self.kinds.choices)

    def keep(self, queryset: Any, value: str) -> QuerySet[Any]:
        """Return the rules of a choice."""
        is_known = value in self.kinds.values
        return queryset.filter(self.condition(value)) if is_known else queryset.none()

    def condition(self, value: str) -> Q:
        """Return the condition of a choice."""
        raise NotImplementedError


class EffectFilter(KindFilter):
    """Rules by what they do."""

    title = gettext_lazy("effect")
    parameter_name = "effect__exact"
    kinds = Effect

    def condition(self, value: str) -> Q:
        """Return the condition of an effect."""
        return Q(effect=value)


class StateFilter(KindFilter):
    """Rules by whether they take part in decisions now."""

    title = gettext_lazy("state")
    parameter_name = "state"
    kinds = RuleState

    def condition(self, value: str) -> Q:
        """Return the condition of a state."""
        return state_conditions(timezone.now())[RuleState(value)]


class SenderKindFilter(KindFilter):
    """Rules by whom they are about as senders: by the key, which an index begins with."""

    title = gettext_lazy("sender")
    parameter_name = "source_kind__exact"
    kinds = SourceKind

    def condition(self, value: str) -> Q:
        """Return the condition of a kind."""
        if value == SourceKind.DEVICE:
            return Q(source_key__gt=EVERYONE)
        return Q(source_key__lt=EVERYONE) if value == SourceKind.GROUP else Q(source_key=EVERYONE)


class ReceiverKindFilter(KindFilter):
    """Rules by whom they are about as receivers."""

    title = gettext_lazy("receiver")
    parameter_name = "destination_kind__exact"
    kinds = DestinationKind

    def condition(self, value: str) -> Q:
        """Return the condition of a kind."""
        if value in {DestinationKind.DEVICE, DestinationKind.GROUP}:
            return Q(**{f"destination_{value}__isnull": False})
        return Q(UNNAMED, destination_kind=value)


class CommandSetFilter(CountedFilter):
    """Rules by the command set that they refer to."""

    title = gettext_lazy("command set")
    parameter_name = "command_set__id__exact"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        """Return the first sets by name, and the one that was chosen."""
        sets = CommandSet.objects.values_list("pk", "name")
        choices = [(str(pk), name) for pk, name in sets[:MAX_SETS]]
        chosen = self.value() or ""
        if chosen.isdecimal() and chosen not in dict(choices):
            choices = [(str(pk), name) for pk, name in sets.filter(pk=chosen)] + choices
        return choices

    def keep(self, queryset: Any, value: str) -> QuerySet[Any]:
        """Return the rules of a choice."""
        return queryset.filter(command_set=value) if value.isdecimal() else queryset.none()


def entity_of(device: Device) -> Entity:
    """Return a device with its groups, as the engine sees it. One statement."""
    request = Request(device.identifier, device.identifier, "*")
    return decisions.find_context([request], [["*"]], using=DEFAULT_DB_ALIAS).entities[
        device.identifier
    ]


def sent_by(entity: Entity) -> list[Q]:
    """Return the conditions that a rule is about what a device sends, the closest first."""
    return [
        Q(source_key=entity.pk),
        Q(source_key__in=[-group for group in sorted(entity.groups)]),
        Q(source_key=EVERYONE),
    ]


def received_by(entity: Entity) -> list[Q]:
    """Return the conditions that a rule is about what a device is sent, the closest first.

    A rule on a group for *same group* is taken to be, whether or not any two devices share one.
    """
    keys = [entity.pk, *(-group for group in sorted(entity.groups)), EVERYONE]
    sharing = Device.groups.through.objects.filter(devicegroup__in=entity.direct)
    shared = Q(source_key__lte=EVERYONE) | Q(source_device__in=sharing.values("device"))
    return [
        Q(destination_device=entity.pk),
        Q(UNNAMED, destination_kind=DestinationKind.ITSELF, source_key__in=keys),
        Q(destination_group__in=entity.groups),
        Q(UNNAMED, destination_kind=DestinationKind.EVERYONE),
        *(
            [Q(UNNAMED, shared, destination_kind=DestinationKind.SAME_GROUP)]
            if entity.direct
            else []
        ),
    ]


class ConcernFilter(CountedFilter):
    """The rules that concern one device or group; shown only where a link has chosen one."""

    chosen: Device | DeviceGroup | None = None

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        """Return what was chosen."""
        value = str(self.value())
        model = DeviceGroup if value.startswith(GROUP) else Device
        number = value.removeprefix(GROUP)
        if number.isdecimal() and request.user.has_perm(f"devices.view_{model._meta.model_name}"):
            self.chosen = model._default_manager.filter(pk=number).first()
        return [(value, self.chosen)] if self.chosen else []

    def has_output(self) -> bool:
        """Show what a link has chosen, though it be nothing."""
        return self.value() is not None

    def value(self) -> str | None:
        """Return what a link has chosen: a device's primary key, or a group's after `group-`."""
        chosen = super().value()
        return str(chosen) if chosen is not None else None

    @cached_property
    def condition(self) -> Q:
        """The condition that a rule concerns what was chosen; none does where that is nothing."""
        if self.chosen is None:
            return Q(pk__in=())
        if isinstance(self.chosen, DeviceGroup):
            return self.of_group(self.chosen)
        return reduce(or_, self.of_device(entity_of(self.chosen)))

    def of_device(self, entity: Entity) -> list[Q]:
        """Return the conditions that a rule concerns the device."""
        raise NotImplementedError

    def of_group(self, group: DeviceGroup) -> Q:
        """Return the condition that a rule names the group."""
        raise NotImplementedError

    def keep(self, queryset: Any, value: str) -> QuerySet[Any]:
        """Return the rules that concern it."""
        return queryset.filter(self.condition)


class SenderFilter(ConcernFilter):
    """The rules about what one device, or a group by name, sends."""

    title = gettext_lazy("whoever sends")
    parameter_name = "sender"

    def of_device(self, entity: Entity) -> list[Q]:
        """Return the conditions that a rule is about what the device sends."""
        return sent_by(entity)

    def of_group(self, group: DeviceGroup) -> Q:
        """Return the condition that a rule names the group as sender."""
        return Q(source_key=-group.pk)


class ReceiverFilter(ConcernFilter):
    """The rules about what one device, or a group by name, is sent."""

    title = gettext_lazy("whoever is sent to")
    parameter_name = "receiver"

    def of_device(self, entity: Entity) -> list[Q]:
        """Return the conditions that a rule is about what the device is sent."""
        return received_by(entity)

    def of_group(self, group: DeviceGroup) -> Q:
        """Return the condition that a rule names the group as receiver."""
        return Q(destination_group=group)
