"""Devices and groups into files, streamed; never a secret or a digest. (docs/transfer.md)"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.utils.translation import gettext as _

from devices import addresses
from devices.models import Device, DeviceGroup
from devices.models.device import DeviceQuerySet
from devices.transfer.formats import MAX_SHEET_ROWS, Format, Row, write
from devices.transfer.importing import DEVICE_COLUMNS, GROUP_COLUMNS, group_cell

BATCH = 1_000
NOT_EXPORTED = frozenset({"secret_until", "certificate"})
EXPORT_COLUMNS = tuple(name for name in DEVICE_COLUMNS if name not in NOT_EXPORTED)


def _values(device: Device) -> dict[str, Any]:
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


def _texts(device: Device) -> dict[str, str]:
    """Return a device of `for_export()` as the cells of a spreadsheet.

    The column `secret` is there to be filled in; nothing is ever exported in it.
    """
    values = _values(device)
    return {
        **{name: "" if value is None else str(value) for name, value in values.items()},
        "groups": group_cell(values["groups"]),
        "enabled": "true" if device.enabled else "false",
        "secret": "",
        "attributes": json.dumps(device.attributes, ensure_ascii=False)
        if device.attributes
        else "",
    }


def export_devices(devices: DeviceQuerySet, kind: Format) -> Iterator[bytes]:
    """Yield the devices as a file of a format, in constant memory.

    Raises ValidationError where they are more than a sheet of a workbook holds.
    """
    if kind == Format.XLSX and devices.count() >= MAX_SHEET_ROWS:
        raise ValidationError(
            _("A sheet of a workbook holds no more than %(most)d devices; use CSV."),
            params={"most": MAX_SHEET_ROWS - 1},
        )
    row = _texts if kind.is_flat else _values
    return write(EXPORT_COLUMNS, _rows(devices.for_export().in_batches(BATCH), row), kind)


def export_groups(groups: "QuerySet[DeviceGroup]", kind: Format) -> Iterator[bytes]:
    """Yield the groups as a file of a format that an import understands."""
    rows = [
        {
            "group": group.name,
            "parent": group.parent.name if group.parent else "",
            "description": group.description,
        }
        for group in groups.order_by("name").select_related("parent")
    ]
    return write(GROUP_COLUMNS, [rows], kind)


def export_secrets(generated: Sequence[tuple[str, str]], kind: Format) -> Iterator[bytes]:
    """Yield identifiers and their generated secrets as a file that can be imported elsewhere."""
    rows = (
        {"identifier": addresses.written(identifier), "secret": secret}
        for identifier, secret in generated
    )
    return write(("identifier", "secret"), [rows], kind)


def template(table: str, kind: Format) -> Iterator[bytes]:
    """Return an empty table to fill in; where rows carry their columns, with one to go by."""
    if kind.is_flat:
        return write(TEMPLATES[table], [], kind)
    return write((), [[EXAMPLES[table]]], kind)


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


def _rows(batches: Iterable[list[Device]], row: Callable[[Device], Row]) -> Iterator[Iterable[Row]]:
    for devices in batches:
        yield map(row, devices)
