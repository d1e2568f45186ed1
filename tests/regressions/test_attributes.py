"""Attributes with half a surrogate pair were saved, and broke every page and export from then on.

PostgreSQL refuses that and NUL at once ("unsupported Unicode escape sequence"), as users of every
framework with a JSON column have reported; `NaN` and `1e999` are no JSON, and Python reads both.

Public reports of this kind: https://github.com/intelowlproject/IntelOwl/issues/138.
"""

import json
from typing import Any

import pytest
from django.core.exceptions import ValidationError

from devices.models import Device
from devices.transfer.columns import columns_of
from devices.transfer.formats import Format
from devices.transfer.importing import Import
from devices.transfer.rows import Options
from devices.transfer.tables import read
from devices.values import attributes

pytestmark = pytest.mark.django_db

TEXTS = {
    "surrogate": r'{"x": "\ud800"}',
    "surrogate in a key": r'{"\udfff": 1}',
    "surrogate below": r'{"x": [{"y": ["\ud800"]}]}',
    "NUL": r'{"x": "\u0000"}',
    "NaN": '{"x": NaN}',
    "infinity": '{"x": [-Infinity]}',
    "huge": '{"x": 1e308}',
    "too large": '{"x": 1e999}',
    "too long": '{"x": %s}' % ("9" * 5000),
    "too long below zero": '{"x": -%s}' % ("9" * 400),
    "deep": '{"x":' * 40 + "1" + "}" * 40,
    "very deep": '{"x":' + "[" * 100_000,
    "list": "[]",
    "a name twice": '{"x": 1, "y": {"z": 1, "z": 2}}',
    "cut off": "{",
}
GOOD = r'{"x": "\ud83d\ude00", "y": [1.5, -2, true, null, {"\\u0000": "\\ud800"}], "z": 1.25}'


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_text_that_cannot_be_stored_is_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        attributes.parse(text)


@pytest.mark.parametrize(
    "value",
    [
        *({"x": "\ud800"}, {"\x00": 1}, {"x": float("nan")}, {"x": float("inf")}, {"x": 10**5000}),
        *([], {"x": {1}}, {"x": b"x"}),
    ],
    ids=["surrogate", "NUL", "NaN", "infinity", "long", "list", "set", "bytes"],
)
def test_values_that_cannot_be_stored_are_refused(value: Any) -> None:
    with pytest.raises(ValidationError) as refusal:
        Device(identifier="lamp", attributes=value).full_clean()
    assert set(refusal.value.message_dict) == {"attributes"}


def test_what_is_taken_comes_back() -> None:
    device = Device(identifier="lamp", attributes=attributes.parse(GOOD))
    device.full_clean()
    device.save()
    device.refresh_from_db()
    assert device.attributes == json.loads(GOOD)
    device.full_clean()  # what a database gives back can be saved again


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_an_import_refuses_them_by_row_and_column(text: str) -> None:
    quoted = text.replace('"', '""')
    content = f'identifier;attributes\nlamp;"{quoted}"\n'.encode()
    run = Import(read(content, Format.CSV, columns_of), Options())
    run.check()
    assert [(one.row, one.column) for one in run.problems] == [(2, "attributes")]
