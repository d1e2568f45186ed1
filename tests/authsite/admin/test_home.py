"""The start page: each figure is that of its list, and readers see what they may see."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from html import unescape
from typing import Any

import pytest
from django.apps import apps
from django.contrib import admin
from django.core.cache import cache
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from authsite.admin import home
from devices import history
from devices.admin.base import figures
from devices.admin.base.charts import Hour, hourly_bars, scale
from devices.events.models import Delivery
from devices.models import Certificate, Device, PreSharedKey, Webhook
from rpc.models import BUCKET, CallCount, CallKey, CallRecord
from tests.support import pki
from tests.support.staff import browser_of, staff

Factory = Callable[..., Device]
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)


def call(reason: str, *, ago: timedelta = timedelta(), calls: int = 1, caller: str = "b") -> None:
    """Count calls in the hour that was so long ago."""
    moment = (timezone.now() - ago).timestamp()
    key = CallKey(int(moment) // BUCKET, "verifier", "credential", caller, "x", "", "", reason)
    CallRecord.objects.add({key: CallCount(calls, moment, moment)})


@pytest.fixture
def _registry(make_device: Factory, now: datetime) -> None:
    """A device of each state, and a day of calls."""
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
    figures = [*page["device_figures"], *page["attention"]]
    found = {figure.label: figure.value for figure in figures}
    guessed = "Devices whose secret somebody guesses at, or that hold a wrong one"
    assert found.pop(guessed) == 1
    assert found == {
        "Devices": 8,
        "Enabled": 7,
        "Disabled": 1,
        "Seen in the last 24 hours": 1,
        "Never seen": 6,
        "Devices that are locked out": 4,  # of those that are enabled
        "Devices that will be locked out within 30 days": 2,  # by a key, and by a certificate
    }
    counted = {figure.label: listed(admin_client, figure.url) for figure in figures}
    assert {label: counted[label] for label in found} == found


def labels(client: Client) -> list[str]:
    """Return what needs attention."""
    return [item.label for item in start_page(client)["attention"]]


@pytest.mark.once(on="sqlite")
def test_nothing_needs_attention_where_all_is_well(
    admin_client: Client, make_device: Factory
) -> None:
    PreSharedKey.objects.issue(device=make_device())
    make_device(enabled=False)
    call("wrong-secret", calls=home.GUESSES - 1)
    assert labels(admin_client) == []
    assert "Nothing needs you just now." in admin_client.get("/admin/").content.decode()


def test_the_old_key_of_a_rotation_is_no_lock_out(
    admin_client: Client, make_device: Factory
) -> None:
    soon = timezone.now() + 9 * DAY
    device = make_device()
    PreSharedKey.objects.issue(device=device, not_after=soon)
    assert labels(admin_client) == ["Devices that will be locked out within 30 days"]
    PreSharedKey.objects.issue(device=device)
    assert labels(admin_client) == []


@pytest.mark.parametrize(
    ("before", "now", "rose"), [(0, 30, True), (10, 30, True), (20, 30, False), (0, 19, False)]
)
def test_refusals_that_rose_are_told(
    admin_client: Client, before: int, now: int, rose: bool
) -> None:
    if before:
        call("no-credential", ago=30 * HOUR, calls=before)
    call("no-credential", calls=now)
    expected = ["Refused calls rose: the device has no credential of this sort"] if rose else []
    assert labels(admin_client) == expected


@pytest.mark.once(on="sqlite")
def test_webhooks_that_fail_are_told_to_those_who_may_see_them(
    admin_client: Client, make_device: Factory
) -> None:
    hook = Webhook(name="tickets", url="https://example.com/hook")
    hook.new_secret()
    hook.save()
    hook.switch_off("410")
    wanted = "Webhooks that fail, or were switched off for failing"
    assert (wanted in labels(admin_client)) is admin.site.is_registered(Webhook)


@pytest.mark.usefixtures("_registry")
def test_refused_calls_are_those_of_24_hours_and_lead_to_the_journal(admin_client: Client) -> None:
    calls = start_page(admin_client)["calls"]
    assert (calls["refused"], calls["rows"]) == (3 * 7 + 3, 4)
    assert listed(admin_client, calls["url"]) == calls["rows"]
    assert sum(hour.refused for hour, _url in calls["hours"]) == calls["refused"]
    assert sum(hour.allowed for hour, _url in calls["hours"]) == calls["allowed"] == 100
    assert [listed(admin_client, url) for _hour, url in calls["hours"]] == [1, 1, 2]
    assert [(reason, count) for reason, count, _url in calls["reasons"]] == [
        ("the secret is wrong", 21),
        ("the device has no credential of this sort", 3),
    ]
    assert [listed(admin_client, url) for _reason, _count, url in calls["reasons"]] == [3, 1]
    callers = {newest.caller: listed(admin_client, url) for newest, url in calls["callers"]}
    assert callers == {"b": 6, "another": 1}


@pytest.mark.usefixtures("_registry")
def test_everything_is_asked_with_the_same_statements_however_many_rows(
    admin_client: Client, make_device: Factory, django_assert_max_num_queries: Any
) -> None:
    for _ in range(30):
        PreSharedKey.objects.issue(device=make_device())
    with django_assert_max_num_queries(30):
        start_page(admin_client)


@pytest.mark.once(on="sqlite")
def test_slow_counts_are_kept_for_a_minute_and_the_page_says_when(
    admin_client: Client, make_device: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures, "SLOW", -1)
    make_device()
    assert "are kept for a minute" not in admin_client.get("/admin/").content.decode()
    make_device()
    page = admin_client.get("/admin/")
    assert page.context["counted"].of["devices"] == 1
    assert "are kept for a minute" in page.content.decode()
    cache.clear()
    assert start_page(admin_client)["counted"].of["devices"] == 2


@pytest.mark.once(on="sqlite")
@pytest.mark.parametrize("page", ["/admin/", "/admin/expiry/"])
def test_a_cache_that_fails_spoils_no_page(
    page: str, admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_args: Any, **_kwargs: Any) -> None:
        raise OSError("no cache")

    monkeypatch.setattr(figures, "SLOW", -1)
    for name in ("get", "set"):
        monkeypatch.setattr(cache, name, fail)
    assert admin_client.get(page).status_code == 200


@pytest.mark.once(on="sqlite")
def test_quick_counts_are_always_new(admin_client: Client, make_device: Factory) -> None:
    for expected in (1, 2):
        make_device()
        assert start_page(admin_client)["counted"].of["devices"] == expected


@pytest.mark.once(on="sqlite")
@pytest.mark.usefixtures("_registry")
@pytest.mark.parametrize(
    ("permission", "shown"),
    [
        ("devices.view_device", {"device_figures", "attention"}),
        ("devices.view_presharedkey", set()),
        ("devices.view_historicaldevice", {"changes"}),
        ("rpc.view_callrecord", {"calls", "attention"}),
        ("auth.view_group", set()),
    ],
)
def test_the_page_shows_what_its_reader_may_see(permission: str, shown: set[str]) -> None:
    client = browser_of(staff(permission))
    page = start_page(client)
    sections = {"device_figures", "attention", "calls", "changes"}
    assert {name for name in sections if page.get(name)} == shown
    for figure in (*page.get("device_figures", ()), *page["attention"]):
        assert client.get(figure.url).status_code == 200


@pytest.mark.once(on="sqlite")
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
        ("Created", "key", "factory"),
        ("Created", "device", "front-door"),
    ]
    assert {entry.change.history_user_id for entry in entries} == {"mallory"}
    page = admin_client.get("/admin/").content.decode()
    assert f"/admin/devices/presharedkey/{key.pk}/history/" in page
    for item in found:
        assert admin_client.get(item["address"]).status_code == 200


def text_of(response: Any) -> str:
    return unescape(re.sub(r"\s+", " ", re.sub("<[^>]+>", " ", response.content.decode())))


@pytest.mark.once(on="sqlite")
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


@pytest.mark.once(on="sqlite")
def test_a_list_without_rows_says_what_it_is_for_and_offers_no_file(admin_client: Client) -> None:
    empty = []
    for model in filter(admin.site.is_registered, apps.get_models()):
        name = f"{model._meta.app_label}_{model._meta.model_name}"
        page = text_of(admin_client.get(reverse(f"admin:{name}_changelist")))
        if f"There are no {model._meta.verbose_name_plural} yet." in page:
            assert str(admin.site.get_model_admin(model).purpose) in page  # type: ignore[attr-defined]
            assert not {"Export", "NDJSON"} & set(page.split())
            empty.append(model)
    assert {Device, PreSharedKey, Delivery, CallRecord} <= set(empty)


HOURS = [
    Hour(datetime(2026, 1, 2, hour, tzinfo=UTC), allowed=2 * hour, refused=hour * hour)
    for hour in range(24)
]


@pytest.mark.once(on="sqlite")
@pytest.mark.parametrize(
    ("highest", "marks"),
    [
        (0, [0]),
        (1, [0, 1]),
        (7, [0, 2, 4, 6, 8]),
        (61, [0, 20, 40, 60, 80]),
        (575, [0, 200, 400, 600]),
        (1_000_000, [0, 500_000, 1_000_000]),
    ],
)
def test_a_scale_has_few_round_marks(highest: int, marks: list[int]) -> None:
    assert scale(highest) == marks


def heights(drawn: str, kind: str) -> list[float]:
    """Return how high the bars of a kind are."""
    found = re.findall(rf'<rect class="{kind}" [^>]*height="([\d.]+)"', drawn)
    return [float(height) for height in found]


@pytest.mark.once(on="sqlite")
def test_a_chart_has_a_bar_for_each_hour_and_says_what_it_shows() -> None:
    drawn = hourly_bars(HOURS, title="All <calls>", description="All of them")
    for kind in ("allowed", "refused"):
        assert len(heights(drawn, kind)) == 24
        assert heights(drawn, kind) == sorted(heights(drawn, kind))
        assert heights(drawn, kind)[0] == 0
    assert heights(drawn, "refused")[1] >= 1  # one among 529 is still seen
    assert "style" not in drawn
    assert "All &lt;calls&gt;" in drawn
    assert "2026-01-02 23:00 UTC: 529 refused" in drawn
    assert "calls an hour" in drawn
    assert ">600</text>" in drawn
    assert 'role="img" aria-labelledby="chart-title chart-description"' in drawn


@pytest.mark.once(on="sqlite")
def test_a_chart_of_nothing_is_drawn() -> None:
    drawn = hourly_bars([Hour(hour.begins, 0, 0) for hour in HOURS], title="", description="")
    assert set(heights(drawn, "refused") + heights(drawn, "allowed")) == {0}
