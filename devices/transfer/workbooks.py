"""Workbooks: their bounds, what is read of them, and how they are written."""

import io
import posixpath
import re
import shutil
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from itertools import islice
from operator import itemgetter
from typing import IO, Any
from xml.etree import ElementTree
from xml.etree.ElementTree import ParseError
from xml.parsers import expat

import openpyxl
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _
from openpyxl.cell import WriteOnlyCell
from openpyxl.utils import get_column_letter, range_boundaries

from devices.transfer.formats import (
    MAX_COLUMNS,
    Layout,
    Problem,
    Record,
    Row,
    defused,
    header_of,
    refused,
    undefused_cell,
)

MAX_UNPACKED = 256 * 1024 * 1024  # of a workbook; its shared strings are held in memory
MAX_SHARED_STRINGS = 64 * 1024 * 1024
MAX_ELEMENTS = 4_000_000  # of a part that are held in memory, 90 bytes each
ATTRIBUTE = 2  # elements that an attribute counts as: with the first an element takes 350 bytes
MAX_TAG = 128 * 1024  # bytes of a tag: expat before 2.6 reads it anew with each piece of a part
MAX_MERGED = 100_000  # ranges of merged cells of a workbook, 500 bytes each
PIECE = 64 * 1024
BEYOND = 64  # columns beyond the last one in which a header or a cell is looked for
MAX_SHEET_ROWS = 1_048_576  # a spreadsheet's own limit, the header included
MAX_WRITTEN_ROWS = 20_000  # of a workbook: writing one takes a processor 0.17 ms a row
MAX_CELL_UNITS = 32_767  # of UTF-16, in a cell: a spreadsheet's own limit, openpyxl cuts the rest

# --- Reading ---

ROW_DEPTH = 3  # worksheet, sheetData, row
BROKEN_WORKBOOK = (
    *(zipfile.BadZipFile, zlib.error, ParseError, OSError, EOFError, NotImplementedError),
    *(ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError),
)


STRICT = b"http://purl.oclc.org/ooxml/"  # names of Strict Open XML, which openpyxl does not read


def read(content: bytes, layout: Layout) -> Iterator[Record]:
    """Yield the rows of the sheet “groups”, where there is one, and of the first other with any.

    Sheets that are hidden are left out; a second sheet that looks like a table is refused.
    """
    try:
        merged = _check_unpacked(content)
        book = openpyxl.load_workbook(
            io.BytesIO(_with_escapes(content)), read_only=True, data_only=False, keep_links=False
        )
    except BROKEN_WORKBOOK:
        raise refused(
            _("This is no XLSX workbook, or one that is protected by a password.")
        ) from None
    try:
        shown = [sheet for sheet in book.worksheets if sheet.sheet_state == "visible"]
        tables = [sheet for sheet in shown if _first_row(sheet)]
        groups = [sheet for sheet in tables if sheet.title.lower() == "groups"]
        first, *others = [sheet for sheet in tables if sheet not in groups] or [None]
        for sheet in others:
            header = _first_row(sheet)
            if layout(header)[0] in header:
                raise refused(
                    _("The sheets “%(one)s” and “%(other)s” both hold a table; keep one of them."),
                    one=first.title if first else "",
                    other=sheet.title,
                )
        if not tables:
            raise refused(_("No sheet that is shown has any cell."))
        for sheet in [*groups, *([first] if first else [])]:
            yield from _read_sheet(sheet, layout, merged.get(sheet.title, ()))
    except BROKEN_WORKBOOK:
        raise refused(_("The workbook is damaged.")) from None
    finally:
        book.close()


def _first_row(sheet: Any) -> list[str]:
    sheet.reset_dimensions()  # what a sheet says of its own size is not believed
    for row, cells in enumerate(sheet.iter_rows(max_col=MAX_COLUMNS, values_only=True), 1):
        if any(value is not None for value in cells):
            return [str(value or "").strip().lower() for value in cells]
        if row > MAX_SHEET_ROWS:
            break
    return []


def _check_unpacked(content: bytes) -> dict[str, list[str]]:
    """Refuse a workbook that unpacks to far more than it is.

    Return the ranges of merged cells, by the title of their sheet: openpyxl does not tell them of a
    workbook that is only read.
    """
    merged: dict[str, list[str]] = {}
    left = MAX_MERGED
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        parts = archive.infolist()
        shared = [one.file_size for one in parts if "sharedstrings" in one.filename.lower()]
        total = sum(one.file_size for one in parts)
        if total > MAX_UNPACKED or max(shared, default=0) > MAX_SHARED_STRINGS:
            raise refused(
                _("The workbook unpacks to more than %(most)d MiB; split it or use CSV."),
                most=MAX_UNPACKED // 1024**2,
            )
        for one in parts:
            with archive.open(one) as part:
                merged[one.filename] = _check_elements(part, left)
            left -= len(merged[one.filename])
    return {title: merged.get(path, []) for title, path in _sheets_of(content).items()}


WORKBOOK = "xl/workbook.xml"
LINKS = "xl/_rels/workbook.xml.rels"


def _sheets_of(content: bytes) -> dict[str, str]:
    """Return the parts of the sheets by their titles; none where they lie elsewhere than usual."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        if not {WORKBOOK, LINKS} <= set(archive.namelist()):
            return {}
        sheets, links = (
            ElementTree.fromstring(archive.read(name))  # noqa: S314 - no part has entities
            for name in (WORKBOOK, LINKS)
        )
    targets = {link.get("Id"): link.get("Target", "") for link in links}
    return {
        sheet.get("name", ""): posixpath.join("/xl", targets.get(own, "")).removeprefix("/")
        for sheet in sheets.iter()
        if sheet.tag.endswith("}sheet")
        for name, own in sheet.items()
        if name.endswith("}id")
    }


def _check_elements(part: IO[bytes], most_merged: int) -> list[str]:
    """Refuse a part of which a few bytes make millions of elements, or gigabytes of text.

    openpyxl keeps every element of a sheet but those within rows that it is done with. Text that
    entities stand for is in no part's size; the parser bounds it to a hundred times that. Return
    the ranges of merged cells in it, `most_merged` at most.
    """
    parser = expat.ParserCreate()
    depth = kept = before = 0
    merged: list[str] = []

    def begin(name: str, attributes: Mapping[str, str]) -> None:
        nonlocal depth, kept, before
        depth += 1
        kept += 1
        if name.endswith("mergeCell") and "ref" in attributes:
            merged.append(attributes["ref"])
        if depth == ROW_DEPTH:
            before = kept
        kept += ATTRIBUTE * len(attributes)
        if len(merged) > most_merged:
            raise refused(_("The workbook has too many merged cells; unmerge them or use CSV."))
        if kept > MAX_ELEMENTS:
            raise refused(_("The workbook has too many cells; split it or use CSV."))

    def end(name: str) -> None:
        nonlocal depth, kept
        if depth == ROW_DEPTH and name.endswith("row"):
            kept = before
        depth -= 1

    def declare(*_entity: object) -> None:
        raise refused(_("The workbook is damaged."))  # no spreadsheet declares any

    parser.EntityDeclHandler = declare
    parser.StartElementHandler = begin
    parser.EndElementHandler = end
    fed = 0
    with suppress(expat.ExpatError):  # a picture; or it is refused when it is read
        while piece := part.read(PIECE):
            if not fed and STRICT in piece[:4096]:
                raise refused(_("This is Strict Open XML; save it as “Excel Workbook (.xlsx)”."))
            parser.Parse(piece, False)
            fed += len(piece)
            if fed - parser.CurrentByteIndex > MAX_TAG:  # where what it waits for the end of begins
                raise refused(_("The workbook has too many cells; split it or use CSV."))
    return merged


# What openpyxl takes out of shared strings is the escape of an underscore: without it, a name that
# only looks like an escape becomes one. It leaves other spellings of the same.
TAKEN_OUT = b"x005F_"
ESCAPES = re.compile(rb"_x[0-9A-Fa-f]{4}_|x005F(?=_)")
SPARED = {b"_x005F_": b"_x005f_", b"x005F": b"_x0078_005F"}


def _with_escapes(content: bytes) -> bytes:
    """Return a workbook of whose shared strings openpyxl takes nothing away."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        texts = {
            name: archive.read(name)
            for name in archive.namelist()
            if "sharedstrings" in name.lower()
        }
        if not any(TAKEN_OUT in text for text in texts.values()):
            return content
        spared = io.BytesIO()
        with zipfile.ZipFile(spared, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as copy:
            for name in archive.namelist():
                with copy.open(name, "w") as to:
                    if name in texts:
                        to.write(ESCAPES.sub(lambda one: SPARED.get(one[0], one[0]), texts[name]))
                        continue
                    with archive.open(name) as part:
                        shutil.copyfileobj(part, to)
    return spared.getvalue()


def _read_sheet(sheet: Any, layout: Layout, merged: Sequence[str]) -> Iterator[Record]:
    sheet.reset_dimensions()
    header: list[str] | None = None
    ranges = sorted(map(range_boundaries, merged), key=itemgetter(1), reverse=True)
    reach: Any = (0, 0, 0, 0)  # of those that begin above, the one that ends last
    for row, cells in enumerate(sheet.iter_rows(max_col=MAX_COLUMNS + BEYOND), 1):
        if row > MAX_SHEET_ROWS:
            raise refused(_("The sheet has too many rows."))
        if all(cell.value is None for cell in cells):
            continue
        if header is None:
            if any(str(cell.value or "").strip() for cell in cells[MAX_COLUMNS:]):
                raise refused(
                    _("A sheet has at most %(most)d columns, up to %(last)s; this one has more."),
                    row=row,
                    most=MAX_COLUMNS,
                    last=get_column_letter(MAX_COLUMNS),
                )
            names = [str(cell.value or "") for cell in cells[:MAX_COLUMNS]]
            header = header_of(names, layout, row)
            continue
        while ranges and ranges[-1][1] <= row:
            one = ranges.pop()
            if one[0] <= len(header):
                reach = max(reach, one, key=itemgetter(3))
        if reach[3] >= row:
            left, top, right, bottom = reach
            raise refused(
                _(
                    "The cells %(first)s to %(last)s are merged, so that only the first has a "
                    "value; unmerge them and fill each."
                ),
                row=row,
                first=f"{get_column_letter(left)}{top}",
                last=f"{get_column_letter(right)}{bottom}",
            )
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


# --- Writing ---

CODED = re.compile(r"_x([0-9A-Fa-f]{4})_")
CODED_SIGNS = re.compile("[\x00-\x08\x0b-\x1f\ufffe\uffff]|_(?=x[0-9A-Fa-f]{4}_)")


def write(file: IO[bytes], columns: Sequence[str], rows: Iterable[Row]) -> int:
    """Write a workbook whose columns are text, so that no spreadsheet makes numbers of them.

    Raises ValidationError where there are more rows, or characters in a cell, than one may have.
    """
    # All cells come first: openpyxl leaves a temporary file behind where it is not finished.
    held = [
        [_written(number, name, row[name]) for name in columns]
        for number, row in enumerate(islice(rows, MAX_WRITTEN_ROWS + 1), 2)
    ]
    if len(held) > MAX_WRITTEN_ROWS:
        raise ValidationError(
            _("A workbook is written with no more than %(most)d rows; use CSV."),
            params={"most": MAX_WRITTEN_ROWS},
        )
    book = openpyxl.Workbook(write_only=True)
    sheet = book.create_sheet("Sheet1")
    for number in range(1, len(columns) + 1):
        column = sheet.column_dimensions[get_column_letter(number)]
        column.width, column.number_format = 24, "@"
    cells = [WriteOnlyCell(sheet) for _name in columns]
    for cell in cells:
        cell.number_format = "@"
    for row in [columns, *held]:
        for text, cell in zip(row, cells, strict=True):
            cell.value = text or None
            if cell.value is not None:
                cell.data_type = "s"  # neither a formula nor an error, whatever it looks like
        sheet.append(cells)
    book.save(file)
    return len(held)


def _written(row: int, column: str, value: object) -> str:
    """Return a value as a cell says it; raises ValidationError where no cell can hold it."""
    text = CODED_SIGNS.sub(lambda sign: f"_x{ord(sign[0]):04X}_", defused(value))
    units = len(text.encode("utf-16-le", "surrogatepass")) // 2
    if units > MAX_CELL_UNITS:
        raise ValidationError(
            _(
                "Row %(row)d, %(column)s: a cell of a workbook has at most %(most)d characters, "
                "and this one would have %(n)d; use CSV."
            ),
            params={"row": row, "column": column, "most": MAX_CELL_UNITS, "n": units},
        )
    return text
