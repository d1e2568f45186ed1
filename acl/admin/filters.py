"""How the list of rules is narrowed: filters that count, each choice by an index of its own."""

from functools import cached_property, reduce
from operator import or_
from typing import Any

from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext_lazy

from acl.engine import decisions
from acl.engine.decisions import EVERYONE, Effect, Entity, Request
from acl.models import CommandSet
from acl.models.command_permission import DestinationKind, RuleState, SourceKind
from devices.admin.changelist import CountedFilter
from devices.models import Device, DeviceGroup

GROUP = "group-"
MAX_SETS = 15  # that are choices of a filter


class EffectFilter(CountedFilter):
    """Rules by what they do."""

    title = gettext_lazy("effect")
    parameter_name = "effect__exact"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        """Return the choices."""
        return list(Effect.choices)

    def keep(self, queryset: Any, value: str) -> QuerySet[Any]:
        """Return the rules of a choice."""
        return queryset.filter(effect=value)


class StateFilter(CountedFilter):
    """Rules by whether they take part in decisions now."""

    title = gettext_lazy("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        """Return the choices."""
        return list(RuleState.choices)

    def keep(self, queryset: Any, value: str) -> QuerySet[Any]:
        """Return the rules of a choice."""
        if value not in RuleState.values:
            return queryset.none()
        return queryset.in_state(RuleState(value), timezone.now())


class SenderKindFilter(CountedFilter):
    """Rules by whom they are about as senders: by the key, which an index begins with."""

    title = gettext_lazy("sender")
    parameter_name = "source_kind__exact"
    conditions = {
        SourceKind.DEVICE: Q(source_key__gt=EVERYONE),
        SourceKind.GROUP: Q(source_key__lt=EVERYONE),
        SourceKind.EVERYONE: Q(source_key=EVERYONE),
    }

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        """Return the choices."""
        return list(SourceKind.choices)

    def keep(self, queryset: Any, value: str) -> QuerySet[Any]:
        """Return the rules of a choice."""
        if value not in SourceKind.values:
            return queryset.none()
        return queryset.filter(self.conditions[SourceKind(value)])


UNNAMED = Q(destination_device=None, destination_group=None)


class ReceiverKindFilter(CountedFilter):
    """Rules by whom they are about as receivers; as with senders, each choice has its index."""

    title = gettext_lazy("receiver")
    parameter_name = "destination_kind__exact"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        """Return the choices."""
        return list(DestinationKind.choices)

    def keep(self, queryset: Any, value: str) -> QuerySet[Any]:
        """Return the rules of a choice."""
        if value in {DestinationKind.DEVICE, DestinationKind.GROUP}:
            return queryset.filter(**{f"destination_{value}__isnull": False})
        return queryset.filter(UNNAMED, destination_kind=value)


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
    return decisions.find_context([request], [["*"]], using="default").entities[device.identifier]


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
