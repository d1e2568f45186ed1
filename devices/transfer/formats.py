"""Tables in files: CSV, JSON, NDJSON and XLSX, read and written a row at a time.

What is read is bounded before it is believed, and nothing of it goes to a disk. What is written
streams in every format.
"""

import csv
import io
import json
import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import PurePath
from typing import IO, Any, NamedTuple, Protocol
from xml.etree.ElementTree import ParseError
from xml.parsers import expat
from xml.sax.saxutils import escape

from django.core.exceptions import ValidationError
from django.db import models
from django.utils.translation import gettext as _

MAX_BYTES = 64 * 1024 * 1024
MAX_UNPACKED = 256 * 1024 * 1024  # of a workbook; its shared strings are held in memory
MAX_SHARED_STRINGS = 64 * 1024 * 1024
MAX_ELEMENTS = 4_000_000  # of a workbook's part that are held in memory, 90 bytes each
MAX_ROWS = 250_000
MAX_COLUMNS = 64
MAX_CHARACTERS = 131_072  # in a cell
MAX_SHEET_ROWS = 1_048_576  # a spreadsheet's own limit, the header included


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


def format_of(name: str) -> Format:
    """Return the format that a file's name tells; raises ValidationError where it tells none."""
    ending = PurePath(name).suffix.lower().removeprefix(".")
    try:
        return Format({"jsonl": "ndjson", "tsv": "csv", "txt": "csv"}.get(ending, ending))
    except ValueError:
        raise ValidationError(
            _("The name of the file does not tell its format. Known are: %(formats)s."),
            code="format",
            params={"formats": ", ".join(f".{known}" for known in Format.values)},
        ) from None


# --- Cells that a spreadsheet would run ------------------------------------------------------

RUNS = re.compile(r"'*[=+\-@\t\r\n＝＋－＠]")  # noqa: RUF001 - full-width signs start formulas, too


def defused(text: str) -> str:
    """Return a cell that no spreadsheet takes for a formula: an apostrophe goes before it."""
    return f"'{text}" if RUNS.match(text) else text


def undefused(text: str) -> str:
    """Return what `defused` was given."""
    return text[1:] if text.startswith("'") and RUNS.match(text) else text


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
    text = message % params if params else message
    where = _("Row %(row)d: ") % {"row": row} if row else ""
    return ValidationError(where + text, code="file")


def read(content: bytes, kind: Format, layout: Layout) -> Iterator[Record]:
    """Yield the rows of a file; raises ValidationError where it is no such file or too large."""
    if len(content) > MAX_BYTES:
        raise refused(
            _("The file is larger than %(most)d MiB; split it."), most=MAX_BYTES // 1024**2
        )
    readers = {
        Format.CSV: _read_csv,
        Format.JSON: _read_json,
        Format.NDJSON: _read_ndjson,
        Format.XLSX: _read_xlsx,
    }
    for number, record in enumerate(readers[kind](content, layout), 1):
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


def _header(names: Sequence[str], layout: Layout) -> list[str]:
    """Return the columns that a header names, or raise ValidationError with the known ones."""
    wanted = [name.strip().lower() for name in names]
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
    """Yield the lines of a text in UTF-8 or, where it says so, UTF-16."""
    encoding = "utf-16" if content[:2] in {b"\xff\xfe", b"\xfe\xff"} else "utf-8-sig"
    read = 0
    try:
        for line in io.TextIOWrapper(io.BytesIO(content), encoding, newline=""):
            read += 1
            yield line
    except UnicodeError:
        raise refused(
            _("After line %(line)d the text is not UTF-8; save the file as “CSV UTF-8”."), line=read
        ) from None


def _delimiter(line: str, layout: Layout) -> str:
    """Return what separates the cells of a header: the sign that leaves the most known names."""

    def known(delimiter: str) -> int:
        names = [name.strip().strip('"').lower() for name in line.strip().split(delimiter)]
        return len(set(names) & set(layout.columns_of(names)))

    return max(",;\t", key=known)


def _read_csv(content: bytes, layout: Layout) -> Iterator[Record]:
    row = 1
    lines = _lines(content)
    first = next(lines, "")
    named = re.fullmatch(r"sep=(.)\r?\n?", first)  # as some spreadsheets begin
    if named:
        first = next(lines, "")
    if not first:
        raise refused(_("The file is empty."))
    delimiter = named[1] if named else _delimiter(first, layout)
    csv.field_size_limit(MAX_BYTES)  # cells are bounded where their row and column are known
    rows = csv.reader(_again(first, lines), delimiter=delimiter, strict=True)
    try:
        header = _header(next(rows), layout)
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
    record = Record(row, {name: undefused_cell(name, c) for name, c in zip(header, cells)})  # noqa: B905
    surplus = any(cells[len(header) :])
    if surplus or len(cells) < len(header):
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
                yield _object(row, _loads(line), layout)
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


DECODER = json.JSONDecoder(parse_constant=_no_constant)


def _loads(text: str) -> Any:
    """Return what a JSON text says; NaN and the like are not JSON."""
    return json.loads(text, parse_constant=_no_constant)


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


ROW_DEPTH = 3  # worksheet, sheetData, row
BROKEN_WORKBOOK = (
    *(zipfile.BadZipFile, zlib.error, ParseError, OSError, EOFError, NotImplementedError),
    *(ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError),
)


def _read_xlsx(content: bytes, layout: Layout) -> Iterator[Record]:
    """Yield the rows of the sheet “groups”, where there is one, and of the first other sheet."""
    import openpyxl

    try:
        _check_unpacked(content)
        book = openpyxl.load_workbook(
            io.BytesIO(content), read_only=True, data_only=False, keep_links=False
        )
    except BROKEN_WORKBOOK:
        raise refused(
            _("This is no XLSX workbook, or one that is protected by a password.")
        ) from None
    try:
        groups = [sheet for sheet in book.worksheets if sheet.title.lower() == "groups"]
        others = [sheet for sheet in book.worksheets if sheet not in groups]
        for sheet in groups + others[:1]:
            yield from _read_sheet(sheet, layout)
    except BROKEN_WORKBOOK:
        raise refused(_("The workbook is damaged.")) from None
    finally:
        book.close()


def _check_unpacked(content: bytes) -> None:
    """Refuse a workbook that unpacks to far more than it is."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        sizes = {part.filename.lower(): part.file_size for part in archive.infolist()}
        total = sum(part.file_size for part in archive.infolist())
        if total <= MAX_UNPACKED:
            for part in archive.infolist():
                with archive.open(part) as content_of_part:
                    _check_elements(content_of_part)
    shared = max((size for name, size in sizes.items() if "sharedstrings" in name), default=0)
    if total > MAX_UNPACKED or shared > MAX_SHARED_STRINGS:
        raise refused(
            _("The workbook unpacks to more than %(most)d MiB; split it or use CSV."),
            most=MAX_UNPACKED // 1024**2,
        )


def _check_elements(part: IO[bytes]) -> None:
    """Refuse a part that a few bytes of file make millions of elements of.

    openpyxl keeps every element of a sheet but those within rows that it is done with.
    """
    parser = expat.ParserCreate()
    depth = kept = before = 0

    def begin(_name: str, _attributes: object) -> None:
        nonlocal depth, kept, before
        depth += 1
        kept += 1
        if depth == ROW_DEPTH:
            before = kept
        if kept > MAX_ELEMENTS:
            raise refused(_("The workbook has too many cells; split it or use CSV."))

    def end(name: str) -> None:
        nonlocal depth, kept
        if depth == ROW_DEPTH and name.endswith("row"):
            kept = before
        depth -= 1

    parser.StartElementHandler = begin
    parser.EndElementHandler = end
    try:
        parser.ParseFile(part)
    except expat.ExpatError:
        return  # a picture; or it is refused when it is read


def _read_sheet(sheet: Any, layout: Layout) -> Iterator[Record]:
    sheet.reset_dimensions()  # what a sheet says of its own size is not believed
    header: list[str] | None = None
    for row, cells in enumerate(sheet.iter_rows(max_col=MAX_COLUMNS), 1):
        if row > MAX_SHEET_ROWS:
            raise refused(_("The sheet has too many rows."))
        if all(cell.value is None for cell in cells):
            continue
        if header is None:
            header = _header([str(cell.value or "") for cell in cells], layout)
            continue
        record = Record(row, {})
        for name, cell in zip(header, cells):  # noqa: B905
            try:
                record.cells[name] = undefused_cell(name, _cell_text(name, cell))
            except ValueError as error:
                record.problems.append(Problem(row, name, str(error)))
        if any(cell.value is not None for cell in cells[len(header) :]):
            message = _("The row has a cell beside the columns of the header.")
            record.problems.append(Problem(row, "", message))
        yield record


EXACT = frozenset({"identifier", "secret", "certificate"})


def _cell_text(column: str, cell: Any) -> str:
    """Return a cell of a workbook as text; raises ValueError with the reason where it is none."""
    value = cell.value
    if value is None:
        return ""
    if cell.data_type == "f":
        raise ValueError(_("The cell holds a formula; paste its value instead."))
    if cell.data_type == "e":
        raise ValueError(_("The cell holds an error of the spreadsheet."))
    if isinstance(value, str):
        return CODED.sub(lambda match: chr(int(match[1], 16)), value)
    if column in EXACT:
        raise ValueError(
            _(
                "The spreadsheet made this a number, a date or a truth value, and may have changed "
                "it: format the column as text and enter it again."
            )
        )
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


# --- Writing --------------------------------------------------------------------------------

CODED = re.compile(r"_x([0-9A-F]{4})_")
UNWRITABLE = re.compile("[\x00-\x08\x0b-\x1f\ufffe\uffff]|_(?=x[0-9A-F]{4}_)")


class _Sink(io.RawIOBase):
    """A file that cannot be wound back and hands on what was written to it."""

    def __init__(self) -> None:
        self.chunks: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, chunk: Any) -> int:
        self.chunks.append(bytes(chunk))
        return len(chunk)

    def take(self) -> bytes:
        taken, self.chunks = b"".join(self.chunks), []
        return taken


Row = Mapping[str, Any]


def write(
    columns: Sequence[str], batches: Iterable[Iterable[Row]], kind: Format
) -> Iterator[bytes]:
    """Yield a table as a file: rows are texts where the format is flat, JSON values else."""
    if kind.is_flat:
        return (_write_csv if kind == Format.CSV else _write_xlsx)(columns, batches)
    return (_write_json if kind == Format.JSON else _write_ndjson)(batches)


def _write_csv(columns: Sequence[str], batches: Iterable[Iterable[Row]]) -> Iterator[bytes]:
    page = io.StringIO(newline="")
    writer = csv.writer(page)
    page.write("\ufeff")  # without it, Excel reads UTF-8 as something else
    writer.writerow(columns)
    for rows in batches:
        writer.writerows([defused(row[name]) for name in columns] for row in rows)
        yield page.getvalue().encode()
        page.seek(0)
        page.truncate()
    yield page.getvalue().encode()


def _write_ndjson(batches: Iterable[Iterable[Row]]) -> Iterator[bytes]:
    for rows in batches:
        yield "".join(f"{dumps(row)}\n" for row in rows).encode()


def _write_json(batches: Iterable[Iterable[Row]]) -> Iterator[bytes]:
    before = "[\n"
    for rows in batches:
        if lines := [dumps(row) for row in rows]:
            yield (before + ",\n".join(lines)).encode()
            before = ",\n"
    yield b"[]\n" if before == "[\n" else b"\n]\n"


def dumps(row: Row) -> str:
    """Return a row as a line of JSON."""
    return json.dumps(row, ensure_ascii=False)


# The least that is a workbook. Every column is formatted as text, so that no spreadsheet makes
# numbers of identifiers that are entered into it.
PARTS = {
    "[Content_Types].xml": (
        '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
        '<Default Extension="rels" ContentType='
        '"application/vnd.openxmlformats-package.relationships+xml"/>'
        '<Override PartName="/xl/workbook.xml" ContentType='
        '"application/vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml"/>'
        '<Override PartName="/xl/styles.xml" ContentType='
        '"application/vnd.openxmlformats-officedocument.spreadsheetml.styles+xml"/>'
        '<Override PartName="/xl/worksheets/sheet1.xml" ContentType='
        '"application/vnd.openxmlformats-officedocument.spreadsheetml.worksheet+xml"/></Types>'
    ),
    "_rels/.rels": (
        '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
        '<Relationship Id="r1" Target="xl/workbook.xml" Type='
        '"http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument"/>'
        "</Relationships>"
    ),
    "xl/workbook.xml": (
        '<workbook xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main" xmlns:r='
        '"http://schemas.openxmlformats.org/officeDocument/2006/relationships">'
        '<sheets><sheet name="Sheet1" sheetId="1" r:id="r1"/></sheets></workbook>'
    ),
    "xl/_rels/workbook.xml.rels": (
        '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
        '<Relationship Id="r1" Target="worksheets/sheet1.xml" Type='
        '"http://schemas.openxmlformats.org/officeDocument/2006/relationships/worksheet"/>'
        '<Relationship Id="r2" Target="styles.xml" Type='
        '"http://schemas.openxmlformats.org/officeDocument/2006/relationships/styles"/>'
        "</Relationships>"
    ),
    "xl/styles.xml": (
        '<styleSheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main">'
        '<fonts count="1"><font><sz val="11"/><name val="Calibri"/></font></fonts>'
        '<fills count="2"><fill><patternFill patternType="none"/></fill>'
        '<fill><patternFill patternType="gray125"/></fill></fills>'
        '<borders count="1"><border><left/>'
        "<right/><top/><bottom/><diagonal/></border></borders>"
        '<cellStyleXfs count="1"><xf numFmtId="0" fontId="0" fillId="0" borderId="0"/>'
        "</cellStyleXfs>"
        '<cellXfs count="2"><xf numFmtId="0" fontId="0" fillId="0" borderId="0" xfId="0"/>'
        '<xf numFmtId="49" fontId="0" fillId="0" borderId="0" xfId="0" applyNumberFormat="1"/>'
        '</cellXfs><cellStyles count="1"><cellStyle name="Normal" xfId="0" builtinId="0"/>'
        "</cellStyles></styleSheet>"
    ),
}


def _write_xlsx(columns: Sequence[str], batches: Iterable[Iterable[Row]]) -> Iterator[bytes]:
    sink = _Sink()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, part in PARTS.items():
            archive.writestr(name, f'<?xml version="1.0" encoding="UTF-8"?>{part}')
        with archive.open("xl/worksheets/sheet1.xml", "w") as sheet:
            sheet.write(
                b'<?xml version="1.0" encoding="UTF-8"?>'
                b'<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main">'
                b'<cols><col min="1" max="%d" width="24" style="1" customWidth="1"/></cols>'
                b"<sheetData>" % len(columns)
            )
            sheet.write(_sheet_row({name: name for name in columns}, columns).encode())
            for rows in batches:
                sheet.write("".join(_sheet_row(row, columns) for row in rows).encode())
                yield sink.take()
            sheet.write(b"</sheetData></worksheet>")
    yield sink.take()


def _sheet_row(row: Row, columns: Sequence[str]) -> str:
    cells = [
        f'<c s="1" t="inlineStr"><is><t xml:space="preserve">{_sheet_text(row[name])}</t></is></c>'
        if row[name]
        else '<c s="1"/>'
        for name in columns
    ]
    return f"<row>{''.join(cells)}</row>"


def _sheet_text(text: str) -> str:
    coded = UNWRITABLE.sub(lambda match: f"_x{ord(match[0]):04X}_", defused(text))
    return escape(coded)
