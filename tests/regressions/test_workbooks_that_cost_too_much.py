"""A small workbook takes neither gigabytes of memory nor hours, before it is refused.

CWE-776, CWE-409. The size of a part was bounded, and so were its elements, not the text that
entities in it stand for: expat lets them be a hundred times the part. A file of 21 KB took 2 GB.
CVE-2023-52425: expat before 2.6, which Python 3.11.7 has, reads a tag anew with each piece of it
that comes. One of 5 MB, 6 KB in the file, took 12 to 20 s; one of 200 MB was not waited for.
openpyxl leaves both to its user (https://openpyxl.readthedocs.io/en/3.1/#security).
"""

import io
import zipfile

import openpyxl
import pytest
from django.core.exceptions import ValidationError

from devices.transfer import workbooks
from devices.transfer.columns import columns_of
from devices.transfer.formats import Format
from devices.transfer.tables import read

pytestmark = pytest.mark.once(on="sqlite")

SHEET, STRINGS, BOOK = "xl/worksheets/sheet1.xml", "xl/sharedStrings.xml", "xl/workbook.xml"
TYPES = "[Content_Types].xml"
LONG = "x" * 50_000  # shorter than a tag may be
DECLARATIONS = {
    "one": f'<!DOCTYPE x [<!ENTITY a "{LONG}">]>',
    "nested": f'<!DOCTYPE x [<!ENTITY b "{LONG}"><!ENTITY a "&b;&b;&b;">]>',
    "of a file": '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/hostname">]>',
    "of the declaration": "<!DOCTYPE x [<!ENTITY % p \"<!ENTITY a 'b'>\"> %p;]>",
}


NAMES = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
KIND = "application/vnd.openxmlformats-officedocument.spreadsheetml.sharedStrings+xml"
SHARED = (  # as spreadsheets write texts: a sheet names them by their number
    f'<Override PartName="/{STRINGS}" ContentType="{KIND}"/></Types>',
    f'<sst xmlns="{NAMES}"><si><t>TEXT</t></si></sst>',
)


def parts() -> dict[str, str]:
    """Return the parts of a workbook with a device, whose name is a shared text."""
    book, file = openpyxl.Workbook(), io.BytesIO()
    for row in (["identifier", "name"], ["lamp", "TEXT"]):
        book.worksheets[0].append(row)
    book.save(file)
    with zipfile.ZipFile(file) as archive:
        found = {name: archive.read(name).decode() for name in archive.namelist()}
    found[TYPES] = found[TYPES].replace("</Types>", SHARED[0])
    own = 't="inlineStr"><is><t>TEXT</t></is>'
    assert own in found[SHEET]
    return found | {SHEET: found[SHEET].replace(own, 't="s"><v>0</v>'), STRINGS: SHARED[1]}


def declaring(declaration: str, place: str, encoding: str = "utf-8") -> bytes:
    """Return a workbook with a declaration in one of its parts; the name is what it declares."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, part in parts().items():
            text = part.replace("TEXT", "&a;" * 90 if place == STRINGS and declaration else "Lamp")
            if name == place and declaration:
                plain = text.partition("?>")[2] if text.startswith("<?xml") else text
                text = f'<?xml version="1.0" encoding="{encoding}"?>{declaration}{plain}'
                archive.writestr(name, text.encode(encoding))
            else:
                archive.writestr(name, text)
    return made.getvalue()


def test_without_entities_it_is_read() -> None:
    (row,) = read(declaring("", STRINGS), Format.XLSX, columns_of)
    assert row.cells == {"identifier": "lamp", "name": "Lamp"}


def refusal(content: bytes) -> str:
    with pytest.raises(ValidationError) as caught:
        list(read(content, Format.XLSX, columns_of))
    return str(caught.value.messages[0])


@pytest.mark.parametrize("place", [SHEET, STRINGS, BOOK])
@pytest.mark.parametrize("declaration", DECLARATIONS.values(), ids=DECLARATIONS)
def test_entities_are_refused(declaration: str, place: str) -> None:
    assert "damaged" in refusal(declaring(declaration, place))


def test_so_are_those_in_another_encoding() -> None:
    assert "damaged" in refusal(declaring(DECLARATIONS["one"], STRINGS, "utf-16"))


LONG_TAGS = {
    "attribute": '<x a="{}"/>',
    "comment": "<!--{}-->",
    "instruction": "<?x {}?>",
    "name": "<x{}/>",
}


def lengthened(tag: str, length: int) -> bytes:
    """Return a workbook with a tag of about so many bytes in its sheet."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, part in parts().items():
            text = part.replace("TEXT", "Lamp")
            if name == SHEET:
                text = text.replace("<sheetData>", tag.format("y" * length) + "<sheetData>")
            archive.writestr(name, text)
    return made.getvalue()


@pytest.mark.parametrize("tag", LONG_TAGS.values(), ids=LONG_TAGS)
def test_a_long_tag_is_refused_before_it_ends(tag: str) -> None:
    (row,) = read(lengthened(tag, 1000), Format.XLSX, columns_of)
    assert row.cells["identifier"] == "lamp"
    assert "use CSV" in refusal(lengthened(tag, 3 * workbooks.MAX_TAG))


def merging(ranges: int, other: int = 0) -> bytes:
    """Return a workbook with so many merged cells beside its table, and in another part."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, part in parts().items():
            text = part.replace("TEXT", "Lamp")
            if name == SHEET:
                cells = '<mergeCell ref="Y1:Z1"/>' * ranges
                end = "</sheetData>"
                text = text.replace(end, f"{end}<mergeCells>{cells}</mergeCells>")
            archive.writestr(name, text)
        archive.writestr("xl/other.xml", "<x>" + '<mergeCell ref="Y1:Z1"/>' * other + "</x>")
    return made.getvalue()


def test_so_are_far_too_many_merged_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    """A million took 500 MB: 250 KB in the file."""
    monkeypatch.setattr(workbooks, "MAX_MERGED", 10)
    (row,) = read(merging(10), Format.XLSX, columns_of)
    assert row.cells["identifier"] == "lamp"
    assert "too many merged cells" in refusal(merging(11))
    (row,) = read(merging(6, 4), Format.XLSX, columns_of)
    assert row.cells["identifier"] == "lamp"
    assert "too many merged cells" in refusal(merging(6, 5))


def test_so_are_far_too_many_attributes(monkeypatch: pytest.MonkeyPatch) -> None:
    """1.5 million took 521 MiB. A row that is done with keeps none of its own."""
    monkeypatch.setattr(workbooks, "MAX_ELEMENTS", 4000)
    elements = {"<sheetData>": '<other a="1"/>' * 1500, "</sheetData>": '<row a="1"/>' * 1500}
    for place, more in elements.items():
        made = io.BytesIO()
        with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, part in parts().items():
                archive.writestr(name, part.replace(place, f"{more}{place}"))
        if "other" in more:
            assert "too many cells" in refusal(made.getvalue())
        else:
            assert list(read(made.getvalue(), Format.XLSX, columns_of))


def test_a_long_text_is_no_tag() -> None:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, part in parts().items():
            archive.writestr(name, part.replace("TEXT", "y" * 3 * workbooks.MAX_TAG))
    (row,) = read(made.getvalue(), Format.XLSX, columns_of)
    assert row.cells == {"identifier": "lamp"}
    assert [problem.column for problem in row.problems] == ["name"]
