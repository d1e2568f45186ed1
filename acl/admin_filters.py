"""How the list of rules is narrowed: filters that count, each choice by an index of its own."""

from typing import Any

from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext_lazy

from acl import decisions
from acl.decisions import EVERYONE, Effect, Request
from acl.models import CommandSet
from acl.models.permissions import DestinationKind, RuleState, SourceKind
from devices.admin_lists import CountedFilter
from devices.models import Device, DeviceGroup

GROUP = "group-"
MOST_SETS = 15  # that are choices of a filter


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
        choices = [(str(pk), name) for pk, name in sets[:MOST_SETS]]
        chosen = self.value() or ""
        if chosen.isdecimal() and chosen not in dict(choices):
            choices = [(str(pk), name) for pk, name in sets.filter(pk=chosen)] + choices
        return choices

    def keep(self, queryset: Any, value: str) -> QuerySet[Any]:
        """Return the rules of a choice."""
        return queryset.filter(command_set=value) if value.isdecimal() else queryset.none()


def groups_of(device: Device) -> list[int]:
    """Return the groups that a device is in, those above them included. One statement."""
    context = decisions.find_context(
        [Request(device.identifier, device.identifier, "*")], [["*"]], using="default"
    )
    return sorted(context.entities[device.identifier].groups)


def sent_by(device: Device, groups: list[int]) -> Q:
    """Return the condition that a rule is about what a device in these groups sends."""
    return Q(source_key__in=[device.pk, *(-group for group in groups), EVERYONE])


def received_by(device: Device, groups: list[int]) -> Q:
    """Return the condition that a rule is about what a device in these groups is sent."""
    reached = (
        Q(destination_device=device)
        | Q(destination_group__in=groups)
        | Q(UNNAMED, destination_kind=DestinationKind.EVERYONE)
        | Q(UNNAMED, sent_by(device, groups), destination_kind=DestinationKind.ITSELF)
    )
    if groups:
        reached |= Q(UNNAMED, destination_kind=DestinationKind.SAME_GROUP)
    return reached


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


class SenderFilter(ConcernFilter):
    """The rules about what one device, or a group by name, sends."""

    title = gettext_lazy("whoever sends")
    parameter_name = "sender"

    def keep(self, queryset: Any, value: str) -> QuerySet[Any]:
        """Return the rules about what it sends."""
        if isinstance(self.chosen, DeviceGroup):
            return queryset.filter(source_group=self.chosen)
        if self.chosen is None:
            return queryset.none()
        return queryset.filter(sent_by(self.chosen, groups_of(self.chosen)))


class ReceiverFilter(ConcernFilter):
    """The rules about what one device, or a group by name, is sent."""

    title = gettext_lazy("whoever is sent to")
    parameter_name = "receiver"

    def keep(self, queryset: Any, value: str) -> QuerySet[Any]:
        """Return the rules about what it is sent."""
        if isinstance(self.chosen, DeviceGroup):
            return queryset.filter(destination_group=self.chosen)
        if self.chosen is None:
            return queryset.none()
        return queryset.filter(received_by(self.chosen, groups_of(self.chosen)))
