"""How the list of rules is narrowed."""

from collections.abc import Callable
from typing import Any

from django.contrib import admin
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext_lazy

from acl import decisions
from acl.decisions import Request
from acl.models.permissions import DestinationKind, RuleState, state_conditions
from devices.models import Device


class StateFilter(admin.SimpleListFilter):
    """Rules by whether they take part in decisions now."""

    title = gettext_lazy("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        """Return the choices."""
        return list(RuleState.choices)

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Keep the rules of the choice."""
        chosen = self.value()
        if chosen not in RuleState.values:
            return queryset
        return queryset.filter(state_conditions(timezone.now())[RuleState(str(chosen))])

    def get_facet_counts(self, pk_attname: str, filtered_qs: QuerySet[Any]) -> dict[str, Any]:
        """Count the rules of each choice, without a subquery for each."""
        conditions = state_conditions(timezone.now())
        return {
            f"{nth}__c": Count(pk_attname, filter=conditions[RuleState(state)])
            for nth, (state, _title) in enumerate(self.lookup_choices)
        }


def groups_of(device: Device) -> list[int]:
    """Return the groups that a device is in, those above them included. One statement."""
    context = decisions.find_context(
        [Request(device.identifier, device.identifier, "*")], [["*"]], using="default"
    )
    return sorted(context.entities[device.identifier].groups)


def sent_by(device: Device, groups: list[int]) -> Q:
    """Return the condition that a rule is about what a device in these groups sends."""
    return Q(source_key__in=[device.pk, *(-group for group in groups), decisions.EVERYONE])


def received_by(device: Device, groups: list[int]) -> Q:
    """Return the condition that a rule is about what a device in these groups is sent."""
    unnamed = Q(destination_device=None, destination_group=None)
    reached = (
        Q(destination_device=device)
        | Q(destination_group__in=groups)
        | Q(unnamed, destination_kind=DestinationKind.EVERYONE)
        | Q(unnamed, sent_by(device, groups), destination_kind=DestinationKind.ITSELF)
    )
    if groups:
        reached |= Q(unnamed, destination_kind=DestinationKind.SAME_GROUP)
    return reached


class ConcernFilter(admin.SimpleListFilter):
    """The rules that concern one device; shown only where a link has chosen one."""

    condition: Callable[[Device, list[int]], Q]
    device: Device | None = None

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        """Return the device that was chosen."""
        chosen = str(self.value())
        if chosen.isdecimal() and request.user.has_perm("devices.view_device"):
            self.device = Device.objects.filter(pk=chosen).first()
        return [(str(self.device.pk), self.device)] if self.device else []

    def has_output(self) -> bool:
        """Show what a link has chosen, though it be no device."""
        return self.value() is not None

    def value(self) -> str | None:
        """Return the chosen primary key as text."""
        chosen = super().value()
        return str(chosen) if chosen is not None else None

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Keep the rules that concern the device; none for a device that is not."""
        if self.value() is None:
            return queryset
        return queryset.filter(self.concern())

    def concern(self) -> Q:
        """Return the condition that a rule concerns the device; none does where there is none."""
        if self.device is None:
            return Q(pk__in=())
        return type(self).condition(self.device, groups_of(self.device))

    def get_facet_counts(self, pk_attname: str, filtered_qs: QuerySet[Any]) -> dict[str, Any]:
        """Count what is listed."""
        return {"0__c": Count(pk_attname, filter=self.concern())}


class SenderFilter(ConcernFilter):
    """The rules about what one device sends."""

    title = gettext_lazy("what this device sends")
    parameter_name = "sender"
    condition = staticmethod(sent_by)


class ReceiverFilter(ConcernFilter):
    """The rules about what one device is sent."""

    title = gettext_lazy("what this device is sent")
    parameter_name = "receiver"
    condition = staticmethod(received_by)
