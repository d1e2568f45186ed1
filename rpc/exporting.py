"""The journal of calls into a file, for auditors: whole or not at all, the latest hour first."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from django.db.models import Q

from devices.transfer.exporting import BATCH, Export, export_rows
from devices.transfer.formats import Format
from rpc.models import CallQuerySet, CallRecord

COLUMNS = (
    *("hour", "endpoint", "question", "caller", "subject", "destination", "command"),
    *("outcome", "reason", "others", "rule", "count", "first", "last", "request"),
)


def export_calls(calls: CallQuerySet, kind: Format, *, most: int | None = None) -> Export:
    """Return rows of the journal as a file of a format, in constant memory.

    Raises ValidationError where there are more than `most`.
    """
    return export_rows(COLUMNS, map(_values, _streamed(calls)), kind, most=most)


def _streamed(calls: CallQuerySet) -> Iterator[CallRecord]:
    """Yield the rows, a batch a statement, along an index; what is counted meanwhile is left."""
    ordered = calls.order_by("-bucket", "-pk")
    batch = list(ordered[:BATCH])
    while batch:
        yield from batch
        last = batch[-1]
        older = Q(bucket__lt=last.bucket) | Q(bucket=last.bucket, pk__lt=last.pk)
        batch = list(ordered.filter(older, bucket__lte=last.bucket)[:BATCH])


def _values(call: CallRecord) -> dict[str, Any]:
    values: dict[str, Any] = {"hour": call.bucket.isoformat()}
    for name in COLUMNS[1:]:
        value = getattr(call, name)
        values[name] = value.isoformat() if isinstance(value, datetime) else value
    return values
