"""Attributes with a type: forms, imports and lists hold to it; others stay free."""

from collections.abc import Callable
from io import StringIO
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from devices.models import AttributeDefinition, Device
from tests.support.forms import inputs

LIST = "/admin/devices/device/"
Factory = Callable[..., Device]


@pytest.fixture
def define(db: None) -> Callable[..., AttributeDefinition]:
    def make(name: str, kind: str, **fields: Any) -> AttributeDefinition:
        definition = AttributeDefinition(name=name, type=kind, **fields)
        definition.full_clean()
        definition.save()
        return definition

    return make


@pytest.mark.parametrize(
    ("kind", "right", "wrong"),
    [
        ("text", ["", "2", "灯"], [2, True, None, ["x"]]),
        ("number", [0, -2, 1.5], ["2", True, None]),
        ("choice", ["red", "dark blue"], ["blue", "", 1]),
        ("date", ["2027-01-31"], ["2027-02-31", "31.1.2027", "20270131", 1]),
        ("yes-no", [True, False], ["yes", 1, None]),
    ],
)
def test_values_are_of_their_type(define: Any, kind: str, right: Any, wrong: Any) -> None:
    define("a", kind, choices="red\n dark blue \n\n")
    for value in right:
        Device(identifier="x", attributes={"a": value, "free": [1]}).full_clean()
    for value in wrong:
        with pytest.raises(ValidationError, match="must be"):
            Device(identifier="x", attributes={"a": value}).full_clean()


def test_what_is_required_is_asked_of_who_changes_the_attributes(
    define: Any, make_device: Factory, admin_client: Client
) -> None:
    device = make_device(attributes={"free": 1})
    define("floor", "number", required=True, help="From the ground.")
    address = f"{LIST}{device.pk}/change/?edit=1"
    page = admin_client.get(address)
    assert "“floor”: a number (required) – From the ground." in page.content.decode()
    sent = inputs(page)
    refused = admin_client.post(address, sent | {"attributes": '{"floor": "two"}'})
    assert "says “two”, and must be a number" in refused.content.decode()
    assert admin_client.post(address, sent | {"attributes": '{"floor": 2}'}).status_code == 302


@pytest.mark.parametrize(
    ("name", "kind"), [("colour", "choice"), ('a"b', "text"), ("a\\b", "text")]
)
def test_a_definition_that_cannot_be_is_refused(define: Any, name: str, kind: str) -> None:
    with pytest.raises(ValidationError):
        define(name, kind)


def test_imports_hold_to_the_types_with_one_look_at_them(define: Any, tmp_path: Any) -> None:
    define("floor", "number", required=True)

    def imported(rows: list[str]) -> int:
        file = tmp_path / "devices.csv"
        file.write_text("\n".join(["identifier,attributes", *rows]))
        with CaptureQueriesContext(connection) as found:
            call_command("import_devices", str(file), stdout=StringIO(), stderr=StringIO())
        return sum("devices_attributedefinition" in one["sql"] for one in found.captured_queries)

    with pytest.raises(SystemExit):
        imported(["a,"])
    with pytest.raises(SystemExit):
        imported(['a,"{""floor"": ""two""}"'])
    assert not Device.objects.exists()
    assert imported([f'd{n},"{{""floor"": {n}}}"' for n in range(20)]) == 1
    assert Device.objects.get(identifier="d7").attributes == {"floor": 7}


def shown(client: Client, **asked: str) -> list[str]:
    return [row.identifier for row in client.get(LIST, asked).context["cl"].result_list]


@pytest.mark.parametrize(
    ("kind", "values", "asked", "found"),
    [
        ("number", [1, 2, 2.5], "2", ["d1"]),
        ("number", [1, 2, 2.5], "2.5", ["d2"]),
        ("number", [1, 2, 2.5], "two", []),
        ("text", ["a", "A", 'quo"te'], 'quo"te', ["d2"]),
        ("choice", ["red", "red", "blue"], "red", ["d0", "d1"]),
        ("yes-no", [True, False, True], "true", ["d0", "d2"]),
        ("date", ["2027-01-31", "2027-02-01", "2027-01-31"], "2027-01-31", ["d0", "d2"]),
    ],
)
@pytest.mark.parametrize("name", ["floor", "a__b", "with 'quotes' and space"])
def test_lists_filter_and_show(
    define: Any,
    make_device: Factory,
    admin_client: Client,
    name: str,
    kind: str,
    values: list[Any],
    asked: str,
    found: list[str],
) -> None:
    for number, value in enumerate(values):
        make_device(f"d{number}", attributes={name: value})
    definition = define(name, kind, choices="red\nblue")
    parameter = f"attribute-{definition.pk}"
    assert shown(admin_client, **{parameter: asked}) == found
    sent = {"column": [parameter, "name"], "list": ""}
    admin_client.post(f"{LIST}columns/", sent)
    assert f'class="field-{parameter}' in admin_client.get(LIST).content.decode()


def test_the_list_costs_one_statement_more_however_many_devices(
    define: Any, make_device: Factory, admin_client: Client
) -> None:
    definition = define("floor", "number")

    def cost() -> int:
        with CaptureQueriesContext(connection) as found:
            admin_client.get(LIST, {f"attribute-{definition.pk}": "1"})
        return len(found)

    make_device(attributes={"floor": 1})
    alone = cost()
    for _ in range(12):
        make_device(attributes={"floor": 1})
    assert cost() == alone


@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite reads the table")
def test_an_index_finds_devices_by_attribute(define: Any) -> None:
    definition = define("floor", "number")
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
    plan = definition.keep(Device.objects.order_by(), "2").explain()
    assert "devices_device_by_attribute" in plan
