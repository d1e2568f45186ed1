"""The journal of calls: what it counts, what it is asked, and what it never holds."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone

from acl.analysis import what_if
from acl.engine.decisions import Reason, Request
from devices.verdicts import Outcome
from rpc.models import BUCKET, CallCount, CallKey, CallReason, CallRecord, reasons

NOW = datetime(2026, 6, 1, 12, 30, tzinfo=UTC)
HOUR = timedelta(hours=1)

pytestmark = pytest.mark.django_db


def count(*, at: datetime = NOW, times: int = 1, rule: int | None = None, **overrides: Any) -> None:
    """Add calls to the journal."""
    moment = at.timestamp()
    values = {
        "bucket": int(moment // BUCKET),
        "endpoint": "verifier",
        "question": "credential",
        "caller": "10.0.0.7",
        "subject": "cfa09baa",
        "destination": "",
        "command": "",
        "reason": Outcome.VERIFIED,
        **overrides,
    }
    CallRecord.objects.add({CallKey(**values): CallCount(times, moment, moment, rule)})


def command(source: str, destination: str, name: str, **overrides: Any) -> None:
    count(
        question="command",
        subject=source,
        destination=destination,
        command=name,
        **{"reason": Reason.ALLOWED, **overrides},
    )


def test_what_is_alike_within_an_hour_is_one_row() -> None:
    count(at=NOW, times=2)
    count(at=NOW - timedelta(minutes=20), rule=5)
    count(at=NOW + HOUR)
    later, row = CallRecord.objects.all()
    assert (row.count, row.first, row.last) == (3, NOW - timedelta(minutes=20), NOW)
    assert (row.bucket, row.rule, row.outcome) == (NOW.replace(minute=0), 5, "allowed")
    assert later.bucket == NOW.replace(minute=0) + HOUR


@pytest.mark.parametrize(
    "difference",
    [
        {"endpoint": "rest"},
        {"question": "caller"},
        {"caller": "10.0.0.8"},
        {"subject": "other"},
        {"destination": "other"},
        {"command": "/v1/Other"},
        {"reason": Outcome.WRONG_SECRET},
        {"others": True},
    ],
    ids=lambda difference: next(iter(difference)),
)
def test_what_differs_has_a_row_of_its_own(difference: dict[str, Any]) -> None:
    count()
    count(**difference)
    assert CallRecord.objects.count() == 2


def test_every_reason_has_one_meaning() -> None:
    values = list(reasons())
    assert len(values) == len(set(values))
    assert max(map(len, values)) <= (CallRecord._meta.get_field("reason").max_length or 0)


def test_refused_calls_over_time() -> None:
    count(at=NOW - 30 * HOUR, reason=Outcome.REVOKED)
    count(at=NOW - 2 * HOUR, times=3, reason=Outcome.REVOKED)
    count(at=NOW - 2 * HOUR, times=4, reason=Outcome.THROTTLED)
    count(at=NOW, reason=CallReason.CUT_OFF)
    count(at=NOW, times=9)
    recent = CallRecord.objects.refused().since(NOW - 24 * HOUR)
    noon = NOW.replace(minute=0)
    refused = {noon - 2 * HOUR: {"refused": 7}, noon: {"refused": 1}}
    assert recent.per_hour(NOW - 24 * HOUR) == refused
    assert recent.total() == 8
    assert CallRecord.objects.allowed().total() == 9
    assert CallRecord.objects.none().total() == 0


def test_callers_that_were_let_in_and_when() -> None:
    count(caller="//backend/rtio", at=NOW - HOUR)
    count(caller="//backend/rtio", at=NOW, reason=Outcome.DISABLED)
    count(caller="10.0.0.7", at=NOW - 3 * HOUR)
    count(caller="192.0.2.1", question="caller", reason=CallReason.NOT_AUTHENTICATED)
    assert [(row.caller, row.last) for row in CallRecord.objects.callers()] == [
        ("//backend/rtio", NOW),
        ("10.0.0.7", NOW - 3 * HOUR),
    ]


def test_nobody_was_let_in() -> None:
    assert CallRecord.objects.callers() == []


def test_the_newest_rows_about_a_device_at_either_end() -> None:
    command("a", "b", "/v1/One", at=NOW - 2 * HOUR)
    command("b", "a", "/v1/Two", at=NOW - HOUR)
    command("a", "a", "/v1/Three", at=NOW)
    command("b", "b", "/v1/Four", at=NOW)
    rows = CallRecord.objects.latest_about("a", 10)
    assert [row.command for row in rows] == ["/v1/Three", "/v1/Two", "/v1/One"]
    assert [row.command for row in CallRecord.objects.latest_about("a", 1)] == ["/v1/Three"]


def test_devices_are_found_by_how_their_identifiers_begin() -> None:
    command("//host/dev_1", "x", "/v1/A")
    command("x", "//host/dev_2", "/v1/B")
    command("//host/devil", "//HOST/DEV_3", "/v1/C")
    found = CallRecord.objects.about_prefix("//host/dev_")
    assert sorted(row.command for row in found) == ["/v1/A", "/v1/B"]


def test_requests_made_are_counted_over_hours_and_callers() -> None:
    command("a", "b", "/v1/One", times=2)
    command("a", "b", "/v1/One", at=NOW - HOUR, reason=Reason.NO_RULE)
    command("a", "b", "/v1/Two", times=9)
    command("a", "", "", others=True, times=99)
    command("a", "b", "/v1/Old", at=NOW - 200 * HOUR)
    count(times=99)
    made = CallRecord.objects.requests_made(NOW - 24 * HOUR, most=10)
    assert list(made.items()) == [
        (Request("a", "b", "/v1/Two"), 9),
        (Request("a", "b", "/v1/One"), 3),
    ]
    assert len(CallRecord.objects.requests_made(NOW - 24 * HOUR, most=1)) == 1


def test_changes_of_permissions_are_tried_with_what_was_asked_of_late() -> None:
    for _ in range(3):
        command("a", "b", "/v1/Late", at=timezone.now() - HOUR)
    command("a", "b", "/v1/Old", at=timezone.now() - 8 * 24 * HOUR)
    assert what_if.known_requests() == {Request("a", "b", "/v1/Late"): 3}
