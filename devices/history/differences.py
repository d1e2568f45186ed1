"""What a change changed, field by field, in the words of staff."""

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from typing import Any, NamedTuple

from django.db import models
from django.db.models import OuterRef, Subquery
from django.utils.translation import gettext as _

from devices.history.models import ChangeType, history_of, keeps_history
from devices.values import attributes
from devices.values.moments import in_utc
from devices.values.text import capitalized, isolated

NOTHING = "—"


class FieldChange(NamedTuple):
    """A field, as its column and as staff call it, and what it said before and says now.

    Both are empty where it said nothing; pages and lines of text show a dash there.
    """

    field: str
    name: str
    old: str
    new: str

    def __str__(self) -> str:
        return f"{self.name}: {self.old or NOTHING} → {self.new or NOTHING}"


def changes_before(changes: Iterable[Any]) -> dict[tuple[Any, int], Any]:
    """Return the change before each of these, of the same row: by history and number of the later.

    A change that created or deleted its row has none. Two statements a model.
    """
    by_history: dict[Any, list[int]] = defaultdict(list)
    for change in changes:
        if change.history_type == ChangeType.CHANGED:
            by_history[type(change)].append(change.history_id)
    found = {}
    for historical, numbers in by_history.items():
        former = historical.objects.filter(
            id=OuterRef("id"), history_id__lt=OuterRef("history_id")
        ).order_by("-history_id")
        pairs = dict(
            historical.objects.order_by()
            .filter(pk__in=numbers)
            .values_list("history_id", Subquery(former.values("history_id")[:1]))
        )
        rows = historical.objects.in_bulk([pk for pk in pairs.values() if pk is not None])
        found.update({(historical, n): rows[pk] for n, pk in pairs.items() if pk in rows})
    return found


def former_rows(changes: Iterable[Any]) -> dict[int, Any]:
    """Return what rows of one model said before these changes, by row."""
    by_number = {change.history_id: change.id for change in changes}
    found = changes_before(changes)
    return {by_number[number]: row for (_model, number), row in found.items()}


def differences(old: Any, new: Any, names: "Names") -> list[FieldChange]:
    """Return what a change did, field by field; of a row that began or ended, what it said.

    Of two fields that say the same by the same name, such as a device's identifier and the device,
    it is said once.
    """
    changes: dict[tuple[str, str, str], FieldChange] = {}
    if new.history_type == ChangeType.TRIED:
        return []
    for field in new.tracked_fields:
        if field.primary_key or new.is_link:
            continue
        now = getattr(new, field.attname)
        was = getattr(old, field.attname) if old is not None else None
        if new.history_type == ChangeType.DELETED:
            was, now = now, None
        said = was if now is None else now
        if was != now and not (old is None and (_is_empty(said) or said == field.get_default())):
            told = (
                capitalized(str(field.verbose_name)),
                names.value(field, was),
                names.value(field, now),
            )
            changes.setdefault(told, FieldChange(field.attname, *told))
    return list(changes.values())


def _is_empty(value: Any) -> bool:
    return value is None or value in ("", {}, [])


class Names:
    """What rows are called that changes are about or refer to: today, or when they were deleted."""

    def __init__(self, changes: Iterable[Any]) -> None:
        wanted: dict[type[models.Model], set[int]] = defaultdict(set)
        for change in changes:
            for field in change.tracked_fields:
                key = getattr(change, field.attname)
                if field.is_relation and key is not None:
                    wanted[field.related_model].add(key)
            if getattr(change.instance_type, "named_by_row", False):
                wanted[change.instance_type].add(change.id)
        self._rows: dict[tuple[type[models.Model], int], models.Model] = {}
        for model, keys in wanted.items():
            self._load(model, keys)

    def _load(self, model: type[models.Model], keys: set[int]) -> None:
        rows = model._default_manager.in_bulk(keys)
        self._rows.update({(model, pk): row for pk, row in rows.items()})
        gone = keys - rows.keys()
        if gone and keeps_history(model):
            for change in history_of(model).objects.filter(id__in=gone).order_by("history_id"):
                self._rows[model, change.id] = self._instance(change)

    def _instance(self, change: Any) -> models.Model:
        """Return a row as a change left it, with the rows that it refers to as far as known."""
        fields = change.tracked_fields
        instance: models.Model = change.instance_type(
            **{field.attname: getattr(change, field.attname) for field in fields}
        )
        for field in fields:
            if field.is_relation:
                key = getattr(change, field.attname)
                related = self._rows.get((field.related_model, key), field.related_model(pk=key))
                field.set_cached_value(instance, None if key is None else related)
        return instance

    def subject(self, change: Any) -> str:
        """Return what the row of a change is called."""
        if change.is_link:
            fields = change.tracked_fields
            ends = (self.value(field, getattr(change, field.attname)) for field in fields)
            return " · ".join(map(isolated, ends))
        if getattr(change.instance_type, "named_by_row", False):
            row = self._rows.get((change.instance_type, change.id))
            return str(row or self._instance(change))
        return str(self._instance(change))

    def value(self, field: Any, value: Any) -> str:
        if _is_empty(value):
            return ""
        if field.is_relation:
            row = self._rows.get((field.related_model, value))
            return str(row or f"{field.related_model._meta.verbose_name} {value}")
        if field.choices:
            return str(dict(field.flatchoices).get(value, value))
        if isinstance(value, bool):
            return _("Yes") if value else _("No")
        if isinstance(value, datetime):
            return in_utc(value)
        return ", ".join(map(_plain, value)) if isinstance(value, list) else _plain(value)


def _plain(value: Any) -> str:
    is_json = isinstance(value, dict | list)
    return attributes.as_text(value, sort_keys=True) if is_json else str(value)
