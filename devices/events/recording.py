"""Writing the outbox: an event for each change, in the transaction of the change.

Whatever is recorded in the history passes through here, saves and bulk changes alike, so that every
change of a recorded model leaves one. An event holds what the history holds, which has no secrets,
without its long texts. (docs/events.md)
"""

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

    `common` is what all of them say: who made the changes, from where and why. A statement for the
    devices that they name and their groups, one for groups that they name.
    """
    label = historical.instance_type._meta.label_lower
    fields = list(historical.tracked_fields)
    columns = {
        what: [field.attname for field in fields if _referred(field) == what] for what in NAMES
    }
    shown = [
        (field.name, field.attname, _referred(field))
        for field in fields
        if not isinstance(field, models.TextField) and (label, field.name) != (DEVICE, "attributes")
    ]

    def named(value: Any, what: str) -> set[int]:
        return {getattr(value, column) for column in columns[what]} - {None}

    def devices_of(value: Any) -> set[int]:
        return {value.id} if label == DEVICE else named(value, DEVICE)

    values = [value for _row, value, _change_type in changes]
    devices = _named_devices(set().union(*map(devices_of, values)))
    names = {
        DEVICE: {pk: identifier for pk, (identifier, _groups) in devices.items()},
        GROUP: _names_of_groups({pk for value in values for pk in named(value, GROUP)}),
    }
    events: list[Event] = []
    for row, value, change_type in changes:
        before = befores.get(row.pk)
        data: dict[str, Any] = {"model": label}
        for name, column, what in shown:
            said = getattr(value, column)
            if what in NAMES and said is not None:
                data[name] = {"id": said, NAMES[what]: names[what].get(said, "")}
            else:
                data[name] = said
        if change_type is ChangeType.CHANGED:
            data["changed"] = None if before is None else _changed(fields, value, before)
        groups = named(value, GROUP) | ({value.id} if label == GROUP else set())
        groups.update(*(devices[pk][1] for pk in devices_of(value) if pk in devices))
        verb = getattr(row, "event_verb", lambda kind, _before: kind.name.lower())
        kind = Kind(f"{NOUNS[label]}.{verb(change_type, before)}")
        events.append(Event(kind=kind, groups=sorted(groups), data={**data, **common}))
    Event.objects.bulk_create(events)


def _referred(field: Any) -> str:
    """Return the model that a field refers to, by its label; empty where it refers to none."""
    return str(field.related_model._meta.label_lower) if field.is_relation else ""


def _changed(fields: Iterable[Any], value: Any, before: Row) -> list[str]:
    return [one.name for one in fields if getattr(value, one.attname) != before[one.attname]]


def with_groups(devices: "models.QuerySet[Any]") -> dict[int, tuple[str, list[int]]]:
    """Return the identifiers of devices and the groups that they are in, in one statement."""
    found: dict[int, tuple[str, list[int]]] = {}
    for pk, identifier, group in devices.order_by().values_list("pk", "identifier", "groups"):
        groups = found.setdefault(pk, (identifier, []))[1]
        if group is not None:
            groups.append(group)
    return found


def _named_devices(keys: set[int]) -> dict[int, tuple[str, list[int]]]:
    """Return the same of devices by their keys; of those that are leaving, as it was noted."""
    leaving = _leaving.get() or {}
    found = {pk: leaving[pk] for pk in keys & leaving.keys()}
    if wanted := keys - found.keys():
        found |= with_groups(apps.get_model(DEVICE)._default_manager.filter(pk__in=wanted))
    return found


def _names_of_groups(keys: set[int]) -> dict[int, str]:
    if not keys:
        return {}
    groups = apps.get_model(GROUP)._default_manager.order_by().filter(pk__in=keys)
    return dict(groups.values_list("pk", "name"))
