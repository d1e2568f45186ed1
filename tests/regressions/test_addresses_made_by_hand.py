"""Every address under /admin/, with parameters that no page makes, is answered: never a failure.

Reported of Django admins again and again: a number that no column holds, a NUL, a look-up that runs
a regular expression (`?name__regex=[`) or a date of the year 0 ended as an error page. A regular
expression that a link brings runs in the process on SQLite, and one with `(a+)+` never ends there.

The kind: CWE-1333.
"""

import itertools
import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver

from acl.models import Assertion, CommandSet
from devices.models import Certificate, CertificateAuthority, Device, DeviceGroup, PreSharedKey
from tests.support import pki
from tests.support.rules import make_rule

ANSWERS = {200, 302, 400, 403, 404, 405}
NUMBERS = [
    *("0", "1", "-1", "2147483648", "9223372036854775807", "9223372036854775808"),
    *("1" * 40, "²", "1.5", "1e5", "x", "%00"),
]
VALUES = [
    *("[", "(a+)+$", "1", "abc", "", "\x00", "9223372036854775808", "0001-01-01", "9999-12-31"),
    *(
        "0000-00-00",
        "2026-13-45",
        "10000-01-01T00:00",
        "2026-11-25T10:00:00+25:00",
        "9999-12-31T23:59:59-12:00",
        "True",
    ),
]
OF_LISTS = ["q", "p", "o", "all", "e", "_popup", "_to_field", "_changelist_filters", "list", "x"]
PARAMETERS = [
    *OF_LISTS,
    *("after", "since", "until", "from", "user", "origin", "model", "period", "reason", "caller"),
    *("sender", "receiver", "group", "state", "seen", "credentials", "fault", "source"),
    *("destination", "command", "device", "format", "table", "next", "app_label", "model_name"),
    *("field_name", "term"),
]


@pytest.fixture
def client(client: Client, db: None) -> Client:
    """Sign in somebody who may see everything, with a row of most models to see."""
    client.force_login(User.objects.create_superuser("root"))
    client.raise_request_exception = False
    device = Device.objects.create(identifier="lamp")
    group = DeviceGroup.objects.create(name="yard")
    device.groups.add(group)
    PreSharedKey.objects.issue(device=device)
    Certificate.objects.register(device=device, presented=pki.issue("lamp").pem)
    CertificateAuthority.objects.register(name="CA", presented=pki.authority("CA").pem)
    CommandSet.objects.create(name="set")
    make_rule(device, "itself")
    Assertion.objects.create(text="lamp may /v1/X itself")
    return client


def patterns(resolver: Any, prefix: str = "") -> Iterator[tuple[str, list[str]]]:
    """Yield each address of a URL configuration, with the converters of its parameters."""
    for one in resolver.url_patterns:
        route = prefix + re.sub(r"\\Z|[$^]", "", str(one.pattern))
        if isinstance(one, URLResolver):
            yield from patterns(one, route)
        elif isinstance(one, URLPattern):
            yield route, re.findall(r"<[^>]+>|\(\?P<[^>]+>[^)]*\)", route)


def addresses() -> list[str]:
    """Return every address below /admin/, each of its parameters with each number."""
    made = []
    for route, places in patterns(get_resolver()):
        if not route.startswith("admin/"):
            continue
        for number in NUMBERS if places else [""]:
            filled = route
            for place in places:
                filled = filled.replace(place, number, 1)
            made.append("/" + filled)
    return made


def failures(client: Client, asked: Iterator[tuple[str, dict[str, str]]]) -> list[str]:
    found = []
    for address, parameters in asked:
        answer = client.get(address, parameters)
        if answer.streaming:
            list(answer)  # as a server does, which closes it then
        if answer.status_code not in ANSWERS:
            error = repr(vars(answer).get("exc_info", [None, None])[1])[:150]
            found.append(f"{answer.status_code} {address} {parameters} {error}")
    return found


def lists() -> list[tuple[str, Any]]:
    return [
        (f"/admin/{model._meta.app_label}/{model._meta.model_name}/", model)
        for model in admin.site._registry
    ]


def test_every_address_is_answered(client: Client) -> None:
    left = [one for one in addresses() if "logout" not in one and "(?P" not in one]
    assert len(left) > 500
    assert not failures(client, ((address, {}) for address in left))


@pytest.mark.once(on="postgres")
def test_every_page_takes_any_parameter(client: Client) -> None:
    pages = [
        *("/admin/history/", "/admin/search/", "/admin/autocomplete/", "/admin/", "/admin/login/"),
        *(f"/admin/devices/device/{end}/" for end in ("export", "import", "import/template")),
        *(f"/admin/devices/device/{end}/" for end in ("suggestions", "try-credential")),
        *(f"/admin/acl/commandpermission/{end}/" for end in ("explain", "report", "commands")),
        f"/admin/devices/device/{Device.objects.get().pk}/history/",
    ]
    values = itertools.cycle(VALUES)
    known = dict.fromkeys(pages, PARAMETERS)
    for address, model in lists():
        filters = admin.site.get_model_admin(model).list_filter
        names = (getattr(one, "parameter_name", None) for one in filters)
        known[address] = [*OF_LISTS, *filter(None, names)]
    asked = ((page, {name: next(values)}) for page, names in known.items() for name in names)
    assert not failures(client, asked)


def test_every_filter_takes_a_number_that_no_column_holds(client: Client) -> None:
    numbers = ("9223372036854775808", "1" * 40, "\uff11" * 20, "²", "0", "-1")
    asked = (
        (address, {name: f"{before}{number}"})
        for address, model in lists()
        for one in admin.site.get_model_admin(model).list_filter
        if (name := getattr(one, "parameter_name", None))
        for before in (("", "group-") if "/acl/" in address else ("",))  # as filters of rules have
        for number in numbers
    )
    assert not failures(client, asked)


@pytest.mark.once(on="processes")  # what is offered is asked for on both: test_hostile_parameters
def test_every_list_refuses_what_it_does_not_offer(client: Client) -> None:
    values = itertools.cycle(VALUES)
    for address, model in lists():
        for field in model._meta.get_fields():
            ends = ("", "__id") if field.is_relation else ("",)
            for lookup in ("exact", "gte", "isnull", "in", "regex", "icontains"):
                for name in (f"{field.name}{end}__{lookup}" for end in ends):
                    answer = client.get(address, {name: next(values)})
                    said = (address, answer.wsgi_request.GET)
                    assert answer.status_code in {200, 302, 400}, said
                    if "regex" in lookup or "contains" in lookup:
                        assert answer.status_code == 400, (address, name)


@pytest.mark.once(on="processes")
def test_every_new_row_takes_any_initial_value(client: Client) -> None:
    asked = (
        (f"{address}add/", {field.name: value for field in model._meta.get_fields()})
        for address, model in lists()
        for value in VALUES
    )
    assert not failures(client, asked)


@pytest.mark.once(on="sqlite")
@pytest.mark.parametrize("lookup", ["regex", "iregex"])
@pytest.mark.parametrize("value", ["^([0-9a-f-]+)+!$", "["])
def test_no_regular_expression_runs_for_a_viewer(client: Client, lookup: str, value: str) -> None:
    for field in ("identifier", "name", "groups__name", "keys__label"):
        answer = client.get("/admin/devices/device/", {f"{field}__{lookup}": value})
        assert answer.status_code == 400


@pytest.mark.once(on="sqlite")
def test_a_search_is_no_longer_than_its_field(client: Client) -> None:
    """One of 2,500 words took a process 42 s; on SQLite it ended as an outage of the database."""
    devices = "/admin/devices/device/"
    of_groups = "app_label=devices&model_name=device&field_name=groups"
    pages = [f"{devices}?q", f"{devices}export/?q", "/admin/acl/commandpermission/?q"]
    for page in (*pages, "/admin/rpc/callrecord/?q", f"/admin/autocomplete/?{of_groups}&term"):
        assert client.get(f"{page}={'w+' * 127}xx").status_code == 400, page
    assert client.get(f"{devices}?q={'w+' * 127}x").status_code == 200


NO_KEYS = ["abc", "\x00", "9" * 30, "²", "-1", ""]


def test_every_action_refuses_what_no_row_can_be(client: Client) -> None:
    values = itertools.cycle(NO_KEYS)
    for address, model in lists():
        actions = admin.site.get_model_admin(model).get_actions(client.get(address).wsgi_request)
        for name in actions:
            sent = {"action": name, "_selected_action": ["1", next(values)], "confirmed": "yes"}
            assert client.post(address, sent).status_code == 400, (address, name)


FIELDS_OF_ROWS = [
    ("/admin/devices/device/add/", "groups"),
    ("/admin/devices/devicegroup/{group}/members/", "devices"),
    ("/admin/auth/user/{user}/change/", "groups"),
    ("/admin/auth/user/{user}/change/", "user_permissions"),
    ("/admin/auth/group/add/", "permissions"),
    ("/admin/authsite/serviceaccount/add/", "roles"),
]


def test_no_field_of_rows_asks_for_what_no_row_can_be(client: Client) -> None:
    keys = {"group": DeviceGroup.objects.get().pk, "user": User.objects.get().pk}
    for address, field in FIELDS_OF_ROWS:
        for key in NO_KEYS[:5]:
            answer = client.post(address.format(**keys), {field: ["1", key], "name": "x"})
            assert answer.status_code in {200, 302}, (address, field, key)
            if answer.status_code == 200:
                said = "No device has" if field == "devices" else "valid value"
                assert said in answer.content.decode(), (address, field, key)


@pytest.mark.once(on="sqlite")
def test_no_form_saves_a_copy_where_none_is_offered(client: Client) -> None:
    for address, model in lists():
        if admin.site.get_model_admin(model).has_add_permission(client.get(address).wsgi_request):
            for page in (f"{address}add/", f"{address}1/change/"):
                answer = client.post(page, {"_saveasnew": "1"})
                assert answer.status_code in {200, 302, 400}, page
