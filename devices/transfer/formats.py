"""Tables in files: CSV, JSON, NDJSON and XLSX, read and written a row at a time.

What is read is bounded before it is believed, and nothing of it goes to a disk.
"""

import codecs
import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import IO, Any, NamedTuple, Protocol

from django.core.exceptions import ValidationError
from django.db import models
from django.utils.translation import gettext as _, gettext_lazy

from devices import attributes
from devices.text import storable

MAX_BYTES = 64 * 1024 * 1024
MAX_ROWS = 250_000
MAX_COLUMNS = 64
MAX_CHARACTERS = 131_072  # in a cell


class Format(models.TextChoices):
    """A kind of file, by the ending of its name."""

    CSV = "csv", "CSV"
    JSON = "json", "JSON"
    NDJSON = "ndjson", "NDJSON"
    XLSX = "xlsx", "XLSX"

    @property
    def content_type(self) -> str:
        """The format's media type."""
        return CONTENT_TYPES[self]

    @property
    def is_flat(self) -> bool:
        """Whether every cell is a text, as in a spreadsheet."""
        return self in {Format.CSV, Format.XLSX}


CONTENT_TYPES = {
    Format.CSV: "text/csv; charset=utf-8",
    Format.JSON: "application/json",
    Format.NDJSON: "application/x-ndjson",
    Format.XLSX: "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}


ENDINGS = {
    "jsonl": "ndjson",
    "tsv": "csv",
    "txt": "csv",
    **dict.fromkeys(("xlsm", "xltx", "xltm"), "xlsx"),  # with macros, which are not run; templates
}


def format_of(name: str) -> Format:
    """Return the format that a file's name tells; raises ValidationError where it tells none."""
    ending = PurePath(name).suffix.lower().removeprefix(".")
    try:
        return Format(ENDINGS.get(ending, ending))
    except ValueError:
        raise ValidationError(
            _("The name of the file does not tell its format. Known are: %(formats)s."),
            code="format",
            params={"formats": ", ".join(f".{known}" for known in Format.values)},
        ) from None


# --- Cells that a spreadsheet would run ------------------------------------------------------

# A cell begins where its text does and, for a spreadsheet that expects another separator than the
# file has, after each sign that might be one. Quotes before a formula do not make a text of it.
BEGINS = r"(?:^|(?<=[;,|\t\r\n]))"
FORMULA = r"(?=[\"']*[=+\-@\t\r\n＝＋－＠])"  # noqa: RUF001 - full-width signs start formulas, too


def defused(text: str) -> str:
    """Return a cell that no spreadsheet takes for a formula: an apostrophe goes before each."""
    return re.sub(BEGINS + FORMULA, "'", text)


def undefused(text: str) -> str:
    """Return what `defused` was given."""
    return re.sub(f"{BEGINS}'{FORMULA}", "", text) if "'" in text else text


# --- Reading --------------------------------------------------------------------------------


class Problem(NamedTuple):
    """What is wrong, and where. Row 0 is the file as a whole, column "" the row as a whole."""

    row: int
    column: str
    message: str


@dataclass(slots=True)
class Record:
    """A row of a table. Rows count as a spreadsheet counts them, or as objects or lines do."""

    row: int
    cells: dict[str, Any]
    problems: list[Problem] = field(default_factory=list)


class Layout(Protocol):
    """What a reader must know of the tables that it may find."""

    def columns_of(self, header: Iterable[str]) -> Sequence[str]:
        """Return the columns of the table that a header belongs to, the one that it needs first."""


def refused(message: str, *, row: int = 0, **params: object) -> ValidationError:
    """Return the refusal of a whole file, from a row on where one is to blame."""
    text = storable(message % params if params else message)
    where = _("Row %(row)d: ") % {"row": row} if row else ""
    return ValidationError(where + text, code="file")


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
    return {Format.CSV: _read_csv, Format.JSON: _read_json, Format.NDJSON: _read_ndjson}[kind]


def _unusable(value: object) -> str:
    """Return why a cell can be no value at all; "" where it can."""
    if not isinstance(value, str):
        return ""
    if len(value) > MAX_CHARACTERS:
        return _("The cell has more than %(most)d characters.") % {"most": MAX_CHARACTERS}
    if "\x00" in value or (
        not value.isascii() and any("\ud800" <= char <= "\udfff" for char in value)
    ):
        return _("The cell holds what is no character.")
    return ""


def header_of(names: Sequence[str], layout: Layout) -> list[str]:
    """Return the columns that a header names, or raise ValidationError with the known ones."""
    wanted = [name.replace("\ufeff", "").strip().lower() for name in names]
    while wanted and not wanted[-1]:
        wanted.pop()
    known = layout.columns_of(wanted)
    for name in wanted:
        if name not in known:
            raise refused(
                _("There is no column “%(name)s”. Known are: %(known)s."),
                row=1,
                name=name[:100],
                known=", ".join(known),
            )
        if wanted.count(name) > 1:
            raise refused(_("The column “%(name)s” is there twice."), row=1, name=name)
    if known[0] not in wanted:
        raise refused(_("The column “%(name)s” is missing."), row=1, name=known[0])
    return wanted


def _lines(content: bytes) -> Iterator[str]:
    """Yield the lines of a text in UTF-8 or UTF-16."""
    encoding = _encoding(content)
    try:
        yield from io.TextIOWrapper(io.BytesIO(content), encoding, newline="")
    except UnicodeError:
        raise _wrong_encoding(content, encoding) from None


def _encoding(content: bytes) -> str:
    """Return what a text is in: UTF-16 without a mark shows at its first ASCII character."""
    if content[:2] in {codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE}:
        return "utf-16"
    zeros = content[:1] == b"\x00", content[1:2] == b"\x00"
    return {(False, True): "utf-16-le", (True, False): "utf-16-be"}.get(zeros, "utf-8-sig")


def _wrong_encoding(content: bytes, encoding: str) -> ValidationError:
    """Return where a text is not in its encoding, and which one it may be in."""
    try:
        content.decode(encoding)
    except UnicodeDecodeError as error:
        wrong = content[error.start : error.start + 1]
        line = content.count(b"\n", 0, error.start) + 1
        if encoding == "utf-8-sig" and (meant := wrong.decode("cp1252", errors="ignore")):
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
        return len(set(names) & set(layout.columns_of(names)))

    return max(SEPARATORS, key=known)


def _read_csv(content: bytes, layout: Layout) -> Iterator[Record]:
    row = 1
    lines = _lines(content)
    first = next(lines, "")
    named = re.fullmatch(r'sep=([^"\r\n])\r?\n?', first)  # as some spreadsheets begin
    if named:
        first = next(lines, "")
    if not first:
        raise refused(_("The file is empty."))
    delimiter = named[1] if named else _delimiter(first, layout)
    csv.field_size_limit(MAX_BYTES)  # cells are bounded where their row and column are known
    rows = csv.reader(_again(first, lines), delimiter=delimiter, strict=True)
    try:
        header = header_of(next(rows), layout)
        for cells in rows:
            row += 1
            if any(cells):
                yield _record(row, header, cells)
    except csv.Error as error:
        raise refused(
            _("The quotes of the file do not match: %(error)s."), row=row + 1, error=error
        ) from None


def _again(first: str, lines: Iterator[str]) -> Iterator[str]:
    yield first
    yield from lines


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


def undefused_cell(column: str, text: str) -> str:
    """Return what a cell of a spreadsheet says; a secret is taken exactly as it stands."""
    return text if column == "secret" else undefused(text)


def _read_ndjson(content: bytes, layout: Layout) -> Iterator[Record]:
    for row, line in enumerate(_lines(content), 1):
        if line.strip():
            try:
                yield _object(row, DECODER.decode(line), layout)
            except TwiceError as error:
                raise error.refusal(row) from None
            except (ValueError, RecursionError):
                raise refused(_("The line is no JSON object."), row=row) from None


BLANK = re.compile(r"[ \t\r\n]*")


def _read_json(content: bytes, layout: Layout) -> Iterator[Record]:
    """Yield the objects of an array one by one: only one of them is held at a time."""
    text = "".join(_lines(content))
    row, position = 0, _skip(text, 0)
    if text[position : position + 1] != "[":
        raise refused(_("The file is no JSON array of objects."))
    position = _skip(text, position + 1)
    while text[position : position + 1] != "]":
        row += 1
        try:
            found, position = DECODER.raw_decode(text, position)
        except TwiceError as error:
            raise error.refusal(row) from None
        except (ValueError, RecursionError):
            raise refused(_("This is no JSON."), row=row) from None
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


def _no_constant(name: str) -> Any:
    raise ValueError(name)


class TwiceError(ValueError):
    """A name stands twice in one object: one of the two values would be lost."""

    def refusal(self, row: int) -> ValidationError:
        return refused(_("“%(name)s” stands twice in one object."), row=row, name=str(self)[:100])


def _named_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _value in pairs]
        raise TwiceError(next(name for name in names if names.count(name) > 1))
    return found


DECODER = json.JSONDecoder(parse_constant=_no_constant, object_pairs_hook=_named_once)


def _object(row: int, found: object, layout: Layout) -> Record:
    if not isinstance(found, dict):
        return Record(row, {}, [Problem(row, "", _("This is no JSON object."))])
    known = layout.columns_of(found)
    record = Record(row, found)
    for name in found.keys() - set(known):
        message = _("There is no column “%(name)s”. Known are: %(known)s.")
        record.problems.append(
            Problem(row, name, message % {"name": name[:100], "known": ", ".join(known)})
        )
    return record


# --- Writing --------------------------------------------------------------------------------

SEPARATORS = {
    ",": gettext_lazy("comma"),
    ";": gettext_lazy("semicolon (Excel in German, French, Spanish and others)"),
    "\t": gettext_lazy("tab"),
}
Row = Mapping[str, Any]


def write(
    file: IO[bytes],
    columns: Sequence[str],
    rows: Iterable[Row],
    kind: Format,
    separator: str = ",",
) -> int:
    """Write a table and return its number of rows; they are texts where the format is flat.

    `separator`, one of SEPARATORS, stands between the cells of CSV. Raises ValidationError where a
    workbook would have too many.
    """
    if kind == Format.XLSX:
        from devices.transfer import workbooks  # 15 MB, which most servers never need

        return workbooks.write(file, columns, rows)
    written = 0

    def counted() -> Iterator[Row]:
        nonlocal written
        for written, row in enumerate(rows, 1):  # noqa: B007 (it is counted)
            yield row

    text = io.TextIOWrapper(file, "utf-8", newline="")
    text.writelines(lines(columns, counted(), kind, separator))
    text.detach()  # `file` stays open
    return written


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
    """Return a row as a line of JSON."""
    return attributes.as_text(row)
