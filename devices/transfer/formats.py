"""What tables in files have in common: CSV, JSON, NDJSON and XLSX. (docs/transfer.md)"""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any, NamedTuple

from django.core.exceptions import ValidationError
from django.db import models
from django.utils.translation import gettext as _, gettext_lazy

from devices.values.text import storable

MAX_BYTES = 64 * 1024 * 1024
MAX_ROWS = 250_000
MAX_COLUMNS = 64


class Format(models.TextChoices):
    """A kind of file, by the ending of its name."""

    CSV = "csv", "CSV"
    JSON = "json", "JSON"
    NDJSON = "ndjson", "NDJSON"
    XLSX = "xlsx", "XLSX"

    @property
    def content_type(self) -> str:
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


def defused(value: object) -> str:
    """Return a cell as text that no spreadsheet takes for a formula: an apostrophe goes before."""
    if value is None:
        return ""
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return re.sub(BEGINS + FORMULA, "'", text)


def undefused(text: str) -> str:
    return re.sub(f"{BEGINS}'{FORMULA}", "", text) if "'" in text else text


def undefused_cell(column: str, text: str) -> str:
    """Return what a cell of a spreadsheet says; a secret is taken exactly as it stands."""
    return text if column == "secret" else undefused(text)


# --- Tables and their rows --------------------------------------------------------------------

SEPARATORS = {
    ",": gettext_lazy("comma"),
    ";": gettext_lazy("semicolon (Excel in German, French, Spanish and others)"),
    "\t": gettext_lazy("tab"),
}
Row = Mapping[str, Any]


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


# Returns the columns of the table that a header belongs to, the one that it needs first.
Layout = Callable[[Collection[str]], Sequence[str]]


def refused(message: str, *, row: int = 0, **params: object) -> ValidationError:
    """Return the refusal of a whole file, from a row on where one is to blame."""
    text = storable(message % params if params else message)
    where = _("Row %(row)d: ") % {"row": row} if row else ""
    return ValidationError(where + text, code="file")


def header_of(names: Sequence[str], layout: Layout, row: int) -> list[str]:
    """Return the columns that a header in a row names; raises ValidationError, with those known."""
    wanted = [name.replace("\ufeff", "").strip().lower() for name in names]
    while wanted and not wanted[-1]:
        wanted.pop()
    known = layout(wanted)
    for name in wanted:
        if name not in known:
            raise refused(
                _("There is no column “%(name)s”. Known are: %(known)s."),
                row=row,
                name=name[:100],
                known=", ".join(known),
            )
        if wanted.count(name) > 1:
            raise refused(_("The column “%(name)s” is there twice."), row=row, name=name)
    if known[0] not in wanted:
        raise refused(_("The column “%(name)s” is missing."), row=row, name=known[0])
    return wanted
