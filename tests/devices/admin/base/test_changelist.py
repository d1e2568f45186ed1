"""The list of devices: what it shows, finds, filters, counts and costs."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from devices.admin.base import changelist, filters
from devices.admin.credentials import credential
from devices.admin.device import DeviceAdmin
from devices.admin.device_list import MAX_GROUPS, OR_BELOW
from devices.models import Device, DeviceGroup, PreSharedKey
from devices.models.credentials.state import (
    has_credential,
    lacks_credential,
)
from tests.support.forms import inputs
from tests.support.staff import browser_of, staff

Factory = Callable[..., Device]
LIST = "/admin/devices/device/"
DAY = timedelta(days=1)


def shown(client: Client, **query: str) -> list[str]:
    """Return the identifiers of the first page, in order."""
    return [device.identifier for device in client.get(LIST, query).context["cl"].result_list]


def choices(client: Client, title: str, **query: str) -> list[str]:
    """Return what a filter offers, with its counts."""
    cl = client.get(LIST, query).context["cl"]
    spec = next(spec for spec in cl.filter_specs if spec.title == title)
    return [str(choice["display"]) for choice in spec.choices(cl)]


@pytest.fixture
def _fleet(make_device: Factory, make_group: Any) -> None:
    now = timezone.now()
    yard, attic = make_group("yard"), make_group("attic")
    bare = make_device("bare", groups=[yard])
    Device.objects.filter(pk=bare.pk).update(last_seen=now - 60 * DAY)
    PreSharedKey.objects.issue(device=make_device("endless", groups=[yard, attic]))
    ending = make_device("ending", enabled=False)
    PreSharedKey.objects.issue(device=ending, not_after=now + 9 * DAY)
    Device.objects.filter(pk=ending.pk).update(last_seen=now)
    later = make_device("later", kind="backend")
    PreSharedKey.objects.issue(device=later, not_after=now + 90 * DAY)
    expired = make_device("outlived")
    PreSharedKey.objects.issue(device=expired, not_after=now - DAY)


@pytest.mark.usefixtures("_fleet")
@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, ["bare", "ending", "endless", "later", "outlived"]),
        ({"enabled__exact": "0"}, ["ending"]),
        ({"kind__exact": "backend"}, ["later"]),
        ({"credentials": "usable"}, ["ending", "endless", "later"]),
        ({"credentials": "ending"}, ["ending"]),
        ({"credentials": "locking"}, ["ending"]),
        ({"credentials": "unusable"}, ["bare", "outlived"]),
        ({"credentials": "expired"}, ["outlived"]),
        ({"credentials": "none"}, ["bare"]),
        ({"credentials": "nonsense"}, []),
        ({"seen": "never"}, ["endless", "later", "outlived"]),
        ({"seen": "24h"}, ["ending"]),
        ({"seen": "7d"}, ["ending"]),
        ({"seen": "before-30d"}, ["bare"]),
        ({"seen": "nonsense"}, []),
        ({"group": "none"}, ["ending", "later", "outlived"]),
        ({"group": "nonsense"}, []),
        ({"credentials": "unusable", "seen": "never"}, ["outlived"]),
        ({"o": "7.1"}, ["ending", "later", "bare", "endless", "outlived"]),
        ({"o": "-6.1"}, ["ending", "endless", "later", "bare", "outlived"]),
        ({"o": "4.1", "group": "1"}, []),
        ({"o": "-5", "seen": "24h"}, ["ending"]),
    ],
)
def test_devices_are_filtered_and_sorted(
    admin_client: Client, query: dict[str, str], expected: list[str]
) -> None:
    if query.get("group") == "1":
        query |= {"group": str(DeviceGroup.objects.get(name="yard").pk)}
        expected = ["endless", "bare"]  # by the name of the first group
    found = shown(admin_client, **query)
    assert sorted(found) == sorted(expected) if "o" not in query else found == expected


@pytest.mark.usefixtures("_fleet")
def test_filters_count_what_they_would_leave(admin_client: Client) -> None:
    assert choices(admin_client, "credentials") == [
        "All",
        "A usable one (3)",
        "One ends within 30 days (1)",
        "The last one ends within 30 days (1)",
        "No usable one (2)",
        "Only expired ones (1)",
        "None on record (1)",
    ]
    assert choices(admin_client, "state", credentials="unusable") == [
        "All",
        "Enabled (2)",
        "Disabled (0)",
    ]
    assert choices(admin_client, "group", q="e") == [
        "All",
        "attic (1)",
        "yard (1)",
        "In no group (1)",
    ]


@pytest.mark.usefixtures("_fleet")
def test_a_large_registry_is_counted_on_demand_and_up_to_a_bound(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (changelist, filters):
        monkeypatch.setattr(module, "MAX_COUNTED", 2)
    assert "A usable one" in choices(admin_client, "credentials")
    page = admin_client.get(LIST).content.decode()
    assert "Show counts" in page
    assert choices(admin_client, "credentials", _facets="True")[1:4] == [
        "A usable one (2+)",
        "One ends within 30 days (1)",
        "The last one ends within 30 days (1)",
    ]
    assert "A usable one (2)" in choices(admin_client, "credentials", q="e")  # among few
    monkeypatch.setattr(changelist, "MAX_UNASKED", 1)
    assert "A usable one" in choices(admin_client, "credentials", q="e")
    assert "A usable one (2)" in choices(admin_client, "credentials", q="e", _facets="True")
    for module in (changelist, filters):
        monkeypatch.setattr(module, "MAX_COUNTED", 10)
    assert "A usable one (2)" in choices(admin_client, "credentials", q="e")


@pytest.mark.usefixtures("_fleet")
def test_more_devices_than_the_pages_reach_are_said_to_be_more(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changelist, "MAX_LISTED", 3)
    monkeypatch.setattr(DeviceAdmin, "list_per_page", 2)
    page = admin_client.get(LIST).content.decode()
    assert "More than 3 devices" in page
    assert "Select all that match" in page
    assert shown(admin_client, p="2") == ["endless"]


@pytest.mark.once(on="sqlite")
@pytest.mark.usefixtures("_fleet")
def test_the_page_shows_states_groups_and_the_next_expiry(admin_client: Client) -> None:
    page = admin_client.get(LIST).content.decode()
    for text in ("disabled", "expired", "in 8 days", "attic", "yard"):
        assert text in page, text
    assert "badge-good" not in page  # what is ordinary is not said of each


@pytest.mark.usefixtures("_fleet")
def test_a_key_beside_the_one_that_ends_locks_nobody_out(admin_client: Client) -> None:
    PreSharedKey.objects.issue(device=Device.objects.get(identifier="ending"))
    assert shown(admin_client, credentials="ending") == ["ending"]
    page = admin_client.get(LIST, {"credentials": "locking"})
    assert page.context["cl"].result_count == 0
    assert "Nothing matches." in page.content.decode()


@pytest.mark.usefixtures("_fleet")
def test_the_number_of_hits_is_that_of_the_rows(admin_client: Client) -> None:
    for value in ("usable", "ending", "locking", "unusable", "expired", "none"):
        cl = admin_client.get(LIST, {"credentials": value}).context["cl"]
        assert cl.result_count == len(cl.result_list), value


@pytest.mark.once(on="sqlite")
@pytest.mark.parametrize(
    ("query", "opens"),
    [
        ({"q": "0000000a-4913-4ad7-a936-000000000001"}, True),
        ({"q": " 0000000A-4913-4AD7-A936-000000000001 "}, True),
        ({"q": "0000000a-4913"}, False),
        ({"q": "0000000a-4913-4ad7-a936-000000000001", "kind__exact": "device"}, False),
        ({"q": "nobody"}, False),
        ({"q": "\ud800"}, False),
    ],
)
def test_a_whole_identifier_opens_its_device(
    admin_client: Client, make_device: Factory, query: dict[str, str], opens: bool
) -> None:
    device = make_device("0000000a-4913-4ad7-a936-000000000001")
    answer = admin_client.get(f"{LIST}?{urlencode(query, errors='surrogatepass')}")
    assert answer.status_code == (302 if opens else 200)
    if opens:
        assert answer["Location"] == f"{LIST}{device.pk}/change/"


def headings(client: Client) -> list[str]:
    """Return the columns of the list."""
    return [str(column) for column in client.get(LIST).context["cl"].list_display[1:3]]


@pytest.mark.once(on="sqlite")
@pytest.mark.usefixtures("_fleet")
def test_columns_are_chosen_by_each_person_and_kept(admin_client: Client) -> None:
    assert headings(admin_client) == ["identifier", "name"]
    ticked = {"column": ["kind", "state", "no such column"], "list": "credentials=none&o=3&p=2"}
    back = admin_client.post(f"{LIST}columns/", ticked)
    assert back["Location"] == f"{LIST}?credentials=none"
    page = admin_client.get(LIST)
    assert page.context["cl"].list_display == ["action_checkbox", "identifier", "state", "kind"]
    offered = {column["key"]: column["shown"] for column in page.context["columns"]}
    assert offered["kind"]
    assert not offered["name"]

    other = browser_of(User.objects.create_superuser("other"))
    assert headings(other) == ["identifier", "name"]

    admin_client.post(f"{LIST}columns/", {"usual": "yes"})
    assert headings(admin_client) == ["identifier", "name"]


@pytest.mark.once(on="sqlite")
def test_columns_are_for_those_who_may_see_the_list(db: None) -> None:
    answer = browser_of(staff()).post(f"{LIST}columns/", {"column": ["kind"]})
    assert answer.status_code == 403


@pytest.mark.once(on="sqlite")
def test_an_empty_list_says_what_it_is_for_and_offers_the_first_step(admin_client: Client) -> None:
    page = admin_client.get(LIST).content.decode()
    assert "A device is what connects" in page
    assert f'class="button default" href="{LIST}add/"' in page
    for idle in ('id="changelist-filter"', 'id="searchbar"', 'name="action"', "paginator"):
        assert idle not in page


@pytest.mark.once(on="sqlite")
def test_what_a_link_narrows_a_list_by_is_said_and_can_be_taken_off(
    admin_client: Client, make_device: Factory
) -> None:
    device = make_device("lamp")
    PreSharedKey.objects.issue(device=device)
    PreSharedKey.objects.issue(device=make_device())
    page = admin_client.get(
        f"/admin/devices/presharedkey/?device__id__exact={device.pk}&state=live"
    )
    text = page.content.decode()
    assert "Device: lamp" in text
    assert "State: Live" in text
    assert 'href="?state=live"' in text
    sorted_ = admin_client.get("/admin/devices/presharedkey/?o=2&q=lamp&state=live")
    (chip,) = changelist.narrowed(sorted_.context["cl"])["chips"]  # an order is none, nor a search
    assert chip.value == "Live"


@pytest.mark.once(on="sqlite")
def test_groups_beyond_the_first_are_reached_by_their_list(
    admin_client: Client, make_device: Factory, make_group: Any
) -> None:
    groups = [make_group(f"g{n:02}") for n in range(MAX_GROUPS + 2)]
    make_device("here", groups=groups)
    offered = choices(admin_client, "group")
    assert offered[-1] == "More groups…"
    assert "g16" not in " ".join(offered)
    chosen = choices(admin_client, "group", group=str(groups[-1].pk))
    assert "g16 (1)" in chosen
    listed = admin_client.get(reverse("admin:devices_devicegroup_changelist") + "?q=g16")
    assert f"{LIST}?group={groups[-1].pk}" in listed.content.decode()
    assert "and 14 more" in admin_client.get(LIST).content.decode()


@pytest.fixture
def site(make_device: Factory, make_group: Any) -> DeviceGroup:
    """Return a site with a device in itself, one in a room, and one in several rooms."""
    top: DeviceGroup = make_group("site")
    floor = make_group("floor", parent=top)
    room, other = make_group("room", parent=floor), make_group("other room", parent=floor)
    make_device("at-site", groups=[top])
    make_device("in-room", groups=[room])
    make_device("in-two", groups=[room, other, top])
    make_device("elsewhere", groups=[make_group("elsewhere")])
    return top


def test_devices_of_a_group_and_of_those_below_it(admin_client: Client, site: DeviceGroup) -> None:
    assert choices(admin_client, "group") == [
        "All",
        "elsewhere (1)",
        "floor only (0)",
        "floor and the groups in it (2)",
        "other room (1)",
        "room (2)",
        "site only (2)",
        "site and the groups in it (3)",
        "In no group (0)",
    ]
    with_below = f"{site.pk}{OR_BELOW}"
    assert shown(admin_client, group=str(site.pk)) == ["at-site", "in-two"]
    assert shown(admin_client, group=with_below) == ["at-site", "in-room", "in-two"]
    assert shown(admin_client, group=with_below, q="in-") == ["in-room", "in-two"]
    cl = admin_client.get(LIST, {"group": with_below}).context["cl"]
    (chip,) = changelist.narrowed(cl)["chips"]
    assert chip.value == "site and the groups in it (3)"
    for odd in (f"x{OR_BELOW}", OR_BELOW, f"{2**70}{OR_BELOW}", f"{site.pk + 99}{OR_BELOW}"):
        assert shown(admin_client, group=odd) == []


@pytest.mark.once(on="sqlite")
def test_pages_of_groups_lead_to_the_devices_below_them(
    admin_client: Client, site: DeviceGroup
) -> None:
    address = f"{LIST}?group={site.pk}{OR_BELOW}"
    groups = "/admin/devices/devicegroup/"
    assert f'href="{address}"' in admin_client.get(f"{groups}{site.pk}/change/").content.decode()
    assert f'href="{address}"' in admin_client.get(f"{groups}tree/").content.decode()
    room = DeviceGroup.objects.get(name="room")
    assert OR_BELOW not in admin_client.get(f"{groups}{room.pk}/change/").content.decode()
    # Of a group that holds none by now, what was chosen is still shown.
    assert "room and the groups in it (2)" in choices(
        admin_client, "group", group=f"{room.pk}{OR_BELOW}"
    )


def test_an_action_on_all_that_match_takes_the_groups_below(
    admin_client: Client, site: DeviceGroup, make_device: Factory
) -> None:
    address = f"{LIST}?group={site.pk}{OR_BELOW}"
    sent: dict[str, Any] = {
        "action": "disable",
        "select_across": "1",
        "_selected_action": [Device.objects.get(identifier="at-site").pk],
    }
    page = admin_client.post(address, sent)
    sent |= inputs(page) | {"confirmed": "yes"}
    assert admin_client.post(address, sent).status_code == 302
    disabled = set(Device.objects.disabled().values_list("identifier", flat=True))
    assert disabled == {"at-site", "in-room", "in-two"}


@pytest.mark.usefixtures("_fleet")
def test_more_rows_than_the_pages_reach_are_sorted_by_an_index_or_not_at_all(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    columns = DeviceAdmin.list_display
    identifier, name, expiry = (
        str(columns.index(one) + 1) for one in ("identifier", "name", "next_expiry")
    )
    everything = ["bare", "ending", "endless", "later", "outlived"]
    assert shown(admin_client, o=expiry)[:2] == ["ending", "later"]
    monkeypatch.setattr(changelist, "MAX_LISTED", 3)
    assert shown(admin_client, o=f"-{identifier}") == everything[::-1]
    assert shown(admin_client, o=f"-{expiry}") == shown(admin_client, o=name) == everything
    page = admin_client.get(LIST, {"o": expiry}).content.decode()
    heads = page[page.index("<thead") : page.index("</thead")]
    assert f"o={expiry}" not in heads
    assert f"o=-{identifier}" in heads or f"o={identifier}" in heads
    assert "only some columns sort so many" in page
    assert shown(admin_client, o=f"-{expiry}", credentials="usable") != everything


@pytest.mark.usefixtures("_fleet")
def test_what_is_searched_for_is_looked_for_once(
    admin_client: Client, make_device: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_device("pump", name="Lobby")
    with CaptureQueriesContext(connection) as asked:
        assert shown(admin_client, q="*obb") == ["pump"]
    looking = [one["sql"] for one in asked.captured_queries if "obb" in one["sql"]]
    assert len([sql for sql in looking if " IN (" not in sql]) == 1  # the others know its key
    monkeypatch.setattr(changelist, "MAX_SCANNED", 3)
    assert shown(admin_client, q="lob") == ["pump"]  # the beginning of its name
    assert shown(admin_client, q="obb") == []
    assert shown(admin_client, q="*obb") == ["pump"]


@pytest.mark.parametrize("text", ["ending", "Fact", "ab12"])
def test_keys_among_many_are_found_by_how_they_begin(
    admin_client: Client, make_device: Factory, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    key, _secret = PreSharedKey.objects.issue(device=make_device("ending-1"), label="Factory")
    PreSharedKey.objects.filter(pk=key.pk).update(hint="ab12")
    for n in range(3):
        other, _secret = PreSharedKey.objects.issue(device=make_device(f"other-{n}"))
        PreSharedKey.objects.filter(pk=other.pk).update(hint="XYZ")
    address = "/admin/devices/presharedkey/"
    for most in (changelist.MAX_SCANNED, 2):
        monkeypatch.setattr(changelist, "MAX_SCANNED", most)
        found = admin_client.get(address, {"q": text}).context["cl"].result_list
        assert [row.pk for row in found] == [key.pk]
    monkeypatch.setattr(changelist, "MAX_LISTED", 0)
    monkeypatch.setattr(credential, "MAX_LISTED", 0)  # more devices begin so than are listed
    found = admin_client.get(address, {"q": text}).context["cl"].queryset
    assert [row.pk for row in found] == [key.pk]
    monkeypatch.undo()
    monkeypatch.setattr(changelist, "MAX_SCANNED", 2)
    assert not admin_client.get(address, {"q": text[1:]}).context["cl"].result_list


def test_search_goes_by_the_beginning_then_by_any_part(
    admin_client: Client, make_device: Factory
) -> None:
    make_device("pump-1", name="lobby")
    make_device("Pump-2")
    make_device("x-pump", name="pump room")
    assert shown(admin_client, q="pump") == ["pump-1"]
    assert shown(admin_client, q="Pump-") == ["Pump-2", "pump-1"]
    assert shown(admin_client, q=" PUMP-") == ["pump-1"]
    assert shown(admin_client, q="*pump") == ["Pump-2", "pump-1", "x-pump"]
    assert shown(admin_client, q="room") == ["x-pump"]
    assert shown(admin_client, q="lob") == ["pump-1"]
    assert shown(admin_client, q="*-2 pum") == ["Pump-2"]
    assert shown(admin_client, q="*- ROOM") == shown(admin_client, q="*'pump room'") == ["x-pump"]
    assert shown(admin_client, q="*1 2") == []
    assert shown(admin_client, q="pump-1", enabled__exact="0") == []


@pytest.mark.parametrize("wild", ["%", "_", "*", "?", "[", "\\"])
def test_no_character_of_a_search_is_special(make_device: Factory, wild: str) -> None:
    make_device("plain")
    strange = make_device(f"a{wild}b")
    assert Device.objects.get(identifier__startswith=f"a{wild}") == strange
    assert not Device.objects.filter(identifier__startswith=f"{wild}").exists()


def test_the_beginning_of_an_identifier_is_looked_up_in_an_index(db: None) -> None:
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SET LOCAL enable_seqscan = off")
        plan = Device.objects.filter(identifier__startswith="abc").explain()
    assert "devices_device_by_prefix" in plan or "SEARCH" in plan or "Index Cond" in plan


NOW = timezone.now()
PLANS: dict[str, Callable[[], Any]] = {
    "devices_device_by_name": lambda: Device.objects.with_name_prefix("abc"),
    "devices_key_by_label": lambda: PreSharedKey.objects.filter(label__startswith="abc").exclude(
        label=""
    ),
    "devices_key_by_hint": lambda: PreSharedKey.objects.filter(hint__startswith="abc").exclude(
        hint=""
    ),
    "devices_key_ends_by_device": lambda: Device.objects.filter(
        has_credential("ending_before", NOW + DAY, now=NOW)
    ),
    "devices_key_unrevoked": lambda: Device.objects.filter(lacks_credential("usable_at", NOW)),
}


@pytest.mark.skipif(connection.vendor == "sqlite", reason="SQLite has none of these indexes")
@pytest.mark.parametrize("index", PLANS)
def test_what_is_looked_for_among_many_is_found_by_an_index(db: None, index: str) -> None:
    with connection.cursor() as cursor:
        for setting in ("seqscan", "bitmapscan", "hashjoin", "nestloop"):
            cursor.execute(f"SET LOCAL enable_{setting} = off")
        plan = PLANS[index]().order_by().explain()
    assert index in plan
    if "unrevoked" in index:
        assert plan.count("Anti Join") >= 2  # of the keys, and of the certificates


def test_keys_are_filtered_by_peppers_that_are_configured_or_missing(
    admin_client: Client, make_device: Factory
) -> None:
    here, _secret = PreSharedKey.objects.issue(device=make_device())
    gone, _secret = PreSharedKey.objects.issue(device=make_device())
    PreSharedKey.objects.filter(pk=gone.pk).update(pepper="gone")
    address = "/admin/devices/presharedkey/"
    for value, expected in ((here.pepper, here), ("-", gone), ("gone", gone)):
        cl = admin_client.get(address, {"pepper": value}).context["cl"]
        assert [row.pk for row in cl.result_list] == [expected.pk]
    with CaptureQueriesContext(connection) as asked:
        admin_client.get(address)
    assert not [one for one in asked.captured_queries if "DISTINCT" in one["sql"]]


@pytest.mark.parametrize("query", ["", "?q=device", "?credentials=usable&o=7"])
def test_the_list_costs_the_same_statements_however_long(
    admin_client: Client, make_device: Factory, make_group: Any, query: str
) -> None:
    def cost() -> int:
        with CaptureQueriesContext(connection) as found:
            admin_client.get(LIST + query)
        return len(found)

    PreSharedKey.objects.issue(device=make_device(groups=[make_group()]))
    alone = cost()
    for _ in range(12):
        PreSharedKey.objects.issue(device=make_device(groups=[make_group()]))
    attributes, saved_filters = 1, 1
    assert cost() == alone <= 17 + attributes + saved_filters
