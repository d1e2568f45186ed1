"""How the list of rules is narrowed: filters that count, each choice by an index of its own."""

from collections.abc import Callable
from functools import cached_property, reduce
from operator import or_
from typing import Any

from django.db.models import Q
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
from devices.admin.base.filters import CountedFilter
from devices.admin.base.pages import is_key
from devices.database.statements import answered
from devices.history.models import permission_to
from devices.models import Device, DeviceGroup

GROUP = "group-"
MAX_SETS = 15  # that are choices of a filter


UNNAMED = Q(destination_device=None, destination_group=None)


class EffectFilter(CountedFilter):
    title = gettext_lazy("effect")
    parameter_name = "effect__exact"
    labels = dict(Effect.choices)


class StateFilter(CountedFilter):
    title = gettext_lazy("state")
    parameter_name = "state"
    labels = dict(RuleState.choices)

    def condition(self, value: str) -> Q:
        return state_conditions(timezone.now())[RuleState(value)]


class SenderKindFilter(CountedFilter):
    """Rules by the kind of their sender, found by its key, with which an index begins."""

    title = gettext_lazy("sender")
    parameter_name = "source_kind__exact"
    labels = dict(SourceKind.choices)

    def condition(self, value: str) -> Q:
        if value == SourceKind.DEVICE:
            return Q(source_key__gt=EVERYONE)
        return Q(source_key__lt=EVERYONE) if value == SourceKind.GROUP else Q(source_key=EVERYONE)


class ReceiverKindFilter(CountedFilter):
    """Rules by the kind of their receiver."""

    title = gettext_lazy("receiver")
    parameter_name = "destination_kind__exact"
    labels = dict(DestinationKind.choices)

    def condition(self, value: str) -> Q:
        if value in {DestinationKind.DEVICE, DestinationKind.GROUP}:
            return Q(**{f"destination_{value}__isnull": False})
        return Q(UNNAMED, destination_kind=value)


class CommandSetFilter(CountedFilter):
    title = gettext_lazy("command set")
    parameter_name = "command_set__id__exact"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        """Return the first sets by name, and the one that was chosen."""
        sets = CommandSet.objects.values_list("pk", "name")
        choices = [(str(pk), name) for pk, name in sets[:MAX_SETS]]
        chosen = self.value() or ""
        if is_key(chosen) and chosen not in dict(choices):
            choices = [(str(pk), name) for pk, name in sets.filter(pk=chosen)] + choices
        return choices


Subject = Entity | DeviceGroup  # of a question about rules: a device as the engine sees it


def subject_of(row: Device | DeviceGroup) -> Subject:
    """Return a device with its groups, as the engine sees it, or a group. One statement."""
    if isinstance(row, DeviceGroup):
        return row
    request = Request(row.identifier, row.identifier, "*")
    context = answered(decisions.find_context([request], [["*"]]))
    return context.entities[row.identifier]


def sent_by(subject: Subject) -> list[Q]:
    """Return the conditions that a rule is about what a device sends, the closest first.

    Of a group: that it names the group.
    """
    if isinstance(subject, DeviceGroup):
        return [Q(source_key=-subject.pk)]
    return [
        Q(source_key=subject.pk),
        Q(source_key__in=[-group for group in sorted(subject.groups)]),
        Q(source_key=EVERYONE),
    ]


def received_by(subject: Subject) -> list[Q]:
    """Return the conditions that a rule is about what a device is sent, the closest first.

    A rule on a group for *same group* is taken to be, whether or not any two devices share one.
    """
    if isinstance(subject, DeviceGroup):
        return [Q(destination_group=subject)]
    keys = [subject.pk, *(-group for group in sorted(subject.groups)), EVERYONE]
    sharing = Device.groups.through.objects.filter(devicegroup__in=subject.direct)
    shared = Q(source_key__lte=EVERYONE) | Q(source_device__in=sharing.values("device"))
    conditions = [
        Q(destination_device=subject.pk),
        Q(UNNAMED, destination_kind=DestinationKind.ITSELF, source_key__in=keys),
        Q(destination_group__in=subject.groups),
        Q(UNNAMED, destination_kind=DestinationKind.EVERYONE),
    ]
    if subject.direct:
        conditions.append(Q(UNNAMED, shared, destination_kind=DestinationKind.SAME_GROUP))
    return conditions


class SubjectFilter(CountedFilter):
    """The rules about one device or group; shown only where a link has chosen one."""

    conditions: Callable[[Subject], list[Q]]
    chosen: Device | DeviceGroup | None = None

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        value = str(self.value())
        model = DeviceGroup if value.startswith(GROUP) else Device
        number = value.removeprefix(GROUP)
        if is_key(number) and request.user.has_perm(permission_to("view", model)):
            self.chosen = model._default_manager.filter(pk=number).first()
        return [(value, self.chosen)] if self.chosen else []

    def has_output(self) -> bool:
        """Show what a link has chosen, even where that row does not exist."""
        return self.value() is not None

    @cached_property
    def about(self) -> Q:
        """The condition that a rule is about what was chosen; other filters count with it."""
        return reduce(or_, type(self).conditions(subject_of(self.chosen)))  # type: ignore[arg-type]

    def condition(self, value: str) -> Q:
        return self.about


class SenderFilter(SubjectFilter):
    """The rules about what one device, or a group by name, sends."""

    title = gettext_lazy("whoever sends")
    parameter_name = "sender"
    conditions = staticmethod(sent_by)


class ReceiverFilter(SubjectFilter):
    """The rules about what one device, or a group by name, is sent."""

    title = gettext_lazy("whoever is sent to")
    parameter_name = "receiver"
    conditions = staticmethod(received_by)
