"""A long text that was exported did not come back: a workbook cut it, an import refused it.

openpyxl cuts what goes beyond a spreadsheet's limit of 32,767 characters in a cell, without a word.

A public report of this kind: https://github.com/odoo/odoo/issues/25653.
"""

from collections.abc import Callable
from typing import Any

import pytest
from django.core.exceptions import ValidationError

from devices.models import Device, DeviceGroup
from devices.transfer.exporting import export_devices, export_groups
from devices.transfer.formats import Format
from devices.values.text import MAX_TEXT_LENGTH
from tests.devices.transfer.test_importing import load, outcome

pytestmark = pytest.mark.django_db

MakeDevice = Callable[..., Device]
MAX_CELL = 32_767  # characters, by a spreadsheet's limits


def exported(kind: Format) -> bytes:
    with export_devices(Device.objects.all(), kind).file as file:
        return file.read()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("description", "x" * MAX_CELL),
        ("description", "\U0001f600" * (MAX_CELL // 2)),
        ("attributes", {"a": "x" * (MAX_CELL - len('{"a": ""}'))}),
    ],
)
def test_workbook_holds_a_cell_whole_or_is_not_written(
    make_device: MakeDevice, field: str, value: Any
) -> None:
    device = make_device(**{field: value})
    assert outcome(load(exported(Format.XLSX), Format.XLSX)) == {"unchanged": 1}

    longer = {**value, "b": 1} if isinstance(value, dict) else f"{value}xy"
    Device.objects.filter(pk=device.pk).update(**{field: longer})

    with pytest.raises(ValidationError, match=rf"Row 2, {field}: .*at most 32767 .*use CSV"):
        exported(Format.XLSX)
    for kind in (Format.CSV, Format.JSON, Format.NDJSON):
        assert outcome(load(exported(kind), kind)) == {"unchanged": 1}


def test_workbook_of_groups_is_whole_too(make_group: Callable[..., DeviceGroup]) -> None:
    make_group(description="=" + "x" * MAX_CELL)
    with pytest.raises(ValidationError, match=r"Row 2, description"):
        export_groups(DeviceGroup.objects.all(), Format.XLSX)


@pytest.mark.parametrize("kind", [Format.CSV, Format.JSON, Format.NDJSON])
@pytest.mark.parametrize(
    ("field", "longest"),
    [
        ("description", "x" * MAX_TEXT_LENGTH),
        ("attributes", {"a": "x" * (MAX_TEXT_LENGTH - len('{"a": ""}'))}),
    ],
)
def test_the_longest_text_that_is_taken_is_imported_again(
    make_device: MakeDevice, kind: Format, field: str, longest: Any
) -> None:
    make_device(**{field: longest})
    assert outcome(load(exported(kind), kind)) == {"unchanged": 1}


def test_longer_texts_are_refused_and_stored_ones_stay(
    make_device: MakeDevice, make_group: Callable[..., DeviceGroup]
) -> None:
    text = "x" * (MAX_TEXT_LENGTH + 1)
    group = make_group()
    for row, field, value in (
        (make_device(), "description", text),
        (make_device(), "attributes", {"a": text}),
        (group, "description", text),
    ):
        setattr(row, field, value)
        with pytest.raises(ValidationError) as refused:
            row.full_clean()
        assert list(refused.value.message_dict) == [field]

        type(row).objects.filter(pk=row.pk).update(**{field: value})
        row.full_clean()
