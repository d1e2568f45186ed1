"""The history into a file, for auditors: whole or not at all, the latest change first."""

from collections.abc import Iterator, Mapping
from typing import Any

from django.conf import settings
from django.db.models import Q
from django.utils import translation

from devices.history import timeline
from devices.history.timeline import Entry
from devices.transfer.exporting import BATCH, Export, export_rows
from devices.transfer.formats import Format

COLUMNS = (
    *("moment", "change", "model", "number", "subject", "by", "origin", "reason", "request"),
    "fields",
)
CHANGES = {"+": "created", "~": "changed", "-": "deleted"}


def export_changes(where: Mapping[Any, Q], kind: Format, *, most: int | None = None) -> Export:
    """Return the changes of some histories, each under its condition, in constant memory.

    No history holds a secret. Fields are called as staff call them, in the language of commands,
    whoever asks. Raises ValidationError where there are more than `most`.
    """
    with translation.override(settings.LANGUAGE_CODE):
        row = _cells if kind.is_flat else _values
        return export_rows(COLUMNS, map(row, _streamed(where)), kind, most=most)


def _streamed(where: Mapping[Any, Q]) -> Iterator[Entry]:
    after = None
    while True:
        page = timeline.latest(where, BATCH, after)
        yield from page.entries
        if page.older is None:
            return
        after = page.older


def _values(entry: Entry) -> dict[str, Any]:
    change = entry.change
    return {
        "moment": change.history_date.isoformat(),
        "change": CHANGES[change.history_type],
        "model": entry.model._meta.label_lower,
        "number": entry.page[1],
        "subject": entry.subject,
        "by": change.history_user_id,
        "origin": change.origin,
        "reason": change.history_change_reason,
        "request": change.request,
        "fields": [{"field": one.name, "from": one.old, "to": one.new} for one in entry.fields],
    }


def _cells(entry: Entry) -> dict[str, Any]:
    told = "; ".join(f"{one.name}: {one.old} → {one.new}" for one in entry.fields)
    return {**_values(entry), "fields": told}
