"""Tables that are texts: CSV, JSON and NDJSON, read and written a row at a time."""

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, islice

from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

from devices.transfer.formats import (
    MAX_BYTES,
    SEPARATORS,
    Format,
    Layout,
    Problem,
    Record,
    Row,
    defused,
    header_of,
    refused,
    undefused_cell,
)
from devices.values import attributes
from devices.values.json_text import (
    TWICE,
    DuplicateNameError,
    LongNumberError,
    named_once,
    no_constant,
    whole_number,
)
from devices.values.text import joined

MAX_UNKNOWN = 64  # columns of an object that are reported; there may be millions


def _lines(content: bytes) -> Iterator[str]:
    encoding = json.detect_encoding(content)  # by its mark, or the zeros with which it begins
    try:
        yield from io.TextIOWrapper(io.BytesIO(content), encoding, newline="")
    except UnicodeError:
        raise _wrong_encoding(content, encoding) from None


def _wrong_encoding(content: bytes, encoding: str) -> ValidationError:
    """Return where a text is not in its encoding, and which one it may be in."""
    try:
        content.decode(encoding)
    except UnicodeDecodeError as error:
        wrong = content[error.start : error.start + 1]
        line = content.count(b"\n", 0, error.start) + 1
        if encoding.startswith("utf-8") and (meant := wrong.decode("cp1252", errors="ignore")):
            return refused(
                _(
                    "Line %(line)d is not UTF-8: this seems to be Windows-1252, where its first "
                    "such sign is “%(meant)s”. Save the file as “CSV UTF-8”."
                ),
                line=line,
                meant=meant,
            )
        return refused(_("Line %(line)d is not UTF-8; save the file as “CSV UTF-8”."), line=line)
    return refused(_("The file is not UTF-8; save it as “CSV UTF-8”."))


def _delimiter(line: str, layout: Layout) -> str:
    """Return what separates the cells of a header: the sign that leaves the most known names."""

    def known(delimiter: str) -> int:
        names = [name.strip().strip('"').lower() for name in line.strip().split(delimiter)]
        return len(set(names) & set(layout(names)))

    return max(SEPARATORS, key=known)


BLANK_ROW = re.compile(r'(?:[\s,;\ufeff]|"")*')


def read_csv(content: bytes, layout: Layout) -> Iterator[Record]:
    """Yield the rows of a table whose cells a comma, a semicolon or a tab separates."""
    row = 1
    lines = _lines(content)
    first = next(lines, "")
    named = re.fullmatch(r'sep=([^"\r\n])\r?\n?', first)  # as some spreadsheets begin
    if named:
        first = next(lines, "")
    while first and BLANK_ROW.fullmatch(first):
        row += 1
        first = next(lines, "")
    if not first:
        raise refused(_("The file is empty."))
    delimiter = named[1] if named else _delimiter(first, layout)
    csv.field_size_limit(MAX_BYTES)  # cells are bounded where their row and column are known
    rows = csv.reader(chain([first], lines), delimiter=delimiter, strict=True)
    try:
        header = header_of(next(rows), layout, row)
        for cells in rows:
            row += 1
            if any(cells):
                yield _record(row, header, cells)
    except csv.Error as error:
        raise refused(
            _("The quotes of the file do not match: %(error)s."), row=row + 1, error=error
        ) from None


def _record(row: int, header: Sequence[str], cells: Sequence[str]) -> Record:
    """Return a row; cells that are missing at its end are empty, as spreadsheets write them."""
    padded = [*cells, *[""] * (len(header) - len(cells))]
    record = Record(row, {name: undefused_cell(name, c) for name, c in zip(header, padded)})  # noqa: B905
    if any(cells[len(header) :]):
        record.problems.append(
            Problem(
                row,
                "",
                _("The row has %(cells)d cells, the header has %(columns)d.")
                % {"cells": len(cells), "columns": len(header)},
            )
        )
    return record


@contextmanager
def _decoding(row: int, otherwise: str) -> Iterator[None]:
    """Refuse the file where the block cannot decode a row; `otherwise` says what it is not."""
    try:
        yield
    except DuplicateNameError as error:
        raise refused(str(TWICE), row=row, name=error.name[:100]) from None
    except LongNumberError as error:
        raise refused(str(error), row=row) from None
    except (ValueError, RecursionError):
        raise refused(otherwise, row=row) from None


def read_ndjson(content: bytes, layout: Layout) -> Iterator[Record]:
    """Yield the objects of a text, one a line."""
    for row, line in enumerate(_lines(content), 1):
        if line.strip():
            with _decoding(row, _("The line is no JSON object.")):
                found = DECODER.decode(line)
            yield _object(row, found, layout)


BLANK = re.compile(r"[ \t\r\n]*")


def read_json(content: bytes, layout: Layout) -> Iterator[Record]:
    """Yield the objects of an array one by one: only one of them is held at a time."""
    text = "".join(_lines(content))
    row, position = 0, _skip(text, 0)
    if text[position : position + 1] != "[":
        raise refused(_("The file is no JSON array of objects."))
    position = _skip(text, position + 1)
    while text[position : position + 1] != "]":
        row += 1
        with _decoding(row, _("This is no JSON.")):
            found, position = DECODER.raw_decode(text, position)
        yield _object(row, found, layout)
        position = _skip(text, position)
        if text[position : position + 1] == ",":
            position = _skip(text, position + 1)
            if text[position : position + 1] == "]":
                raise refused(_("This is no JSON."), row=row + 1)
        elif text[position : position + 1] != "]":
            raise refused(_("The array does not end."), row=row)
    if _skip(text, position + 1) != len(text):
        raise refused(_("Something follows the array."))


def _skip(text: str, position: int) -> int:
    match = BLANK.match(text, position)
    return match.end() if match else position


DECODER = json.JSONDecoder(
    parse_int=whole_number, parse_constant=no_constant, object_pairs_hook=named_once
)


def _object(row: int, found: object, layout: Layout) -> Record:
    if not isinstance(found, dict):
        return Record(row, {}, [Problem(row, "", _("This is no JSON object."))])
    columns = layout(found)
    record = Record(row, {name: found[name] for name in columns if name in found})
    unknown = found.keys() - set(columns)
    known = joined(columns) if unknown else ""
    for name in islice(unknown, MAX_UNKNOWN):
        message = _("There is no column “%(name)s”. Known are: %(known)s.")
        record.problems.append(Problem(row, name, message % {"name": name[:100], "known": known}))
    return record


# --- Writing ----------------------------------------------------------------------------------


class _Line:
    """What a writer of CSV writes a row to: it comes back as a text."""

    def write(self, text: str) -> str:
        return text


def lines(
    columns: Sequence[str], rows: Iterable[Row], kind: Format, separator: str = ","
) -> Iterator[str]:
    """Yield a table as text: its head, each row, and its end. A workbook is no text."""
    if kind == Format.CSV:
        line = csv.writer(_Line(), delimiter=separator).writerow
        yield f"\ufeff{line(columns)}"  # without this mark, Excel reads UTF-8 as something else
        for row in rows:
            yield line([defused(row[name]) for name in columns])
    elif kind == Format.NDJSON:
        for row in rows:
            yield f"{dumps(row)}\n"
    else:
        before = "["
        for row in rows:
            yield f"{before}\n{dumps(row)}"
            before = ","
        yield "[]\n" if before == "[" else "\n]\n"


def dumps(row: Row) -> str:
    return attributes.as_text(row)
