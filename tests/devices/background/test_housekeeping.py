"""What nobody may ask for any more is forgotten by the servers, whether requests come or not."""

import uuid
from collections.abc import Callable
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.db import OperationalError
from django.utils import timezone

from authsite.accounts.tokens.models import ApiToken, RuleUse
from devices.background import attempts, housekeeping, jobs
from devices.events.models import Event
from devices.extension_points import FORGETS
from devices.models import IdempotentAnswer, Job
from devices.models.job import JobKind, JobState

pytestmark = pytest.mark.django_db
OLD, YOUNG = timedelta(days=400), timedelta(minutes=10)


def job(moment: datetime) -> Job:
    owner, _made = User.objects.get_or_create(username="kim")
    return Job.objects.create(
        kind=JobKind.DELETE_DEVICES, owner=owner, state=JobState.DONE, finished=moment
    )


def answer(moment: datetime) -> IdempotentAnswer:
    name = uuid.uuid4().hex
    return IdempotentAnswer.objects.create(
        name=name, fingerprint=name, holder=uuid.uuid4(), created=moment
    )


def use(moment: datetime) -> RuleUse:
    owner, _made = User.objects.get_or_create(username="kim")
    token, _made = ApiToken.objects.get_or_create(
        owner=owner,
        name="ci",
        defaults={"identifier": "0123456789", "digest": "d", "pepper": "p", "scopes": []},
    )
    return RuleUse.objects.create(token=token, rule=0, moment=moment, count=1)


KINDS: list[tuple[str, Callable[[datetime], Any]]] = [
    ("events", lambda moment: Event.objects.create(kind="device.created", data={}, moment=moment)),
    ("jobs", job),
    ("idempotent answers", answer),
    ("uses of tokens", use),
    ("sessions", lambda moment: Session.objects.create(pk=moment.isoformat(), expire_date=moment)),
]


def test_each_kind_is_in_the_table() -> None:
    assert {name for name, _make in KINDS} == set(FORGETS)


@pytest.mark.parametrize(("name", "make"), KINDS, ids=[one[0] for one in KINDS])
def test_what_is_old_goes_and_what_is_not_stays(name: str, make: Callable[[datetime], Any]) -> None:
    now = timezone.now()
    young = now + YOUNG if name == "sessions" else now - YOUNG
    old, kept = make(now - OLD), make(young)
    assert housekeeping.forget(now)[name] == 1
    rows = type(old).objects.filter(pk__in=[old.pk, kept.pk])
    assert [row.pk for row in rows] == [kept.pk]


def test_a_table_that_fails_keeps_no_other_waiting(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_now: datetime) -> int:
        raise OperationalError("no disk")

    monkeypatch.setitem(FORGETS, "events", fail)
    old = answer(timezone.now() - OLD)
    assert "events" not in housekeeping.forget(timezone.now())
    assert not IdempotentAnswer.objects.filter(pk=old.pk).exists()
    assert "old events were not forgotten: no disk" in caplog.text


def test_the_thread_of_a_server_keeps_house_once_an_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[datetime] = []

    def look(now: datetime) -> dict[str, int]:
        looks.append(now)
        return {}

    monkeypatch.setattr(housekeeping, "forget", look)
    keeper = jobs.JobWorker().housekeeper
    keeper.look()
    assert not looks, "not at the start, when all processes come at once"
    keeper.next_look = 0.0
    keeper.look()
    keeper.look()
    assert len(looks) == 1


@pytest.mark.once(on="sqlite")
def test_a_thread_tells_of_an_outage_once_a_minute(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Failing(attempts.BackgroundThread):
        name = "sender"

        def run(self, done: Callable[[], bool], seconds: float = 0) -> bool:
            raise OperationalError("the server\nis away")

    moments, turns = iter([100.0, 101.0, 159.0, 160.0]), iter([False] * 8)
    clock = SimpleNamespace(monotonic=lambda: next(moments), sleep=lambda seconds: None)
    monkeypatch.setattr("devices.background.attempts.time", clock)
    monkeypatch.setattr("devices.database.outages.time", clock)
    monkeypatch.setattr("devices.background.attempts.connection", SimpleNamespace(close=bool))
    Failing().run_for_ever(done=lambda: next(turns, True))
    said = "sender cannot go on now: OperationalError: the server is away"
    assert caplog.messages == [said, f"{said} (2 more since the last line)"]
