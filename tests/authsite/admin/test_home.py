"""The start page: each figure is that of its list, and readers see what they may see."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from html import unescape
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.core.cache import cache
from django.test import Client
from django.utils import timezone

from authsite.admin import home
from authsite.admin.charts import hourly_bars
from devices import history
from devices.models import Certificate, Device, PreSharedKey
from rpc.models import BUCKET, CallCount, CallKey, CallRecord
from tests.support import pki

Factory = Callable[..., Device]
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)


def call(reason: str, *, ago: timedelta = timedelta(), calls: int = 1, caller: str = "b") -> None:
    """Count calls in the hour that was so long ago."""
    moment = (timezone.now() - ago).timestamp()
    key = CallKey(int(moment) // BUCKET, "verifier", "credential", caller, "x", "", "", reason)
    CallRecord.objects.add({key: CallCount(calls, moment, moment)})


@pytest.fixture
def _registry(make_device: Factory) -> None:
    """A device of each state, and a day of calls."""
    now = timezone.now()
    make_device("disabled", enabled=False)
    make_device("without a credential".replace(" ", "-"))
    PreSharedKey.objects.issue(device=make_device("endless"))
    PreSharedKey.objects.issue(device=make_device("ending"), not_after=now + 9 * DAY)
    PreSharedKey.objects.issue(device=make_device("expired"), not_after=now - DAY)
    pinned = make_device("pinned")
    ending = pki.issue("pinned", ends=pki.NOW + 9 * DAY)
    Certificate.objects.register(device=pinned, presented=ending.pem)
    for name, ago in (("lately", HOUR), ("long-ago", 3 * DAY)):
        Device.objects.filter(pk=make_device(name).pk).update(last_seen=now - ago)
    for hours in (0, 3, 23, 24, 30):
        call("wrong-secret", ago=hours * HOUR, calls=7)
    call("verified", calls=100)
    call("no-credential", calls=3, caller="another")


def start_page(client: Client) -> Any:
    response = client.get("/admin/")
    assert response.status_code == 200
    return response.context_data


def listed(client: Client, url: str) -> int:
    response = client.get(url)
    assert response.status_code == 200
    count: int = response.context["cl"].result_count
    return count


@pytest.mark.usefixtures("_registry")
def test_each_figure_is_that_of_its_list(admin_client: Client) -> None:
    page = start_page(admin_client)
    figures = [*page["device_figures"], *page["credential_figures"]]
    found = {figure.label: figure.value for figure in figures}
    assert found == {
        "Devices": 8,
        "Enabled": 7,
        "Disabled": 1,
        "Seen in the last 24 hours": 1,
        "Never seen": 6,
        "Devices without a usable credential": 5,
        "Keys that end within 30 days": 1,
        "Certificates that end within 30 days": 1,
    }
    assert {figure.label: listed(admin_client, figure.url) for figure in figures} == found


@pytest.mark.usefixtures("_registry")
def test_refused_calls_are_those_of_24_hours_and_lead_to_the_journal(admin_client: Client) -> None:
    calls = start_page(admin_client)["calls"]
    assert (calls.refused, calls.rows) == (3 * 7 + 3, 4)
    assert listed(admin_client, calls.url) == calls.rows
    assert sum(count for _hour, count, _url in calls.hours) == calls.refused
    assert [listed(admin_client, url) for _hour, _count, url in calls.hours] == [1, 1, 2]
    assert [(reason, count) for reason, count, _url in calls.reasons] == [
        ("the secret is wrong", 21),
        ("the device has no credential of this sort", 3),
    ]
    assert [listed(admin_client, url) for _reason, _count, url in calls.reasons] == [3, 1]
    callers = {newest.caller: listed(admin_client, url) for newest, url in calls.callers}
    assert callers == {"b": 6, "another": 1}


@pytest.mark.usefixtures("_registry")
def test_everything_is_asked_with_the_same_statements_however_many_rows(
    admin_client: Client, make_device: Factory, django_assert_max_num_queries: Any
) -> None:
    for _ in range(30):
        PreSharedKey.objects.issue(device=make_device())
    with django_assert_max_num_queries(30):
        start_page(admin_client)


def test_slow_counts_are_kept_for_a_minute_and_the_page_says_when(
    admin_client: Client, make_device: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(home, "SLOW", -1)
    make_device()
    assert "are kept for a minute" not in admin_client.get("/admin/").content.decode()
    make_device()
    page = admin_client.get("/admin/")
    assert page.context["counted"].of["devices"] == 1
    assert "are kept for a minute" in page.content.decode()
    cache.clear()
    assert start_page(admin_client)["counted"].of["devices"] == 2


def test_quick_counts_are_always_new(admin_client: Client, make_device: Factory) -> None:
    for expected in (1, 2):
        make_device()
        assert start_page(admin_client)["counted"].of["devices"] == expected


@pytest.mark.usefixtures("_registry")
@pytest.mark.parametrize(
    ("permission", "shown"),
    [
        ("devices.view_device", {"device_figures", "credential_figures"}),
        ("devices.view_presharedkey", {"credential_figures"}),
        ("devices.view_historicaldevice", {"changes"}),
        ("rpc.view_callrecord", {"calls"}),
        ("auth.view_group", set()),
    ],
)
def test_the_page_shows_what_its_reader_may_see(
    client: Client, permission: str, shown: set[str]
) -> None:
    app, codename = permission.split(".")
    user = User.objects.create_user("reader", is_staff=True)
    user.user_permissions.add(
        Permission.objects.get(content_type__app_label=app, codename=codename)
    )
    client.force_login(user)
    page = start_page(client)
    sections = {"device_figures", "credential_figures", "calls", "changes"}
    assert {name for name in sections if page.get(name)} == shown
    for figure in (*page.get("device_figures", ()), *page["credential_figures"]):
        assert client.get(figure.url).status_code == 200


def test_recent_changes_name_who_and_what(admin_client: Client, make_device: Factory) -> None:
    def by_mallory(change: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        with history.origin("import", user="mallory"):  # what one of these changes is one entry
            return change(*args, **kwargs)

    device = by_mallory(make_device, "front-door")
    key, _secret = by_mallory(PreSharedKey.objects.issue, device=device, label="factory")
    by_mallory(by_mallory(make_device, "gone").delete)
    found = start_page(admin_client)["changes"]
    entries = [item["entry"] for item in found]
    assert [(str(entry.kind.label), entry.what, entry.subject) for entry in entries] == [
        ("Deleted", "device", "gone"),
        ("Created", "device", "gone"),
        ("Created", "pre-shared key", "factory"),
        ("Created", "device", "front-door"),
    ]
    assert {entry.change.history_user_id for entry in entries} == {"mallory"}
    page = admin_client.get("/admin/").content.decode()
    assert f"/admin/devices/presharedkey/{key.pk}/history/" in page
    for item in found:
        assert admin_client.get(item["address"]).status_code == 200


def text_of(response: Any) -> str:
    return unescape(re.sub(r"\s+", " ", re.sub("<[^>]+>", " ", response.content.decode())))


def test_an_empty_registry_says_what_to_do_first(
    admin_client: Client, make_device: Factory
) -> None:
    page = text_of(admin_client.get("/admin/"))
    assert "Begin here" in page
    assert "manage.py add_device" in page
    assert "Nobody has called yet" in page
    assert "http://testserver/deviceverifier" in page

    make_device()
    call("verified")
    page = text_of(admin_client.get("/admin/"))
    assert "Begin here" not in page
    assert "Nobody has called yet" not in page
    assert "There are no rules yet" in page


HOURS = [(datetime(2026, 1, 2, hour, tzinfo=UTC), hour * hour) for hour in range(24)]


def test_a_chart_has_a_bar_for_each_hour_and_says_what_it_shows() -> None:
    drawn = hourly_bars(HOURS, title="Refused <calls>", description="All of them")
    heights = [float(height) for height in re.findall(r'<rect [^>]*height="([\d.]+)"', drawn)]
    assert len(heights) == 24
    assert heights == sorted(heights)
    assert heights[0] == 0
    assert heights[1] >= 1  # one among 529 is still seen
    assert "style" not in drawn
    assert "Refused &lt;calls&gt;" in drawn
    assert "2026-01-02 23:00 UTC: 529" in drawn
    assert 'role="img" aria-labelledby="chart-title chart-description"' in drawn


def test_a_chart_of_nothing_is_drawn() -> None:
    drawn = hourly_bars([(hour, 0) for hour, _count in HOURS], title="", description="")
    assert set(re.findall(r'<rect [^>]*height="([\d.]+)"', drawn)) == {"0"}
