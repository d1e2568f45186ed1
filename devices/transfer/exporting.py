"""Devices, groups and the history into files; never a secret. (docs/transfer.md)

A file is written whole or not at all, or in pieces as it is read: a stream that breaks off says so.
"""

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, repeat
from typing import IO, Any, NamedTuple

from django.conf import settings
from django.db.models import Q, QuerySet
from django.utils import translation

from devices.history import timeline
from devices.history.timeline import Entry
from devices.models import Device, DeviceGroup
from devices.models.device import DeviceQuerySet
from devices.transfer.columns import DEVICE_COLUMNS, GROUP_COLUMNS, group_cell
from devices.transfer.formats import Format, Row
from devices.transfer.tables import write
from devices.transfer.texts import lines
from devices.values import addresses, attributes

BATCH = 500  # rows in a statement; a download begins after the first of them
PIECE = 16 * 1024  # characters
NOT_EXPORTED = frozenset({"secret_until", "certificate"})
EXPORT_COLUMNS = tuple(name for name in DEVICE_COLUMNS if name not in NOT_EXPORTED)


class Export(NamedTuple):
    """A file that is complete, at its beginning, and the number of rows in it.

    It is a temporary one without a name: what fails on the way hands out nothing.
    """

    file: IO[bytes]
    rows: int


def values_of(device: Device) -> dict[str, Any]:
    """Return a device of `for_export()` as JSON values."""
    return {
        "identifier": addresses.written(device.identifier),
        "kind": device.kind,
        "name": device.name,
        "groups": [group.name for group in device.groups.all()],
        "enabled": device.enabled,
        "description": device.description,
        "attributes": device.attributes,
        "created": device.created.isoformat(),
        "last_seen": device.last_seen.isoformat() if device.last_seen else None,
        "live_keys": getattr(device, "live_keys", None),
        "live_certificates": getattr(device, "live_certificates", None),
    }


def _cells(device: Device) -> dict[str, Any]:
    """Return a device of `for_export()` as the cells of a spreadsheet.

    The column `secret` is there to be filled in; nothing is ever exported in it.
    """
    values = values_of(device)
    return {
        **values,
        "groups": group_cell(values["groups"]),
        "secret": "",
        "attributes": attributes.as_text(device.attributes) if device.attributes else "",
    }


def export_devices(devices: DeviceQuerySet, kind: Format) -> Export:
    """Return the devices as a file of a format, in constant memory.

    Raises ValidationError where they are more than a workbook is written with.
    """
    rows = map(_cells if kind.is_flat else values_of, streamed(devices))
    return export_rows(EXPORT_COLUMNS, rows, kind)


def devices_in_pieces(
    devices: DeviceQuerySet, kind: Format, separator: str = ","
) -> Iterator[bytes]:
    """Return the same file, which is no workbook, piece by piece as the devices are read.

    `separator`, one of SEPARATORS, stands between the cells of CSV.
    What fails before the first piece is raised at once. Where a later one fails, whoever sends them
    must break the connection off, as authsite/operations/asgi.py does: otherwise a part would look
    like the whole file.
    """
    rows = map(_cells if kind.is_flat else values_of, streamed(devices))
    pieces = _pieces(lines(EXPORT_COLUMNS, rows, kind, separator))
    return chain([next(pieces)], pieces)


def _pieces(texts: Iterable[str]) -> Iterator[bytes]:
    """Yield texts as a few large pieces, which a server sends faster than many small ones."""
    waiting, size = [], 0
    for text in texts:
        waiting.append(text)
        size += len(text)
        if size >= PIECE:
            yield "".join(waiting).encode()
            waiting, size = [], 0
    yield "".join(waiting).encode()


def export_groups(groups: "QuerySet[DeviceGroup]", kind: Format) -> Export:
    """Return the groups as a file of a format that an import understands."""
    rows = [
        {
            "group": group.name,
            "parent": group.parent.name if group.parent else "",
            "description": group.description,
        }
        for group in groups.order_by("name").select_related("parent")
    ]
    return export_rows(GROUP_COLUMNS, rows, kind)


def export_secrets(file: IO[bytes], generated: Sequence[tuple[str, str]], kind: Format) -> None:
    """Write identifiers and their generated secrets as a table that can be imported elsewhere."""
    rows = (
        {"identifier": addresses.written(identifier), "secret": secret}
        for identifier, secret in generated
    )
    write(file, ("identifier", "secret"), rows, kind)


def template(file: IO[bytes], table: str, kind: Format) -> None:
    """Write an empty table to fill in; where rows carry their columns, with one to go by."""
    if kind.is_flat:
        write(file, TEMPLATES[table], [], kind)
    else:
        write(file, (), [EXAMPLES[table]], kind)


TEMPLATES = {
    "devices": ("identifier", "kind", "name", "groups", "enabled", "secret"),
    "groups": GROUP_COLUMNS,
}
EXAMPLES: dict[str, Row] = {
    "devices": {
        "identifier": "00000000-0000-4000-8000-000000000001",
        "kind": "device",
        "name": "An example",
        "groups": [],
        "enabled": True,
        "secret": None,
    },
    "groups": {"group": "An example", "parent": None, "description": ""},
}


def export_rows(
    columns: Sequence[str], rows: Iterable[Row], kind: Format, *, most: int | None = None
) -> Export:
    """Return rows as a file of a format; raises ValidationError as `write` does."""
    file = tempfile.TemporaryFile()  # noqa: SIM115 (whoever hands it out closes it)
    try:
        written = write(file, columns, rows, kind, most=most)
    except BaseException:
        file.close()
        raise
    file.seek(0)
    return Export(file, written)


def streamed(devices: DeviceQuerySet) -> Iterator[Device]:
    """Yield devices for `values_of`, in constant memory."""
    for batch in devices.for_export().in_batches(BATCH):
        yield from batch


# --- The history, for auditors ---------------------------------------------------------------

CHANGE_COLUMNS = (
    *("moment", "change", "model", "number", "subject", "by", "origin", "reason", "request"),
    "fields",
)


def export_changes(where: Mapping[Any, Q], kind: Format, *, most: int | None = None) -> Export:
    """Return the changes of some histories, each under its condition, in constant memory.

    No history holds a secret. Fields are called as staff call them, in the language of commands,
    whoever asks. Raises ValidationError where there are more than `most`.
    """
    with translation.override(settings.LANGUAGE_CODE):
        rows = map(_change_values, _changes(where), repeat(kind.is_flat))
        return export_rows(CHANGE_COLUMNS, rows, kind, most=most)


def _changes(where: Mapping[Any, Q]) -> Iterator[Entry]:
    after = None
    while True:
        page = timeline.latest(where, BATCH, after)
        yield from page.entries
        if page.older is None:
            return
        after = page.older


def _change_values(entry: Entry, is_flat: bool) -> dict[str, Any]:
    change = entry.change
    fields = [{"field": one.name, "from": one.old, "to": one.new} for one in entry.fields]
    return {
        "moment": change.history_date.isoformat(),
        "change": entry.kind.name.lower(),
        "model": entry.model._meta.label_lower,
        "number": entry.page[1],
        "subject": entry.subject,
        "by": change.history_user_id,
        "origin": change.origin,
        "reason": change.history_change_reason,
        "request": change.request,
        "fields": "; ".join(map(str, entry.fields)) if is_flat else fields,
    }
