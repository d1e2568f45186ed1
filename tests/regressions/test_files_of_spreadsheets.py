"""What spreadsheets really write is read, or refused with what to do; nothing is read as nothing.

A workbook in Strict Open XML has other namespaces, and openpyxl finds no sheet in it (its issue
tracker says it is not supported): an import said "Imported." of nothing. Spreadsheets leave empty
cells out at the end of a row, write truth values in their users' language, and start a formula
after any separator that they expect (OWASP, CSV injection).

A workbook writes a character that XML cannot hold as an escape, and an underscore that only looks
like the beginning of one as an escape, too, in small letters as in capitals. Of merged cells only
the first has a value.

Public reports of this kind: https://github.com/python-excel/xlrd/issues/92,
https://github.com/jmcnamara/XlsxWriter/issues/807, https://github.com/wireservice/csvkit/issues/293.
"""

import io
import re
import zipfile
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import openpyxl
import pytest
from django.core.exceptions import ValidationError
from hypothesis import example, given, strategies as st

from devices.models import Device
from devices.transfer.columns import columns_of, is_damaged
from devices.transfer.formats import Format, defused, format_of, undefused
from devices.transfer.importing import Import
from devices.transfer.rows import Options
from devices.transfer.tables import read, write

ON_ONE = pytest.mark.once(on="sqlite")  # no database has a part in it

ROWS = [["identifier", "name"], ["lamp", "Lamp"]]


def workbook(*sheets: tuple[str, Iterable[Sequence[Any]], str]) -> bytes:
    book = openpyxl.Workbook()
    book.remove(book.worksheets[0])
    for title, lines, state in sheets:
        sheet = book.create_sheet(title)
        sheet.sheet_state = state
        for line in lines:
            sheet.append(line)
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


def changed(content: bytes, change: Callable[[bytes], bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as before, zipfile.ZipFile(file, "w") as after:
        for name in before.namelist():
            after.writestr(name, change(before.read(name)))
    return file.getvalue()


def strict(part: bytes) -> bytes:
    """Return a part as “Strict Open XML Spreadsheet” has it."""
    return part.replace(
        b"http://schemas.openxmlformats.org/spreadsheetml/2006/main",
        b"http://purl.oclc.org/ooxml/spreadsheetml/main",
    ).replace(
        b"http://schemas.openxmlformats.org/officeDocument/2006/relationships",
        b"http://purl.oclc.org/ooxml/officeDocument/relationships",
    )


def cells(content: bytes, kind: Format = Format.XLSX) -> list[Any]:
    return [record.cells for record in read(content, kind, columns_of)]


def checked(content: str | bytes, kind: Format = Format.CSV) -> Import:
    data = content.encode() if isinstance(content, str) else content
    run = Import(read(data, kind, columns_of), Options())
    run.check()
    return run


def opendocument() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        archive.writestr("content.xml", "<office:document-content/>")
    return file.getvalue()


PLAIN = workbook(("Sheet1", ROWS, "visible"))
OLE = bytes.fromhex("d0cf11e0a1b11ae1") + bytes(4096)


@ON_ONE
@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (changed(PLAIN, strict), "This is Strict Open XML"),
        (OLE, "no XLSX workbook"),
        (opendocument(), "no XLSX workbook"),
        (workbook(("A", [], "visible")), "No sheet that is shown has any cell"),
        (workbook(("A", [], "visible"), ("B", ROWS, "hidden")), "No sheet that is shown"),
        (workbook(("A", ROWS, "visible"), ("B", ROWS, "visible")), "“A” and “B” both hold"),
        (workbook(("A", [["Our lamps"]], "visible")), "no column “our lamps”"),
    ],
    ids=["strict", "xls", "ods", "empty", "hidden", "two", "title"],
)
def test_no_workbook_is_read_as_nothing(content: bytes, complaint: str) -> None:
    with pytest.raises(ValidationError) as refusal:
        cells(content)
    assert complaint in refusal.value.messages[0]


@ON_ONE
@pytest.mark.parametrize(
    "content",
    [
        workbook(("Empty", [], "visible"), ("Lamps", ROWS, "visible")),
        workbook(("Old", ROWS, "hidden"), ("Lamps", ROWS, "visible")),
        workbook(("Lamps", ROWS, "visible"), ("Notes", [["Written by", "Kim"]], "visible")),
        changed(PLAIN, lambda part: part.replace(b"sheet.main+xml", b"template.main+xml")),
        changed(
            PLAIN,
            lambda part: part.replace(
                b"openxmlformats-officedocument.spreadsheetml.sheet.main+xml",
                b"ms-excel.sheet.macroEnabled.main+xml",
            ),
        ),
    ],
    ids=["empty first", "hidden first", "notes", "template", "macros"],
)
def test_the_table_of_a_workbook_is_found(content: bytes) -> None:
    assert cells(content) == [{"identifier": "lamp", "name": "Lamp"}]


@ON_ONE
@pytest.mark.parametrize("name", ["a.xlsm", "a.XLTX", "a.xltm", "a.xlsx"])
def test_workbooks_go_by_all_their_names(name: str) -> None:
    assert format_of(name) is Format.XLSX


def test_a_workbook_named_csv_is_told(db: None) -> None:
    with pytest.raises(ValidationError, match=r"name ends with \.xlsx"):
        cells(PLAIN, Format.CSV)


@pytest.mark.parametrize("content", ["identifier,name\n", "identifier\n\n\n", "group,parent\n"])
def test_a_table_without_rows_is_refused(db: None, content: str) -> None:
    with pytest.raises(ValidationError, match="no rows"):
        checked(content)


@ON_ONE
@pytest.mark.parametrize(
    ("kind", "content"),
    [
        (Format.CSV, b"identifier,name,kind\nlamp\nbell,Bell\n"),
        (
            Format.XLSX,
            workbook(
                ("A", [["identifier", "name", "kind"], ["lamp"], ["bell", "Bell"]], "visible")
            ),
        ),
    ],
)
def test_a_row_that_ends_early_has_empty_cells(kind: Format, content: bytes) -> None:
    assert cells(content, kind) == [
        {"identifier": "lamp", "name": "", "kind": ""},
        {"identifier": "bell", "name": "Bell", "kind": ""},
    ]


@pytest.mark.parametrize(
    ("yes", "no"),
    [
        ("WAHR", "FALSCH"), ("VRAI", "FAUX"), ("VERDADERO", "FALSO"), ("VERO", "FALSO"),
        ("ИСТИНА", "ЛОЖЬ"), ("是", "否"), ("WAAR", "ONWAAR"), ("DOĞRU", "YANLIŞ"), ("Yes", "0"),
    ],
)  # fmt: skip
def test_truth_in_the_language_of_a_spreadsheet(db: None, yes: str, no: str) -> None:
    run = checked(f"identifier;enabled\na;{yes}\nb;{no}\n")
    assert [entry.device.enabled for entry in run.entries] == [True, False]


def test_a_wrong_cell_is_quoted_but_no_secret(db: None) -> None:
    run = checked("identifier,enabled,kind,secret\na,perhaps,lamp,ab\n")
    said = {problem.column: problem.message for problem in run.problems}
    assert said["enabled"].endswith("It says “perhaps”.")
    assert said["kind"].endswith("It says “lamp”.")
    assert "ab" not in said["secret"].replace("characters", "")


@ON_ONE
@pytest.mark.parametrize(
    ("content", "line", "meant"),
    [
        ("identifier,name\na,Müller\n", 2, "ü"),
        ("identifier,name\n" + "a,b\n" * 5000 + "c,5 €\n", 5002, "€"),
        ("identifier,Grüße\n", 1, "ü"),
    ],
)
def test_a_file_of_windows_is_told_its_encoding(content: str, line: int, meant: str) -> None:
    with pytest.raises(ValidationError) as refusal:
        cells(content.encode("cp1252"), Format.CSV)
    said = refusal.value.messages[0]
    assert f"Line {line} is not UTF-8: this seems to be Windows-1252" in said
    assert f"“{meant}”" in said


@ON_ONE
@pytest.mark.parametrize(
    "identifier",
    [
        "1.0", "1E+15", "8,61235E+14", "01/02/2024", "2024-01-02", "02.01.2024 10:00", "1-Jan",
        "TRUE", "WAHR", "FALSCH", "vrai", "#NAME?", "#N/A", "#####", "861234567890123000",
    ],
)  # fmt: skip
def test_an_identifier_that_a_spreadsheet_made_is_warned_of(identifier: str) -> None:
    assert is_damaged(identifier)


@ON_ONE
@pytest.mark.parametrize(
    "identifier", ["lamp", "861234567890123", "0011-22", "12e45678", "a-b", "//h/x"]
)
def test_a_good_identifier_is_not_warned_of(identifier: str) -> None:
    assert not is_damaged(identifier)


texts = st.text(st.sampled_from("=+-@\t\r\n;,|'\"a ＝"), max_size=9)  # noqa: RUF001


@ON_ONE
@given(texts)
@example("lamp;=1+1")
@example("lamp\t=1+1")
@example("lamp|@x")
@example("lamp\n+1")
@example("lamp;'\"=1")
def test_no_separator_starts_a_formula(text: str) -> None:
    written = defused(text)
    assert undefused(written) == text
    for separator in ";,|\t\r\n":
        for cell in written.split(separator):
            assert not cell.lstrip('"').startswith(("=", "+", "-", "@", "＝"))  # noqa: RUF001


def test_devices_are_what_an_import_of_nothing_leaves(db: None) -> None:
    with pytest.raises(ValidationError):
        checked(changed(PLAIN, strict), Format.XLSX)
    assert not Device.objects.exists()


def shared(content: bytes) -> bytes:
    """Return a workbook as a spreadsheet saves it again: its texts are in a table of their own."""
    texts: list[bytes] = []

    def index(cell: re.Match[bytes]) -> bytes:
        texts.append(cell[1])
        return b't="s"><v>%d</v></c>' % (len(texts) - 1)

    def moved(part: bytes) -> bytes:
        kind = b"application/vnd.openxmlformats-officedocument.spreadsheetml.sharedStrings+xml"
        part = part.replace(
            b"</Types>",
            b'<Override PartName="/xl/sharedStrings.xml" ContentType="%b"/></Types>' % kind,
        )
        return re.sub(rb't="inlineStr"[^>]*><is>(.*?)</is></c>', index, part, flags=re.DOTALL)

    file = io.BytesIO(changed(content, moved))
    with zipfile.ZipFile(file, "a") as book:
        table = b"".join(b"<si>%b</si>" % text for text in texts)
        book.writestr(
            "xl/sharedStrings.xml",
            b'<sst xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main">%b</sst>'
            % table,
        )
    assert texts
    return file.getvalue()


ESCAPES = [
    "_x000D_",
    "_x000d_",
    "a_x00e4_",
    "x005F_",
    "_x005F_",
    "_x0041_x005F_",
    "__x005F_x005F_",
    "\r",
]


@ON_ONE
@given(st.lists(st.text("_x05FfdD\r", min_size=1, max_size=9), min_size=1, max_size=4))
@example(ESCAPES)
def test_a_workbook_that_was_saved_again_says_the_same(names: list[str]) -> None:
    wanted = [{"identifier": f"d{n}", "name": name} for n, name in enumerate(names)]
    file = io.BytesIO()
    write(file, ("identifier", "name"), wanted, Format.XLSX)
    assert cells(shared(file.getvalue())) == wanted


@ON_ONE
@pytest.mark.parametrize(
    ("written", "read"), [("_x000d_", "\r"), ("_x005f_x000D_", "_x000D_"), ("x005F_", "x005F_")]
)
def test_an_escape_is_read_as_spreadsheets_write_it(written: str, read: str) -> None:
    book = workbook(("one", [*ROWS, ["wall", written]], "visible"))
    assert cells(book)[1] == {"identifier": "wall", "name": read}


def merged(*ranges: str, rows: Sequence[Sequence[Any]], sheet: str = "one") -> bytes:
    other = "two" if sheet == "one" else "one"
    content = workbook(("one", rows, "visible"), ("two", [["any text"]], "visible"))
    book = openpyxl.load_workbook(io.BytesIO(content))
    for each in ranges:
        book[sheet].merge_cells(each)
    assert not book[other].merged_cells.ranges
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


TABLE = [
    ["identifier", "name", "groups"],
    ["a", "Lamp", "Roof"],
    ["b", "Lamp", "Roof"],
    ["c", "", ""],
]


@ON_ONE
@pytest.mark.parametrize("area", ["C2:C4", "B3:C3", "B3:D9", "A1:A3"])
def test_merged_cells_are_not_read_as_empty_ones(area: str) -> None:
    with pytest.raises(ValidationError) as refusal:
        cells(merged(area, rows=TABLE))
    first, last = area.split(":")
    assert f"The cells {first} to {last} are merged" in refusal.value.messages[0]


@ON_ONE
@pytest.mark.parametrize(
    ("areas", "sheet"), [(["A6:C6"], "one"), (["D2:D4"], "one"), (["A1:C4"], "two")]
)
def test_cells_that_are_merged_beside_the_table_do_no_harm(areas: list[str], sheet: str) -> None:
    book = merged(*areas, rows=TABLE, sheet=sheet)
    assert [one["groups"] for one in cells(book)] == ["Roof", "Roof", ""]
