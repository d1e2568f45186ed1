"""The expiry calendar: what locks devices out, in which week, and the list behind each number."""

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.test import Client

from devices.admin.base import figures
from devices.admin.base.charts import Week, week_calendar
from devices.admin.credentials import expiry
from devices.models import Certificate, CertificateAuthority, Device, PreSharedKey, RevocationList
from tests.support import pki
from tests.support.staff import browser_of, staff

DAY = timedelta(days=1)
PAGE = "/admin/expiry/"
Factory = Callable[..., Device]

pytestmark = pytest.mark.django_db


def key(device: Device, ends: datetime | None, **fields: Any) -> PreSharedKey:
    made, _secret = PreSharedKey.objects.issue(device=device, not_after=ends, label="key")
    for name, value in fields.items():
        setattr(made, name, value)
    made.save()
    return made


def counted(client: Client) -> dict[str, dict[date, int]]:
    """Return what the page counts: a kind, and its weeks that have any."""
    page = client.get(PAGE)
    assert page.status_code == 200
    return {
        section.title: {week.begins: week.total for week in section.weeks}
        for section in page.context["sections"]
    }


def listed(client: Client, section: str) -> dict[date, int]:
    """Return how many rows there are behind each number of a kind."""
    sections = {one.title: one for one in client.get(PAGE).context["sections"]}
    return {
        week.begins: client.get(week.url).context["cl"].result_count
        for week in sections[section].weeks
    }


def test_what_locks_a_device_out_counts_and_nothing_else(
    admin_client: Client, make_device: Factory, now: datetime
) -> None:
    soon, later = now + 20 * DAY, now + 50 * DAY
    lamp = make_device("lamp")
    key(lamp, soon)  # the old key of a rotation
    key(lamp, later)
    key(make_device("endless"), None)
    rotated = make_device("rotated")
    key(rotated, soon)
    key(rotated, None)
    key(make_device("revoked"), soon).revoke(by="kim", reason="lost")
    key(make_device("ended"), now + DAY, not_after=now - DAY)
    key(make_device("disabled", enabled=False), soon)
    key(make_device("next-year"), now + 400 * DAY)
    bad_pepper = make_device("pepper")
    key(bad_pepper, soon)
    key(bad_pepper, later, pepper="gone")  # it admits nobody
    held = make_device("held")
    key(held, soon)
    authority = pki.authority("CA")
    for identifier, device, ends, pin in (
        ("held", held, now + 80 * DAY, "certificate"),
        ("pinned", make_device("pinned"), now + 80 * DAY, "public-key"),
    ):
        party = pki.issue(identifier, issuer=authority, ends=ends)
        Certificate.objects.register(device=device, presented=party.pem, pin=pin)
    weeks = {
        "Keys": {expiry.monday(later): 1, expiry.monday(soon): 1},
        "Certificates": {expiry.monday(now + 80 * DAY): 1},
        "Trust anchors": {},
    }
    assert counted(admin_client) == weeks
    for section in ("Keys", "Certificates"):
        assert listed(admin_client, section) == weeks[section]
    found = admin_client.get(f"/admin/devices/presharedkey/?ends={expiry.monday(later)}")
    assert [row.device for row in found.context["cl"].result_list] == [lamp]
    assert "In the week from" in found.content.decode()


@pytest.mark.parametrize(
    ("policy", "enabled", "counts"),
    [("refuse", True, 1), ("require", True, 1), ("warn", True, 0), ("refuse", False, 0)],
)
def test_anchors_count_where_devices_are_refused_then(
    admin_client: Client, now: datetime, policy: str, enabled: bool, counts: int
) -> None:
    root = pki.authority("Factory root")
    anchor = CertificateAuthority.objects.register(presented=root.pem, name="Factory")
    lapses = now + 10 * DAY
    RevocationList.objects.create(
        authority=anchor, this_update=now - DAY, next_update=lapses, entries=0, loaded_at=now
    )
    ends = now + 700 * DAY
    CertificateAuthority.objects.update(crl_policy=policy, enabled=enabled, not_after=ends)
    wanted = {expiry.monday(lapses): 1} if counts else {}
    assert counted(admin_client)["Trust anchors"] == wanted
    assert listed(admin_client, "Trust anchors") == wanted
    CertificateAuthority.objects.update(enabled=True, not_after=now + 30 * DAY)
    assert counted(admin_client)["Trust anchors"][expiry.monday(now + 30 * DAY)] == 1


@pytest.mark.parametrize(
    ("asked", "found"),
    [("7d", 0), ("30d", 1), ("2020-01-06", 0), ("9999-12-31", 0), ("no day", 0)],
)
def test_lists_are_narrowed_to_what_locks_devices_out(
    admin_client: Client, make_device: Factory, now: datetime, asked: str, found: int
) -> None:
    for days in (20, 50, 200):
        key(make_device(), now + days * DAY)
    page = admin_client.get("/admin/devices/presharedkey/", {"ends": asked})
    assert page.context["cl"].result_count == found


def test_where_too_many_end_what_was_not_counted_is_said(
    admin_client: Client, make_device: Factory, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expiry, "MAX_LOOKED_AT", 3)
    this_week = expiry.midnight(expiry.monday(now))  # else the count depends on the day of it
    for days in (8, 15, 22, 29, 36):
        key(make_device(), this_week + days * DAY)
    page = admin_client.get(PAGE)
    keys = page.context["sections"][0]
    assert len(keys.weeks) == 3
    assert keys.counted.until is not None
    text = page.content.decode()
    assert "were counted up to" in text
    assert text.count('class="uncounted"') == expiry.WEEKS - 4  # this week and three are known


def test_the_page_costs_the_same_however_many_rows(
    admin_client: Client, make_device: Factory, now: datetime, django_assert_num_queries: Any
) -> None:
    admin_client.get(PAGE)
    for number in range(12):
        key(make_device(), now + number * 20 * DAY)
    with django_assert_num_queries(7):  # session, user, two of keys, two of certificates, anchors
        admin_client.get(PAGE)


def test_what_takes_long_to_count_is_kept_and_says_so(
    admin_client: Client, make_device: Factory, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures, "SLOW", 0.0)
    key(make_device(), now + 20 * DAY)
    assert "are kept for" not in admin_client.get(PAGE).content.decode()
    key(make_device(), now + 20 * DAY)
    page = admin_client.get(PAGE)
    assert [week.total for week in page.context["sections"][0].weeks] == [1]
    assert "are kept for" in page.content.decode()


@pytest.mark.once(on="sqlite")
def test_everybody_sees_what_they_may() -> None:
    user = staff()
    client = browser_of(user)
    assert client.get(PAGE).status_code == 403
    user.user_permissions.set(Permission.objects.filter(codename="view_certificate"))
    assert [*counted(client)] == ["Certificates"]
    user.user_permissions.add(Permission.objects.get(codename="view_presharedkey"))
    home = client.get("/admin/").content.decode()
    assert PAGE in home
    assert "devicegroup/tree" not in home


@pytest.mark.once(on="sqlite")
def test_a_calendar_has_a_cell_for_each_week_and_links_to_lists() -> None:
    first = date(2026, 11, 23)
    counts = [0, 7, None, 1200, *[0] * 49]
    weeks = [
        Week(first + n * 7 * DAY, count, f"/list/?ends={n}&x=<") for n, count in enumerate(counts)
    ]
    drawn = week_calendar(weeks, name="keys", title="<Keys>", description="All")
    assert drawn.count("<rect") == 53
    assert re.findall(r'href="([^"]+)"', drawn) == [
        f"/list/?ends={n}&amp;x=&lt;" for n in (1, 2, 3)
    ]
    assert 'aria-label="Week from 2026-11-30: 7"' in drawn
    assert "not counted" in drawn
    assert 'class="heat-4"' in drawn
    assert drawn.count("2026</text>") + drawn.count("2027</text>") == 13  # months
    assert 'role="group" aria-labelledby="keys-title keys-description"' in drawn
    assert "&lt;Keys&gt;" in drawn
    assert "style" not in drawn


@pytest.mark.once(on="sqlite")
def test_weeks_begin_on_monday_in_utc() -> None:
    assert expiry.monday(datetime(2026, 11, 29, 23, 59, tzinfo=UTC)) == date(2026, 11, 23)
    assert expiry.monday(datetime(2026, 11, 30, tzinfo=UTC)) == date(2026, 11, 30)
