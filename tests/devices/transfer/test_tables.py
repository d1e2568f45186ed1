"""Tables in files: what is written is read again, and what is no table is refused with a reason."""

import io
import json
import re
import time
import zipfile
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import openpyxl
import pytest
from django.core.exceptions import ValidationError
from hypothesis import example, given, strategies as st

from devices.transfer import formats, tables, texts as texts_of_tables, workbooks
from devices.transfer.columns import group_cell, group_names
from devices.transfer.formats import Format, Record, Row, defused, format_of, undefused
from devices.transfer.tables import read, write
from devices.values.addresses import split, written

pytestmark = pytest.mark.once(on="sqlite")


def three(header: Iterable[str]) -> Sequence[str]:
    """Return a layout of three columns, the first of which is needed."""
    return ("identifier", "name", "enabled")


def rows(content: bytes, kind: Format, layout: formats.Layout = three) -> list[Record]:
    return list(read(content, kind, layout))


def table_of(columns: Sequence[str], lines: Iterable[Row], kind: Format) -> bytes:
    file = io.BytesIO()
    write(file, columns, lines, kind)
    return file.getvalue()


def cells(content: bytes, kind: Format = Format.CSV) -> list[dict[str, Any]]:
    return [record.cells for record in rows(content, kind)]


def refusal(content: bytes, kind: Format, layout: formats.Layout = three) -> str:
    with pytest.raises(ValidationError) as caught:
        rows(content, kind, layout)
    return str(caught.value.messages[0])


def workbook(*lines: Sequence[Any]) -> bytes:
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    for line in lines:
        sheet.append(line)
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


# What a database can hold: neither NUL nor a lone surrogate.
texts = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=20)
tricky = st.text("'=+-@\t\r\n_x05FD \\|a\uff1d,;\"", max_size=8)


@given(texts | tricky)
@example("'=x")
@example("''")
def test_a_defused_cell_is_no_formula_and_comes_back(text: str) -> None:
    assert undefused(defused(text)) == text
    assert not defused(text).startswith(("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d"))


@pytest.mark.parametrize(
    ("cell", "names"),
    [("Roof\\", ["Roof\\"]), ("a|b\\\\\\", ["a", "b\\\\"]), ("a\\|", ["a|"]), ("\\", ["\\"])],
)
def test_a_backslash_before_nothing_is_part_of_a_name(cell: str, names: list[str]) -> None:
    """CWE-20: such a cell named no group, and took the device out of all of its own."""
    assert group_names(cell) == names


def test_spaces_within_a_name_are_passed_once() -> None:
    """CWE-1333: of a cell that holds a backslash, each of them was a beginning of its end."""
    name = f"a{' ' * 100_000}b"
    began = time.process_time()
    assert group_names(f"\\\\{name} | b\\ ") == [f"\\{name}", "b "]
    assert time.process_time() - began < 1


def test_of_unknown_columns_so_many_are_named() -> None:
    """CWE-770: an object of 24 MB with two million names took 1.5 GB, and a minute."""
    (record,) = rows(json.dumps([{f"c{n}": n for n in range(100)}]).encode(), Format.JSON)
    assert record.cells == {}
    assert len(record.problems) == texts_of_tables.MAX_UNKNOWN


@given(st.lists((texts | tricky).filter(bool), unique=True, max_size=4))
@example(["a|b", "\\", " a ", "|", "\\|"])
def test_names_of_groups_come_back_from_one_cell(names: list[str]) -> None:
    assert [name for name in group_names(group_cell(names)) if name] == names


@given((texts | st.text("/.%2E5ab", max_size=12)).map("//{}".format) | texts)
@example("//h/a%2Eb.c")
def test_an_identifier_comes_back_from_its_address(identifier: str) -> None:
    assert split(written(identifier)) == (identifier, None)


@pytest.mark.parametrize("kind", Format)
@given(st.lists(texts | tricky, min_size=1, max_size=5))
@example(["\r", "_x000D_", "a\r\nb", "\x01", "\ufffe", " ", "'"])
def test_a_table_comes_back_from_its_file(kind: Format, names: list[str]) -> None:
    wanted = [{"identifier": f"d{n}", "name": name} for n, name in enumerate(names)]
    content = table_of(("identifier", "name"), wanted, kind)
    assert cells(content, kind) == wanted


@pytest.mark.parametrize("kind", Format)
def test_an_empty_table_is_a_file_all_the_same(kind: Format) -> None:
    content = table_of(("identifier",), [], kind)
    assert cells(content, kind) == []


@pytest.mark.parametrize(
    "text",
    [
        "identifier,name\r\na,b\r\n",
        "\ufeffidentifier,name\na,b",
        "identifier;name\r\na;b\r\n",
        "identifier\tname\na\tb\n",
        '"identifier";"name"\r\n"a";"b"\r\n',
        "sep=;\r\nidentifier;name\r\na;b",
        " Identifier , NAME \na,b",
        "\ufeff\ufeffidentifier,name\na,b",
        "identifier,name,,\r\na,b,,\r\n,,,\r\n",
        "\ufeff\r\n;;\r\nidentifier;name\r\na;b",
        'sep=;\n"";""\nidentifier;name\na;b',
    ],
)
def test_the_csv_of_any_spreadsheet_is_read(text: str) -> None:
    assert cells(text.encode()) == [{"identifier": "a", "name": "b"}]


ENCODINGS = ["utf-8", "utf-8-sig"] + [
    f"utf-{bits}{order}" for bits in (16, 32) for order in ("", "-le", "-be")
]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_unicode_text_of_a_spreadsheet_is_read(encoding: str) -> None:
    content = "identifier\tname\r\na\tß\r\n".encode(encoding)
    assert cells(content, format_of("devices.txt")) == [{"identifier": "a", "name": "ß"}]


def test_quoted_line_ends_belong_to_the_cell_and_rows_count_as_in_a_spreadsheet() -> None:
    found = rows(b'\nidentifier,name\na,"x\r\ny"\nb,z\n', Format.CSV)
    assert [(record.row, record.cells["name"]) for record in found] == [(3, "x\r\ny"), (4, "z")]


@pytest.mark.parametrize(
    ("kind", "content", "complaint"),
    [
        (Format.CSV, b"", "empty"),
        (Format.CSV, b"\n,,\n", "empty"),
        (Format.CSV, b"\n,,\nname,enabled\n", "Row 3: The column “identifier” is missing"),
        (Format.CSV, b"identifier,secrte\n", "no column “secrte”. Known are: identifier, name"),
        (Format.CSV, b"name,enabled\n", "“identifier” is missing"),
        (Format.CSV, b"identifier,name,name\n", "“name” is there twice"),
        (Format.CSV, b'identifier\na\n"b', "Row 3: The quotes"),
        (Format.CSV, b'sep="\nidentifier"name\na"b\n', "no column “sep="),
        (Format.CSV, b"sep=\r\nidentifier\na\n", "no column “sep="),
        (Format.CSV, b"identifier\na\n\xff", "not UTF-8"),
        (Format.NDJSON, b'{"identifier":"a"}\n{', "Row 2: The line is no JSON"),
        (Format.NDJSON, b'{"identifier":NaN}\n', "Row 1: The line is no JSON"),
        (Format.NDJSON, b'{"identifier":"a","identifier":"b"}\n', "“identifier” stands twice"),
        (Format.JSON, b'[{"identifier":"a","attributes":{"x":1,"x":2}}]', "“x” stands twice"),
        (Format.JSON, b'{"identifier":"a"}', "no JSON array"),
        (Format.NDJSON, b'{"a":' + b"1" * 5000 + b"}", "Row 1: A number has more than 400 digits."),
        (Format.JSON, b'[{"a":' + b"1" * 5000 + b"}]", "Row 1: A number has more than 400 digits."),
        (Format.JSON, b'[{"identifier":"a"},', "Row 2: This is no JSON"),
        (Format.JSON, b'[{"identifier":"a"},]', "Row 2: This is no JSON"),
        (Format.JSON, b'[{"identifier":"a"} {}]', "Row 1: The array does not end"),
        (Format.JSON, b'[{"identifier":"a"}', "Row 1: The array does not end"),
        (Format.JSON, b"[] []", "follows the array"),
        (Format.JSON, b"[" * 200_000, "Row 1: This is no JSON"),
        (Format.XLSX, b"identifier\na\n", "no XLSX workbook"),
        (Format.XLSX, b"PK\x03\x04 and so on", "no XLSX workbook"),
    ],
)
def test_what_is_no_table_is_refused_with_a_reason(
    kind: Format, content: bytes, complaint: str
) -> None:
    assert complaint in refusal(content, kind)


def test_a_file_of_another_kind_is_told_which_are_known() -> None:
    with pytest.raises(ValidationError, match=r"\.csv, \.json, \.ndjson, \.xlsx"):
        format_of("devices.ods")


@pytest.mark.parametrize(
    ("content", "row", "column", "complaint"),
    [
        (b"identifier,name\na,b,c\n", 2, "", "has 3 cells, the header has 2"),
        (b"identifier,name\na,b\x00\n", 2, "name", "no character"),
        (b"identifier,name\na," + b"x" * 10_000_000, 2, "name", "more than 131072 characters"),
    ],
)
def test_a_broken_row_is_named(content: bytes, row: int, column: str, complaint: str) -> None:
    [record] = rows(content, Format.CSV)
    [problem] = record.problems
    assert (problem.row, problem.column) == (row, column)
    assert complaint in problem.message


@pytest.mark.parametrize(
    ("content", "column", "complaint"),
    [
        ('[{"identifier":"a","secrte":1}]', "secrte", "no column “secrte”"),
        ("[1]", "", "no JSON object"),
        ('[{"identifier":"\\ud800"}]', "identifier", "no character"),
    ],
)
def test_a_broken_object_is_named(content: str, column: str, complaint: str) -> None:
    [record] = rows(content.encode(), Format.JSON)
    [problem] = record.problems
    assert (problem.row, problem.column) == (1, column)
    assert complaint in problem.message


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        (1.0, "made this a number"),
        (861234567890123, "made this a number"),
        (True, "made this a number"),
        ('=HYPERLINK("x")', "formula"),
        ("#REF!", "error of the spreadsheet"),
    ],
)
def test_what_a_spreadsheet_made_of_an_identifier_is_named(value: Any, complaint: str) -> None:
    [record] = rows(workbook(["identifier", "name"], [value, "x"]), Format.XLSX)
    assert [problem.column for problem in record.problems] == ["identifier"]
    assert complaint in record.problems[0].message
    assert record.cells == {"name": "x"}


def test_numbers_and_truth_values_elsewhere_are_what_they_look_like() -> None:
    content = workbook(["identifier", "name", "enabled"], ["a", 7.0, True], [], ["b", 1.5, False])
    assert cells(content, Format.XLSX) == [
        {"identifier": "a", "name": "7", "enabled": "true"},
        {"identifier": "b", "name": "1.5", "enabled": "false"},
    ]


def test_a_cell_beside_the_header_is_named() -> None:
    [record] = rows(workbook(["identifier"], ["a", None, "stray"]), Format.XLSX)
    assert "beside the columns" in record.problems[0].message


WIDE = ["identifier", *map(str, range(formats.MAX_COLUMNS - 1))]


@pytest.mark.parametrize("gap", [0, 9, 63])
def test_columns_beyond_the_last_are_refused_and_cells_are_named(gap: int) -> None:
    def wide(header: Iterable[str]) -> Sequence[str]:
        return WIDE

    filled = ["a", *["x"] * (len(WIDE) - 1)]
    beyond = [*[None] * gap, "beyond"]
    [record] = rows(workbook(WIDE, filled), Format.XLSX, wide)
    assert [*record.cells.values()] == filled
    assert refusal(workbook(WIDE + beyond, filled), Format.XLSX, wide) == (
        "Row 1: A sheet has at most 64 columns, up to BL; this one has more."
    )
    [record] = rows(workbook(WIDE, filled + beyond), Format.XLSX, wide)
    assert [problem.message for problem in record.problems] == [
        "The row has a cell beside the columns of the header."
    ]


def test_empty_cells_beyond_the_last_column_do_no_harm() -> None:
    def reach_far(text: str) -> str:
        return text.replace("</row>", '<c r="XFD1" s="0"/></row>')

    book = repacked(workbook(["identifier"], ["a"], ["b"]), SHEET, reach_far)
    assert cells(book, Format.XLSX) == [{"identifier": "a"}, {"identifier": "b"}]


def test_cells_come_in_any_order() -> None:
    def turned_round(text: str) -> str:
        return re.sub(r"(<c r=\"A2\".*?</c>)(<c r=\"B2\".*?</c>)", r"\2\1", text)

    book = repacked(workbook(["identifier", "name"], ["a", "n"]), SHEET, turned_round)
    assert cells(book, Format.XLSX) == [{"identifier": "a", "name": "n"}]


def repacked(content: bytes, part: str, change: Callable[[str], str]) -> bytes:
    """Return a workbook with one of its parts changed."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as before, zipfile.ZipFile(file, "w") as after:
        for name in before.namelist():
            text = before.read(name)
            after.writestr(name, change(text.decode()) if name == part else text)
    return file.getvalue()


SHEET = "xl/worksheets/sheet1.xml"


def test_what_a_sheet_says_of_its_size_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    book = workbook(["identifier"], ["a"])
    lying = repacked(book, SHEET, lambda text: text.replace('ref="A1:A2"', 'ref="A1:XFD1048576"'))
    assert lying != book
    assert cells(lying, Format.XLSX) == [{"identifier": "a"}]
    monkeypatch.setattr(workbooks, "MAX_SHEET_ROWS", 1000)
    far = repacked(book, SHEET, lambda text: text.replace('r="2"', 'r="99999999999"'))
    assert "too many rows" in refusal(far, Format.XLSX)


def test_a_sheet_of_nothing_but_elements_is_not_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workbooks, "MAX_ELEMENTS", 1000)
    plain = workbook(["identifier", "name"], *[["a", "b"]] * 900)
    assert len(cells(plain, Format.XLSX)) == 900
    file = io.BytesIO(plain)
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr(
            "xl/worksheets/sheet2.xml",
            f"<worksheet><sheetData>{'<row/>' * 1001}</sheetData></worksheet>",
        )
    assert refusal(file.getvalue(), Format.XLSX) == (
        "The workbook has too many cells; split it or use CSV."
    )


def test_a_bomb_is_not_unpacked() -> None:
    file = io.BytesIO()
    with (
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open(SHEET, "w") as part,
    ):
        for _ in range(257):
            part.write(bytes(1024 * 1024))
    assert "unpacks to more than 256 MiB" in refusal(file.getvalue(), Format.XLSX)


def test_entities_of_a_workbook_do_not_multiply() -> None:
    entities = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 10))
    bomb = f'<!DOCTYPE x [<!ENTITY e0 "0123456789">{entities}]>'
    book = repacked(
        workbook(["identifier"], ["a"]),
        SHEET,
        lambda text: bomb + text.replace(">a<", ">&e9;<"),
    )
    assert "damaged" in refusal(book, Format.XLSX)


def test_a_broken_sheet_is_damage() -> None:
    book = repacked(workbook(["identifier"], ["a"]), SHEET, lambda text: text[:-30])
    assert "damaged" in refusal(book, Format.XLSX)


def test_files_and_tables_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "larger than 64 MiB" in refusal(bytes(formats.MAX_BYTES + 1), Format.CSV)
    monkeypatch.setattr(tables, "MAX_ROWS", 2)
    assert "Row 4: The file has more than 2 rows" in refusal(b"identifier\na\nb\nc\n", Format.CSV)


def test_a_workbook_opens_elsewhere_with_columns_of_text() -> None:
    content = table_of(("identifier", "name"), [{"identifier": "=1", "name": ""}], Format.XLSX)
    sheet = openpyxl.load_workbook(io.BytesIO(content)).active
    assert sheet is not None
    assert [[cell.value for cell in row] for row in sheet.iter_rows()] == [
        ["identifier", "name"],
        ["'=1", None],
    ]
    assert sheet["A2"].data_type == "s"
    assert sheet["A2"].number_format == "@"


def test_json_is_a_line_an_object() -> None:
    content = table_of((), [{"a": 1}, {"a": "ß"}], Format.JSON)
    assert json.loads(content) == [{"a": 1}, {"a": "ß"}]
    assert len(content.splitlines()) == 4
