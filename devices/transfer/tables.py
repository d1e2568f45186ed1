"""Tables in files, read and written a row at a time, whatever their format.

What is read is bounded before it is believed, and nothing of it goes to a disk.
"""

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import IO

from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

from devices.transfer import texts
from devices.transfer.formats import (
    MAX_BYTES,
    MAX_ROWS,
    Format,
    Layout,
    Problem,
    Record,
    Row,
    refused,
)
from devices.values.text import MAX_TEXT_LENGTH, unstorable_in

ZIP = b"PK\x03\x04"


def read(content: bytes, kind: Format, layout: Layout) -> Iterator[Record]:
    """Yield the rows of a file; raises ValidationError where it is no such file or too large."""
    if len(content) > MAX_BYTES:
        raise refused(
            _("The file is larger than %(most)d MiB; split it."), most=MAX_BYTES // 1024**2
        )
    if kind != Format.XLSX and content.startswith(ZIP):
        raise refused(_("This is a workbook or an archive; a workbook's name ends with .xlsx."))
    for number, record in enumerate(_reader(kind)(content, layout), 1):
        if number > MAX_ROWS:
            raise refused(
                _("The file has more than %(most)d rows; split it."), row=record.row, most=MAX_ROWS
            )
        for column, value in record.cells.items():
            if message := _unusable(value):
                record.problems.append(Problem(record.row, column, message))
        for problem in record.problems:
            record.cells.pop(problem.column, None)
        yield record


def _reader(kind: Format) -> Callable[[bytes, Layout], Iterator[Record]]:
    if kind == Format.XLSX:
        from devices.transfer import workbooks  # 15 MB, which most servers never need

        return workbooks.read
    return {
        Format.CSV: texts.read_csv,
        Format.JSON: texts.read_json,
        Format.NDJSON: texts.read_ndjson,
    }[kind]


def _unusable(value: object) -> str:
    """Return why a cell can be no value at all; "" where it can."""
    if not isinstance(value, str):
        return ""
    if len(value) > MAX_TEXT_LENGTH:
        return _("The cell has more than %(most)d characters.") % {"most": MAX_TEXT_LENGTH}
    if unstorable_in(value) is not None:
        return _("The cell holds what is no character.")
    return ""


def write(
    file: IO[bytes],
    columns: Sequence[str],
    rows: Iterable[Row],
    kind: Format,
    *,
    most: int | None = None,
) -> int:
    """Write a table and return its number of rows.

    Raises ValidationError where there are more than `most`, or than a workbook is written with.
    """
    written = 0

    def counted() -> Iterator[Row]:
        nonlocal written
        for written, row in enumerate(rows, 1):
            if most is not None and written > most:
                text = _(
                    "These are more than %(most)d rows: narrow them down, or use the command line."
                )
                raise ValidationError(text, params={"most": most})
            yield row

    if kind == Format.XLSX:
        from devices.transfer import workbooks  # 15 MB, which most servers never need

        return workbooks.write(file, columns, counted())
    text = io.TextIOWrapper(file, "utf-8", newline="")
    text.writelines(texts.lines(columns, counted(), kind))
    text.detach()  # `file` stays open
    return written
