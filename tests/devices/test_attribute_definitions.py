"""Attributes with a type: forms, imports and lists hold to it; others stay free."""

from collections.abc import Callable
from io import StringIO
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.db import connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext

from devices.history import history_of, undoing
from devices.models import AttributeDefinition, Device
from tests.support.forms import inputs
from tests.support.staff import browser_of, staff

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


KINDS = ("text", "number", "choice", "date", "yes-no")


@pytest.fixture
def fields(define: Any) -> dict[str, str]:
    """Define an attribute of each type; return the names of their fields."""
    made = {kind: define(kind, kind, choices="red\nblue") for kind in KINDS}
    return {kind: f"attribute-{definition.pk}" for kind, definition in made.items()}


def edit(client: Client, device: Device | None, **said: str) -> Any:
    """Send the form of a device, or of a new one, with some fields filled in anew."""
    address = f"{LIST}{device.pk}/change/?edit=1" if device else f"{LIST}add/"
    sent = inputs(client.get(address)) | ({} if device else {"identifier": "new"})
    return client.post(address, sent | said)


def errors(answer: Any) -> dict[str, list[str]]:
    return dict(answer.context["adminform"].form.errors)


@pytest.mark.once(on="sqlite")
@pytest.mark.parametrize(
    ("kind", "typed", "stored", "wrong"),
    [
        ("text", " a  b\r\nc ", " a  b\nc ", "\0"),
        ("number", "2", 2, "two"),
        ("number", "-2.50", -2.5, "1e999999999"),
        ("number", "12345678901234567890", 12345678901234567890, "NaN"),
        ("choice", "red", "red", "green"),
        ("date", "2027-01-31", "2027-01-31", "31.1.2027"),
        ("yes-no", "true", True, None),
        ("yes-no", "false", False, None),
    ],
)
def test_each_attribute_has_a_field_of_its_type(
    fields: dict[str, str],
    admin_client: Client,
    kind: str,
    typed: str,
    stored: Any,
    wrong: str | None,
) -> None:
    name = fields[kind]
    if wrong is not None:
        refused = edit(admin_client, None, **{name: wrong})
        assert [*errors(refused)] == [name]
        assert f'id="id_{name}_error"' in refused.content.decode()
    assert edit(admin_client, None, **{name: typed}).status_code == 302
    device = Device.objects.get()
    assert device.attributes == {kind: stored}
    assert isinstance(device.attributes[kind], type(stored))
    # What is not touched stays, to the last space; what is emptied goes.
    assert edit(admin_client, device, name="x", attributes='{"free": [1]}').status_code == 302
    device.refresh_from_db()
    assert (device.name, device.attributes) == ("x", {kind: stored, "free": [1]})
    empty = "unknown" if kind == "yes-no" else ""
    assert edit(admin_client, device, **{name: empty}).status_code == 302
    device.refresh_from_db()
    assert device.attributes == {"free": [1]}


def test_what_is_required_is_asked_of_who_changes_the_attributes(
    define: Any, make_device: Factory, admin_client: Client
) -> None:
    device = make_device(attributes={"free": 1})
    floor = define("floor", "number", required=True, help="From <i>the ground</i>.")
    own = f"attribute-{floor.pk}"
    page = admin_client.get(f"{LIST}{device.pk}/change/?edit=1").content.decode()
    assert "floor (required)" in page
    assert "From &lt;i&gt;the ground&lt;/i&gt;." in page
    assert edit(admin_client, device, name="named").status_code == 302  # which changes no attribute
    refused = errors(edit(admin_client, device, attributes="{}"))
    assert refused == {own: ["The attribute “floor” is missing."]}
    refused = errors(edit(admin_client, device, attributes='{"floor": "two"}'))
    assert [*refused] == [own]
    assert "says “two”, and must be a number" in refused[own][0]
    assert edit(admin_client, device, attributes='{"floor": 2}').status_code == 302
    refused = errors(edit(admin_client, device, attributes='{"floor": 3}'))
    assert refused == {"attributes": ["“floor” has a field of its own: leave it out here."]}
    assert edit(admin_client, device, **{own: "4"}).status_code == 302
    assert Device.objects.get().attributes == {"floor": 4}


def test_what_lacks_a_required_attribute_changes_otherwise(
    define: Any, make_device: Factory
) -> None:
    device = make_device("lamp", attributes={"lit": 1})
    device.name = "Lamp"
    device.save()
    define("floor", "number", required=True)
    call_command("change_device", "lamp", "--name", "Other", stdout=StringIO())
    device.refresh_from_db()
    assert device.name == "Other"
    change = history_of(Device).objects.filter(id=device.pk).latest("history_id")
    with transaction.atomic():
        back = undoing.reversal_of(Device, change.history_id, undoes_change=True)
        assert back.check() is None
        back.apply()
    device.refresh_from_db()
    assert device.name == "Lamp"
    device.attributes = {"lit": True}  # which Python calls equal to 1
    with pytest.raises(ValidationError, match="is missing"):
        device.full_clean()


def test_a_value_that_is_not_of_its_type_stays_until_another_is_said(
    define: Any, make_device: Factory, admin_client: Client
) -> None:
    device = make_device(attributes={"floor": "second", "lit": 1})
    floor, lit = define("floor", "number"), define("lit", "yes-no")
    assert edit(admin_client, device, name="named").status_code == 302
    assert Device.objects.get().attributes == {"floor": "second", "lit": 1}
    said = {f"attribute-{floor.pk}": "2", f"attribute-{lit.pk}": "true"}
    assert edit(admin_client, device, **said).status_code == 302
    assert Device.objects.get().attributes == {"floor": 2, "lit": True}
    assert Device.objects.get().attributes["lit"] is True


def test_two_people_change_two_attributes_of_a_device(
    fields: dict[str, str], make_device: Factory, admin_client: Client
) -> None:
    device = make_device(attributes={"number": 1, "text": "a", "free": 1})
    address = f"{LIST}{device.pk}/change/?edit=1"
    lay_open = inputs(admin_client.get(address))
    edit(admin_client, device, **{fields["number"]: "2"})
    sent = lay_open | {fields["text"]: "b", "attributes": '{"free": 3}'}
    assert admin_client.post(address, sent).status_code == 302
    assert Device.objects.get().attributes == {"number": 2, "text": "b", "free": 3}
    refused = admin_client.post(address, lay_open | {fields["number"]: "5"})
    assert "changed this to “2”" in errors(refused)[fields["number"]][0]


def test_who_may_only_look_sees_attributes_as_they_are(
    fields: dict[str, str], make_device: Factory
) -> None:
    device = make_device(attributes={"number": 1})
    client = browser_of(staff("view_device"))
    page = client.get(f"{LIST}{device.pk}/change/?edit=1").content.decode()
    assert "number&quot;: 1" in page
    assert fields["number"] not in page


@pytest.mark.parametrize(
    ("name", "kind"), [("colour", "choice"), ('a"b', "text"), ("a\\b", "text")]
)
def test_a_definition_that_cannot_be_is_refused(define: Any, name: str, kind: str) -> None:
    with pytest.raises(ValidationError):
        define(name, kind)


@pytest.mark.once(on="sqlite")
def test_deleting_a_type_says_that_devices_keep_their_values(define: Any) -> None:
    definition = define("floor", "number")
    page = "/admin/devices/attributedefinition/"
    browser = browser_of(staff(role="Operator"))
    selected = {"action": "delete_selected", "_selected_action": definition.pk}
    for shown in (browser.get(f"{page}{definition.pk}/delete/"), browser.post(page, selected)):
        assert "devices keep their values" in shown.text


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


NAMES = ("floor", "a__b", "with 'quotes' and space", "7", "-1", "a%s.b")


def shown(client: Client, **asked: str) -> list[str]:
    return [row.identifier for row in client.get(LIST, asked).context["cl"].result_list]


@pytest.mark.parametrize(
    ("kind", "values", "asked", "found"),
    [
        ("number", [1, 2, 2.5], "2", ["d1"]),
        ("number", [1, 2, 2.5], "2.5", ["d2"]),
        ("number", [1, 2, 2.5], "two", []),
        ("number", [1, 2.0, True], "2", ["d1"]),
        ("number", [1, "1", True], "1", ["d0"]),
        ("number", [1, 2, 2.5], "nan", []),
        ("number", [1, 2, 2.5], "-1e999", []),
        ("number", [1, 2, 2.5], "1e300", []),
        ("text", ["1", 1, True], "1", ["d0"]),
        ("text", ["a", "A", 'quo"te'], 'quo"te', ["d2"]),
        ("choice", ["red", "red", "blue"], "red", ["d0", "d1"]),
        ("yes-no", [True, False, True], "true", ["d0", "d2"]),
        ("yes-no", [True, 1, "true"], "true", ["d0"]),
        ("date", ["2027-01-31", "2027-02-01", "2027-01-31"], "2027-01-31", ["d0", "d2"]),
    ],
)
def test_lists_filter_by_a_value(
    define: Any,
    make_device: Factory,
    admin_client: Client,
    kind: str,
    values: list[Any],
    asked: str,
    found: list[str],
) -> None:
    for number, value in enumerate(values):
        make_device(f"d{number}", attributes=dict.fromkeys(NAMES, value))
    made = [define(name, kind, choices="red\nblue") for name in NAMES]
    for definition in made:
        kept = definition.keep(Device.objects.order_by("identifier"), asked)
        assert [device.identifier for device in kept] == found, definition.name
    by_all = {f"attribute-{definition.pk}": asked for definition in made}
    assert shown(admin_client, **by_all) == found


@pytest.mark.parametrize("name", NAMES)
def test_lists_show_an_attribute_of_each_type(
    define: Any, make_device: Factory, admin_client: Client, name: str
) -> None:
    values = {"text": "a", "number": 2.5, "choice": "red", "date": "2027-01-31", "yes-no": True}
    names = {kind: f"{name}{kind}" for kind in KINDS}
    make_device(attributes={names[kind]: values[kind] for kind in KINDS})
    made = [define(names[kind], kind, choices="red\nblue") for kind in KINDS]
    columns = [f"attribute-{definition.pk}" for definition in made]
    admin_client.post(f"{LIST}columns/", {"column": [*columns, "name"], "list": ""})
    page = admin_client.get(LIST).content.decode()
    for column in columns:
        assert f'class="field-{column}' in page
    make_device("without")
    assert "without" not in shown(admin_client, **{columns[0]: "a"})


@pytest.mark.parametrize("how", ["deleted", "switched off"])
def test_an_address_with_a_filter_that_is_gone_leads_to_the_list_without_it(
    define: Any, make_device: Factory, admin_client: Client, how: str
) -> None:
    make_device("lamp")
    definition = define("floor", "number")
    gone, other = f"attribute-{definition.pk}", f"attribute-{define('lit', 'yes-no').pk}"
    if how == "deleted":
        definition.delete()
    else:
        AttributeDefinition.objects.filter(pk=definition.pk).update(is_filter=False)
    admin_client.post(f"{LIST}columns/", {"column": [gone, "name"], "list": ""})
    answer = admin_client.get(LIST, {gone: "1", "q": "la"}, follow=True)
    assert answer.redirect_chain == [("?q=la", 302)]
    assert "does not filter by such an attribute any more" in answer.content.decode()
    assert [row.identifier for row in answer.context["cl"].result_list] == ["lamp"]
    assert admin_client.get(LIST, {other: "true"}).status_code == 200


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
