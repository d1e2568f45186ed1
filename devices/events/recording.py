"""Writing the outbox: an event for each change, in the transaction of the change.

Whatever is recorded in the history passes through here, saves and bulk changes alike, so that every
change of a recorded model leaves one. An event holds what the history holds, which has no secrets,
without its long texts. (docs/events.md)
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from django.apps import apps
from django.db import models
from django.db.models import Max
from django.dispatch import receiver
from simple_history.signals import post_create_historical_record

from devices.events.kinds import NOUNS, Kind
from devices.events.models import Event
from devices.history.context import circumstances
from devices.history.models import Change, ChangeType

Row = Mapping[str, Any]

DEVICE, GROUP = "devices.device", "devices.devicegroup"
NAMES = {DEVICE: "identifier", GROUP: "name"}  # what rows that others name are known by


_leaving: ContextVar[dict[int, tuple[str, list[int]]] | None] = ContextVar("leaving", default=None)


@contextmanager
def devices_leave() -> Iterator[None]:
    """Remember, while devices are deleted within, what they were called and which groups they had.

    Their memberships are deleted first, and their keys and rules after those.
    """
    token = _leaving.set({**(_leaving.get() or {})})
    try:
        yield
    finally:
        _leaving.reset(token)


def note_leaving(pk: int, identifier: str, groups: list[int]) -> None:
    """Remember this of a device that is about to be deleted."""
    noted = _leaving.get()
    if noted is not None:
        noted[pk] = (identifier, groups)


def record_changes(
    historical: Any, changes: Sequence[tuple[models.Model, ChangeType]], common: Row
) -> None:
    """Leave an event for each of these changes of rows of one model; one insert for all.

    To be called before their history is written; `common` are its `circumstances`.
    """
    keys = [row.pk for row, change_type in changes if change_type is ChangeType.CHANGED]
    befores = _befores(historical, keys)
    made = [(row, row, change_type) for row, change_type in changes]
    _write(historical, made, befores, common)


@receiver(post_create_historical_record)
def _record_save(*, instance: models.Model, history_instance: object, **_signal: Any) -> None:
    """Leave an event for a save or a deletion, whose history has just been written."""
    if not isinstance(history_instance, Change):
        return
    change: Any = history_instance
    change_type = ChangeType(change.history_type)
    keys = [instance.pk] if change_type is ChangeType.CHANGED else []
    befores = _befores(type(change), keys, until=change.pk)
    _write(type(change), [(instance, change, change_type)], befores, circumstances())


def _befores(historical: Any, keys: Collection[Any], until: int | None = None) -> dict[Any, Row]:
    """Return the recorded fields of rows as their last change left them, by primary key."""
    if not keys:
        return {}
    pk = historical.instance_type._meta.pk.attname
    earlier = historical.objects.order_by()
    if until is not None:
        earlier = earlier.filter(history_id__lt=until)
    newest = earlier.filter(**{f"{pk}__in": keys}).values(pk).annotate(last=Max("history_id"))
    names = [field.attname for field in historical.tracked_fields]
    found = historical.objects.order_by().filter(history_id__in=newest.values("last"))
    return {row[pk]: row for row in found.values(*names)}


def _write(
    historical: Any,
    changes: Sequence[tuple[Any, Any, ChangeType]],
    befores: Mapping[Any, Row],
    common: Row,
) -> None:
    """Write the events of changes: of a row, what holds its recorded fields, and what was done.

    `common` is what all of them say: who made the changes, from where and why.
    """
    model = historical.instance_type
    noun = NOUNS[model._meta.label_lower]
    values = [value for _row, value, _change_type in changes]
    named = _Named(model, historical.tracked_fields, values)
    events: list[Event] = []
    for row, value, change_type in changes:
        before = befores.get(row.pk)
        verb = (
            row.event_verb(change_type, before)
            if hasattr(row, "event_verb")
            else change_type.name.lower()
        )
        data = named.document(value)
        if change_type is ChangeType.CHANGED:
            data["changed"] = None if before is None else named.changed(value, before)
        events.append(
            Event(
                kind=Kind(f"{noun}.{verb}"),
                groups=named.groups_of(value),
                data={**data, **common},
            )
        )
    Event.objects.bulk_create(events)


class _Named:
    """Rows of one model as events show them, with the names of what they refer to.

    A statement for the devices that they name and their groups, one for groups that they name.
    """

    def __init__(self, model: Any, fields: Iterable[Any], values: Sequence[Any]) -> None:
        self._model = model
        self._label: str = model._meta.label_lower
        self._fields = [
            field
            for field in fields
            if not isinstance(field, models.TextField)
            and (self._label != DEVICE or field.name != "attributes")
        ]
        self._all_fields = list(fields)
        self._names: dict[str, dict[int, str]] = {DEVICE: {}, GROUP: {}}
        self._groups: dict[int, list[int]] = defaultdict(list)
        self._look_up_devices(values)
        self._look_up_groups(values)

    def _refers_to(self, label: str) -> list[str]:
        """Return the columns that refer to devices, or to groups."""
        return [
            field.attname
            for field in self._all_fields
            if field.is_relation and field.related_model._meta.label_lower == label
        ]

    def _devices_of(self, value: Any) -> list[int]:
        if self._label == DEVICE:
            return [value.id]
        return [pk for name in self._refers_to(DEVICE) if (pk := getattr(value, name)) is not None]

    def _look_up_devices(self, values: Sequence[Any]) -> None:
        """Find what the devices in question are called, and the groups that they are in."""
        wanted = {pk for value in values for pk in self._devices_of(value)}
        for pk in list(wanted):
            if gone := (_leaving.get() or {}).get(pk):
                self._names[DEVICE][pk], self._groups[pk] = gone
                wanted.discard(pk)
        if wanted:
            devices = apps.get_model(DEVICE)._default_manager.order_by().filter(pk__in=wanted)
            for pk, identifier, group in devices.values_list("pk", "identifier", "groups"):
                self._names[DEVICE][pk] = identifier
                if group is not None:
                    self._groups[pk].append(group)

    def _look_up_groups(self, values: Sequence[Any]) -> None:
        wanted = {getattr(value, name) for value in values for name in self._refers_to(GROUP)}
        wanted.discard(None)
        if wanted:
            groups = apps.get_model(GROUP)._default_manager.order_by().filter(pk__in=wanted)
            self._names[GROUP].update(groups.values_list("pk", "name"))

    def groups_of(self, value: Any) -> list[int]:
        """Return the groups that an event is about, itself or by its devices."""
        found = {group for pk in self._devices_of(value) for group in self._groups[pk]}
        found |= {getattr(value, name) for name in self._refers_to(GROUP)} - {None}
        if self._label == GROUP:
            found.add(value.id)
        return sorted(found)

    def document(self, value: Any) -> dict[str, Any]:
        data: dict[str, Any] = {"model": self._label}
        for field in self._fields:
            found = getattr(value, field.attname)
            label = field.related_model._meta.label_lower if field.is_relation else ""
            if label in NAMES and found is not None:
                data[field.name] = {"id": found, NAMES[label]: self._names[label].get(found, "")}
            else:
                data[field.name] = found
        return data

    def changed(self, value: Any, before: Row) -> list[str]:
        """Return the names of the fields that differ from those before."""
        return [
            field.name
            for field in self._all_fields
            if getattr(value, field.attname) != before[field.attname]
        ]
