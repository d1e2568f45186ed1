"""Devices into files: what is in them, what never is, and that they come back unchanged."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from django.core.exceptions import ValidationError
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from devices.models import Certificate, Device, DeviceGroup, PreSharedKey
from devices.transfer import exporting, workbooks
from devices.transfer.exporting import export_devices, export_groups, template
from devices.transfer.formats import Format
from tests.devices.transfer.test_importing import load, members, outcome
from tests.support import pki
from tests.support.commands import answer, run

Factory = Callable[..., Device]


def exported(kind: Format = Format.CSV) -> bytes:
    with export_devices(Device.objects.all(), kind).file as file:
        return file.read()


def csv_rows(content: bytes | str) -> list[dict[str, str]]:
    text = content if isinstance(content, str) else content.decode("utf-8-sig")
    return list(csv.DictReader(io.StringIO(text.removeprefix("\ufeff"), newline="")))


@pytest.fixture
def fleet(make_device: Factory, make_group: Callable[..., DeviceGroup]) -> None:
    """Register devices with all that could go wrong in a file."""
    roof, odd = make_group("Roof", parent=make_group("Site")), make_group("a|b\\")
    make_group("within", parent=make_group(" spaces "))
    device = make_device(
        "lamp-1", name="=1+1", description='"quoted",\r\nnext; line', groups=[odd, roof],
        attributes={"b": [1, True, None], "a": "ß😀"}, last_seen=timezone.now(),
    )  # fmt: skip
    PreSharedKey.objects.issue(device=device)
    PreSharedKey.objects.register(device=device, secret="correct horse battery")
    Certificate.objects.register(device=device, presented=pki.issue("lamp-1").pem)
    make_device("@lamp", kind="backend", enabled=False, name="'=quoted already")
    make_device("1.0", name=" spaces ")
    Device.objects.create(identifier="//h/a.b%41")


@pytest.mark.parametrize("kind", Format)
def test_what_was_exported_is_unchanged_when_it_is_imported(fleet: None, kind: Format) -> None:
    made = load(exported(kind), kind)
    assert made.problems == []
    assert outcome(made) == {"unchanged": 4}


@pytest.mark.parametrize("kind", Format)
def test_what_was_exported_makes_the_same_registry_elsewhere(fleet: None, kind: Format) -> None:
    fields = ("identifier", "kind", "name", "description", "enabled", "attributes")
    before = list(Device.objects.values(*fields))
    memberships = members("lamp-1")
    tree = list(DeviceGroup.objects.values("name", "parent__name", "description"))
    devices = exported(kind)
    with export_groups(DeviceGroup.objects.all(), kind).file as file:
        groups = file.read()
    Device.objects.all().delete()
    DeviceGroup.objects.filter(parent__isnull=False).delete()
    DeviceGroup.objects.all().delete()
    load(groups, kind)
    assert outcome(load(devices, kind)) == {"new": 4}
    assert list(Device.objects.values(*fields)) == before
    assert members("lamp-1") == memberships
    assert list(DeviceGroup.objects.values("name", "parent__name", "description")) == tree


@pytest.mark.once(on="sqlite")
@pytest.mark.parametrize("kind", Format)
def test_neither_secret_nor_digest_is_exported(fleet: None, kind: Format) -> None:
    content = exported(kind)
    if kind == Format.XLSX:
        book = openpyxl.load_workbook(io.BytesIO(content))
        content = str([[cell.value for cell in row] for row in book.worksheets[0]]).encode()
    generated, chosen = PreSharedKey.objects.order_by("pk")
    assert generated.hint.strip("…").encode() not in content
    for key in (generated, chosen):
        assert key.digest.encode() not in content


def test_columns_come_in_the_order_of_an_import(fleet: None) -> None:
    rows = csv_rows(exported())
    assert list(rows[0])[:6] == ["identifier", "kind", "name", "groups", "enabled", "secret"]
    by_identifier = {row["identifier"]: row for row in rows}
    lamp = by_identifier["lamp-1"]
    assert (lamp["name"], lamp["secret"], lamp["live_keys"], lamp["live_certificates"]) == (
        *("'=1+1", "", "2"),
        "1",
    )
    assert lamp["last_seen"].endswith("+00:00")
    assert by_identifier["'@lamp"]["last_seen"] == ""
    assert by_identifier["'@lamp"]["name"] == "''=quoted already"
    assert by_identifier["//h/a%2Eb%2541"]["live_keys"] == "0"


def test_json_has_values_and_no_column_for_secrets(fleet: None) -> None:
    found = {row["identifier"]: row for row in json.loads(exported(Format.JSON))}
    assert set(found["lamp-1"]["groups"]) == {"Roof", "a|b\\"}
    assert found["lamp-1"]["attributes"] == {"b": [1, True, None], "a": "ß😀"}
    assert found["@lamp"]["enabled"] is False
    assert "secret" not in found["lamp-1"]


def test_devices_for_export_are_read_in_batches_with_a_constant_number_of_queries(
    db: None, django_assert_num_queries: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    load("identifier,groups\n" + "".join(f"d{n},g{n % 2}\n" for n in range(7)), create_groups=True)
    monkeypatch.setattr(exporting, "BATCH", 3)
    with CaptureQueriesContext(connection) as captured:
        rows = csv_rows(exported())
    assert [row["identifier"] for row in rows] == [f"d{n}" for n in range(7)]
    assert len(captured) == 3 * 2 + 1  # three batches, each with its groups, and the empty one
    for query in captured:
        assert "digest" not in query["sql"]
        assert '"pem"' not in query["sql"]
    with django_assert_num_queries(2):
        found = list(Device.objects.for_export().iterator(chunk_size=100))
        assert [[group.name for group in device.groups.all()] for device in found[:2]] == [
            ["g0"],
            ["g1"],
        ]


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_a_device_that_a_filter_finds_several_times_comes_once(
    make_device: Factory, make_group: Callable[..., DeviceGroup], size: int
) -> None:
    groups = [make_group(f"g{n}") for n in range(3)]
    for n in range(4):
        make_device(f"d{n}", groups=groups[: n + 1])
    devices = Device.objects.filter(groups__name__startswith="g").for_export()
    assert devices.count() == 1 + 2 + 3 + 3

    found = [device.identifier for batch in devices.in_batches(size) for device in batch]

    assert found == ["d0", "d1", "d2", "d3"]


def test_more_than_a_sheet_holds_is_no_workbook(
    fleet: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workbooks, "MAX_WRITTEN_ROWS", 3)
    with pytest.raises(ValidationError, match="no more than 3 rows"):
        export_devices(Device.objects.all(), Format.XLSX)
    export = export_devices(Device.objects.filter(kind="device"), Format.XLSX)
    export.file.close()
    assert export.rows == 3


@pytest.mark.parametrize("kind", Format)
@pytest.mark.parametrize("table", ["devices", "groups"])
def test_templates_can_be_imported(db: None, table: str, kind: Format) -> None:
    file = io.BytesIO()
    template(file, table, kind)
    if kind.is_flat:
        with pytest.raises(ValidationError, match="no rows"):
            load(file.getvalue(), kind)
    else:
        made = load(file.getvalue(), kind, write=False)
        assert made.is_sound
        assert sum(outcome(made).values()) == 1


# --- The command ----------------------------------------------------------------------------


def test_the_command_prints_csv_and_filters(fleet: None) -> None:
    def chosen(*conditions: str) -> list[str]:
        words = [word for condition in conditions for word in ("--filter", condition)]
        return [row["identifier"] for row in csv_rows(run("export_devices", *words)[0])]

    assert len(chosen()) == 4
    assert chosen("groups=Roof") == ["lamp-1"]
    assert chosen("groups__in=Roof,Site") == ["lamp-1"]
    assert chosen("groups__iexact=roof") == ["lamp-1"]
    assert chosen("kind=backend", "enabled=false") == ["'@lamp"]
    assert chosen("kind=backend", "enabled=true") == []
    assert chosen("identifier__startswith=lamp") == ["lamp-1"]
    assert chosen("identifier=1.0") == ["1.0"]
    assert chosen("last_seen__gt=2020-01-01") == ["lamp-1"]
    assert len(chosen("last_seen=none")) == len(chosen("last_seen__isnull=true")) == 3


@pytest.mark.once(on="sqlite")
@pytest.mark.parametrize(
    "condition",
    [
        "kind", "keys__digest__startswith=a", "pk=1", "groups__devices__keys__digest=a",
        "enabled=maybe", "last_seen=soon", "name__nonsense=x", "groups__parent__name=x",
        "kind=fridge", "kind__in=device,fridge", "name__regex=(", "created__in=2026-01-01,soon",
    ],
)  # fmt: skip
def test_the_command_refuses_what_is_no_filter(fleet: None, condition: str) -> None:
    _, said = run("export_devices", "--filter", condition, code=2)
    assert "is no filter" in said


@pytest.mark.parametrize(
    ("condition", "name"),
    [
        ("groups=Rof", "“groups=Rof”"),
        ("groups__in=Roof,Sit", "“groups__in=Sit”"),
        ("groups__startswith=Ruf", "“groups__startswith=Ruf”"),
        ("groups=", "“groups=”"),
        ("identifier=lamp", "“identifier=lamp”"),
        ("identifier__in=lamp-1,lamp-7", "identifier__in=lamp-7"),
    ],
)
def test_a_filter_that_names_what_is_not_there_writes_nothing(
    fleet: None, condition: str, name: str, tmp_path: Path
) -> None:
    path = tmp_path / "devices.csv"
    words = ("--filter", "enabled=true", "--filter", condition)
    assert name in run("export_devices", *words, "--output", str(path), code=1)[1]
    assert name in run("list_devices", *words, code=1)[1]
    assert not path.exists()


@pytest.mark.once(on="sqlite")
@pytest.mark.parametrize("kind", Format)
def test_the_command_writes_a_file_of_the_kind_that_its_name_tells(
    fleet: None, kind: Format, tmp_path: Path
) -> None:
    path = tmp_path / f"devices.{kind}"
    run("export_devices", "--output", str(path))
    assert outcome(load(path.read_bytes(), kind)) == {"unchanged": 4}


def test_the_command_prints_json_and_groups(fleet: None) -> None:
    assert len(json.loads(run("export_devices", "--json")[0])) == 4
    lines = run("export_devices", "--groups", "--format", "ndjson")[0].splitlines()
    groups = [json.loads(line) for line in lines]
    assert {"group": "Roof", "parent": "Site", "description": ""} in groups


def test_the_command_says_what_it_cannot_do(fleet: None, tmp_path: Path) -> None:
    assert "--format" in run("export_devices", "--output", "x.ods", code=2)[1]
    nowhere = str(tmp_path / "nowhere" / "x.csv")
    assert "No such file" in run("export_devices", "--output", nowhere, code=2)[1]
    assert "not groups" in run("export_devices", "--groups", "--filter", "kind=device", code=2)[1]


def test_an_import_of_an_export_says_so(fleet: None, tmp_path: Path) -> None:
    path = tmp_path / "devices.csv"
    run("export_devices", "--output", str(path))
    document = answer("import_devices", str(path))
    assert (document["imported"], document["unchanged"]) == (True, 4)
