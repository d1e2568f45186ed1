"""What staff see of the journal, and how it is pruned."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import Client, RequestFactory
from django.urls import reverse

from acl.engine.decisions import Reason
from devices.models import Device
from devices.verdicts import Outcome
from rpc.admin import panels
from rpc.models import CallReason, CallRecord
from tests.rpc.test_journal import command, count
from tests.support.commands import answer, run
from tests.support.staff import browser_of, staff

LIST = reverse("admin:rpc_callrecord_changelist")
HOUR = timedelta(hours=1)
Factory = Callable[..., Device]

pytestmark = [pytest.mark.django_db, pytest.mark.once(on="sqlite")]


def shown(client: Client, **query: str) -> list[str]:
    """Return the subjects that the list shows."""
    response = client.get(LIST, query)
    assert response.status_code == 200, response
    return [row.subject for row in response.context["cl"].result_list]


@pytest.fixture
def rows(now: datetime) -> None:
    count(subject="connects", at=now, caller="//backend/rtio")
    count(subject="wrong", at=now - 2 * HOUR, reason=Outcome.WRONG_SECRET, caller="")
    command("sends", "receives", "/v1/Config.Get", at=now - 48 * HOUR, reason=Reason.NO_RULE)
    count(
        subject="claims",
        at=now - 20 * 24 * HOUR,
        endpoint="frames",
        question="caller",
        caller="203.0.113.9",
        reason=CallReason.NOT_AUTHENTICATED,
    )


@pytest.mark.once(on="postgres")
@pytest.mark.parametrize(
    ("query", "subjects"),
    [
        ({}, ["connects", "wrong"]),
        ({"period": "1h"}, ["connects"]),
        ({"period": "7d"}, ["connects", "wrong", "sends"]),
        ({"period": "30d"}, ["connects", "wrong", "sends", "claims"]),
        ({"period": "all", "outcome__exact": "allowed"}, ["connects"]),
        ({"period": "all", "outcome__exact": "refused"}, ["wrong", "sends", "claims"]),
        ({"period": "all", "reason": "no-rule"}, ["sends"]),
        ({"period": "all", "reason": "verified"}, ["connects"]),
        ({"period": "all", "endpoint__exact": "frames"}, ["claims"]),
        ({"period": "all", "question__exact": "command"}, ["sends"]),
        ({"period": "all", "caller": "//backend/rtio"}, ["connects"]),
        ({"period": "all", "caller": "203.0.113.9"}, ["claims"]),
        ({"period": "all", "caller": ""}, ["wrong"]),
        ({"period": "all", "q": "re"}, ["sends"]),
        ({"period": "all", "q": " con "}, ["connects"]),
        ({"period": "all", "q": "/v1/Config"}, ["sends"]),
        ({"period": "all", "q": "/v1/Other"}, []),
        ({"q": "sends"}, []),
        ({"bucket__gte": "2020-01-01T00:00:00+00:00"}, ["connects", "wrong", "sends", "claims"]),
        ({"from": "no time"}, ["connects", "wrong"]),
        ({"from": "2020-99-99T00:00"}, ["connects", "wrong"]),
    ],
)
def test_the_list_is_filtered(
    admin_client: Client, rows: None, query: dict[str, str], subjects: list[str]
) -> None:
    assert shown(admin_client, **query) == subjects


@pytest.mark.once(on="postgres")
def test_the_list_between_two_moments(admin_client: Client) -> None:
    noon = datetime(2026, 6, 1, 12, tzinfo=UTC)
    for minutes in (-90, -20, 10, 50, 70):
        count(subject=f"at {minutes}", at=noon + timedelta(minutes=minutes))
    found = shown(admin_client, **{"from": "2026-06-01T11:30", "until": "2026-06-01T12:30"})
    assert found == ["at 10", "at -20"]
    assert shown(admin_client, **{"from": "2026-06-01T12:30"}) == ["at 70", "at 50"]
    assert shown(admin_client, until="2026-06-01T11:00") == ["at -90"]


def test_the_fields_of_a_moment_keep_the_other_filters(admin_client: Client, rows: None) -> None:
    page = admin_client.get(LIST, {"outcome__exact": "refused", "period": "7d"}).content.decode()
    form = re.search(r'<form method="get" class="period">.*?</form>', page, re.DOTALL)
    assert form
    assert '<input type="hidden" name="outcome__exact" value="refused">' in form[0]
    assert 'name="period"' not in form[0]


def test_rows_lead_to_devices_and_rules(
    admin_client: Client, make_device: Factory, now: datetime
) -> None:
    device, backend = make_device("sends"), make_device("//backend/rtio", kind="backend")
    command("sends", "receives", "/v1/A", at=now, caller="//backend/rtio", rule=7)
    (row,) = CallRecord.objects.all()
    for address in (LIST, reverse("admin:rpc_callrecord_change", args=[row.pk])):
        page = admin_client.get(address).content.decode()
        for known in (device, backend):
            url = reverse("admin:devices_device_change", args=[known.pk])
            assert f'<a href="{url}">{known}</a>' in page
        assert "receives</a>" not in page
    assert reverse("admin:acl_commandpermission_change", args=[7]) in page


def test_what_strangers_sent_is_shown_as_text(admin_client: Client, now: datetime) -> None:
    count(subject="<script>alert(1)</script>", at=now, reason=Outcome.UNKNOWN_DEVICE)
    page = admin_client.get(LIST).content.decode()
    assert "&lt;script&gt;alert(1)" in page
    assert "<script>alert(1)" not in page


def test_the_list_costs_a_fixed_number_of_statements(
    admin_client: Client, now: datetime, django_assert_max_num_queries: Any
) -> None:
    for number in range(60):
        count(subject=f"device-{number}", at=now, reason=Outcome.REVOKED)
    with django_assert_max_num_queries(9):
        assert len(shown(admin_client)) == 50


def test_the_list_counts_no_more_rows_than_it_shows(
    admin_client: Client, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("devices.admin.base.changelist.MAX_LISTED", 50)
    for number in range(60):
        count(subject=f"device-{number}", at=now)
    assert admin_client.get(LIST).context["cl"].result_count == 50


def test_the_list_says_what_it_leaves_out(
    admin_client: Client, now: datetime, settings: Any
) -> None:
    assert "no room" not in admin_client.get(LIST).content.decode()
    count(at=now, others=True, times=1204, subject="")
    settings.JOURNAL = False
    page = admin_client.get(LIST).content.decode()
    assert "1204 calls of the last 24 hours had no room" in page
    assert "1 row of the journal" in page
    assert "verified (others)" in page
    assert "The journal is switched off" in page
    assert shown(admin_client, others__exact="1") == [""]


def test_a_refused_caller_is_told_from_a_refused_device(
    admin_client: Client, now: datetime
) -> None:
    count(at=now, question="caller", reason=Outcome.WRONG_SECRET)
    assert "the caller was not let in: the secret is wrong" in (
        admin_client.get(LIST).content.decode()
    )


def test_nobody_changes_the_journal(admin_client: Client, now: datetime) -> None:
    count(at=now)
    row = CallRecord.objects.get()
    change = reverse("admin:rpc_callrecord_change", args=[row.pk])
    assert admin_client.post(change, {"count": 1}).status_code == 403
    assert admin_client.get(reverse("admin:rpc_callrecord_add")).status_code == 403
    delete = reverse("admin:rpc_callrecord_delete", args=[row.pk])
    assert admin_client.post(delete, {"post": "yes"}).status_code == 403
    gone = reverse("admin:rpc_callrecord_change", args=[row.pk + 1])
    assert admin_client.get(gone).status_code == 302


def test_a_devices_page_shows_its_last_calls(make_device: Factory, now: datetime) -> None:
    device = make_device("sends")
    count(subject="sends", at=now - HOUR, caller="//backend/rtio")
    count(subject="sends", at=now, reason=Outcome.REVOKED, caller="//backend/other")
    command("sends", "receives", "/v1/A", at=now, reason=Reason.NO_RULE)
    command("somebody", "sends", "/v1/B", at=now)
    for number in range(12):
        command("a", "b", f"/v1/Elsewhere.{number}", at=now)
    client = browser_of(staff("view_device", "view_callrecord"))
    page = client.get(reverse("admin:devices_device_change", args=[device.pk])).content.decode()
    assert "through //backend/rtio" in page
    for text in ("was revoked", "no rule allows it", "from somebody", "/v1/B"):
        assert text in page
    assert "/v1/Elsewhere" not in page
    link = re.search(r'href="([^"]*callrecord/\?[^"]*)"', page)
    assert link
    query = urlsplit(link[1].replace("&amp;", "&")).query
    assert dict(parse_qsl(query)) == {"q": "sends", "period": "all"}


@pytest.mark.parametrize(
    ("kind", "described"),
    [("device", "2 were allowed and 1 refused"), ("backend", "1 were allowed and 0 refused")],
)
def test_a_devices_page_draws_its_calls_by_hour(
    admin_client: Client, make_device: Factory, now: datetime, kind: str, described: str
) -> None:
    device = make_device("lamp", kind=kind)
    count(subject="lamp", at=now)
    count(subject="lamp", at=now - HOUR)
    count(subject="lamp", at=now, reason=Outcome.REVOKED)
    count(subject="other", at=now, caller="lamp")
    count(subject="lamp", at=now - 30 * HOUR)
    address = reverse("admin:devices_device_change", args=[device.pk])
    page = admin_client.get(address).content.decode()
    assert described in page
    assert '<svg class="chart"' in page
    assert "The chart as a table" in page
    assert ("callrecord/?caller=lamp" in page) is (kind == "backend")
    if kind == "backend":
        made = admin_client.get("/admin/rpc/callrecord/?caller=lamp").context["cl"].result_list
        assert [row.subject for row in made] == ["other"]


def test_the_journal_draws_the_calls_of_one_caller_by_hour(
    admin_client: Client, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    caller = "203.0.113.9"

    def page(**query: str) -> str:
        return admin_client.get(LIST, query).content.decode()

    monkeypatch.setattr("devices.admin.base.figures.SLOW", 0)  # what is kept where it takes long
    count(subject="lamp", at=now, caller=caller)
    count(subject="lamp", at=now - HOUR, reason=Outcome.REVOKED, caller=caller)
    count(subject="lamp", at=now - 30 * HOUR, caller=caller)
    count(subject="other", at=now, caller="//backend/rtio")
    drawn = page(caller=caller)
    assert "1 were allowed and 1 refused" in drawn
    assert '<svg class="chart"' in drawn
    assert "are kept for a minute" not in drawn
    count(subject="lock", at=now, caller=caller)
    drawn = page(caller=caller, outcome__exact="refused")
    assert "1 were allowed and 1 refused" in drawn
    assert "are kept for a minute" in drawn
    for query in ({}, {"caller": "nobody"}, {"caller": ""}, {"caller": "x" * 999}):
        assert '<svg class="chart"' not in page(**query)


@pytest.mark.once(on="postgres")
def test_a_groups_page_draws_the_calls_about_its_devices(
    admin_client: Client, make_device: Factory, make_group: Any, now: datetime
) -> None:
    site, other = make_group("site"), make_group("other")
    floor = make_group("floor", parent=make_group("house", parent=site))
    make_device("lamp", groups=[site, floor])  # counts once
    make_device("lock", groups=[floor])
    make_device("elsewhere", groups=[other])
    for subject in ("lamp", "lock", "elsewhere", "unregistered"):
        count(subject=subject, at=now)
    count(subject="lock", at=now, reason=Outcome.REVOKED)
    count(subject="lock", at=now - 30 * HOUR)
    page = admin_client.get(reverse("admin:devices_devicegroup_change", args=[site.pk]))
    text = page.content.decode()
    assert "2 were allowed and 1 refused" in text
    assert '<svg class="chart"' in text
    assert "large group" not in text
    listed = admin_client.get(f"/admin/rpc/callrecord/?group={site.pk}")
    subjects = [row.subject for row in listed.context["cl"].result_list]
    assert sorted(subjects) == ["lamp", "lock", "lock"]
    assert "group of the subject" in listed.content.decode()
    assert not admin_client.get("/admin/rpc/callrecord/?group=0").context["cl"].result_list


@pytest.mark.once(on="postgres")
def test_the_calls_of_a_large_group_are_those_of_some_devices(
    admin_client: Client,
    make_device: Factory,
    make_group: Any,
    now: datetime,
    monkeypatch: pytest.MonkeyPatch,
    django_assert_num_queries: Any,
) -> None:
    monkeypatch.setattr(panels, "MAX_MEMBERS", 3)
    site = make_group()
    address = reverse("admin:devices_devicegroup_change", args=[site.pk])
    assert "Calls about its devices" not in admin_client.get(address).content.decode()
    for number in range(5):
        count(subject=make_device(groups=[site]).identifier, at=now - number * HOUR)
    page = admin_client.get(address).content.decode()
    assert "3 were allowed and 0 refused" in page
    assert "This is a large group: only 3 of its devices were looked at." in page
    request = RequestFactory().get(address)
    request.user = User.objects.get(username="admin")
    with django_assert_num_queries(2):  # how many members there are, and all their calls
        panels.calls_of_group(request, site)


def test_a_devices_page_without_calls(admin_client: Client, make_device: Factory) -> None:
    device = make_device()
    page = admin_client.get(reverse("admin:devices_device_change", args=[device.pk]))
    assert "No verification that it passed is on record." in page.content.decode()


def test_the_journal_is_for_those_who_may_see_it(make_device: Factory, now: datetime) -> None:
    device = make_device("sends")
    command("sends", "receives", "/v1/Secretive", at=now)
    client = browser_of(staff("view_device"))
    page = client.get(reverse("admin:devices_device_change", args=[device.pk])).content.decode()
    assert "Last calls" not in page
    assert "/v1/Secretive" not in page
    assert client.get(LIST).status_code == 403


@pytest.mark.once(on="postgres")
def test_pruning_keeps_what_is_newer(monkeypatch: pytest.MonkeyPatch, now: datetime) -> None:
    monkeypatch.setattr("rpc.models.PRUNED", 2)
    for days in (1, 89, 91, 92, 93, 400, 500):
        count(subject=f"{days} days", at=now - timedelta(days=days))
    assert answer("prune_journal", "--older-than", "90d", "--dry-run")["rows"] == 5
    assert CallRecord.objects.count() == 7
    assert answer("prune_journal", "--older-than", "90d")["rows"] == 5
    assert {row.subject for row in CallRecord.objects.all()} == {"1 days", "89 days"}
    assert run("prune_journal", "--older-than", "90d")[0] == "0 rows deleted.\n"


@pytest.mark.parametrize("words", [[], ["--older-than", "ninety"]])
def test_pruning_needs_a_span(words: list[str]) -> None:
    with pytest.raises((CommandError, SystemExit)):
        call_command("prune_journal", *words)
