"""Questions to a standby, and the lease that they hold by. `make drill` asks real standbys."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from math import inf
from types import SimpleNamespace
from typing import Any

import pytest
from django.db import DEFAULT_DB_ALIAS, OperationalError, connection, connections, transaction
from django.utils import timezone

from devices.database import answers, drivers
from devices.database.answers import Heartbeats, Standby
from devices.database.slots import Slots
from devices.models import Device, Heartbeat

# Heartbeats are written past the transaction that a test is in otherwise.
pytestmark = pytest.mark.django_db(transaction=True)
postgres = pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has no standbys")

SQL = "SELECT identifier, name FROM devices_device WHERE identifier = %s"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the moment that it is for `answers`, and for nothing else."""
    clock = [100.0]
    monkeypatch.setattr(answers, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    return clock


@pytest.fixture
def written(clock: list[float]) -> Heartbeats:
    """Return the heartbeats of a process that has written its first number just now."""
    heartbeats = Heartbeats()
    heartbeats._moments[1] = clock[0]
    Heartbeat.objects.create(process=heartbeats.process, number=1, written=timezone.now())
    return heartbeats


@contextmanager
def slot_held() -> Iterator[None]:
    """Hold a slot within the block; then close its connection, and give this thread its own."""
    own = connections[DEFAULT_DB_ALIAS]
    with Slots(1, max_wait=1.0):
        yield
        connections[DEFAULT_DB_ALIAS].close()
    connections[DEFAULT_DB_ALIAS] = own


def test_only_a_number_of_late_is_fresh(clock: list[float]) -> None:
    heartbeats = Heartbeats()
    heartbeats.age(None)
    assert heartbeats.age(None) == heartbeats.age(1) == float("inf")
    if connection.vendor == "postgresql":
        heartbeats.write()
    else:
        heartbeats._moments[1] = clock[0]
    clock[0] += 1.5
    assert heartbeats.age(1) == 1.5
    assert heartbeats.age(2) == float("inf"), "of another process, or of another timeline"


def test_the_moments_of_the_newest_numbers_alone_are_remembered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(drivers, "run", lambda *_: [])
    heartbeats = Heartbeats()
    for _ in range(answers.KEPT + 1):
        heartbeats.write()
    assert heartbeats.age(1) == inf
    assert heartbeats.age(2) < inf


def test_rows_hold_until_the_lease_lapses(clock: list[float], written: Heartbeats) -> None:
    standby = Standby(written, 2.0)
    assert standby.age == inf
    clock[0] += 2.0
    rows = [(1, True, "lamp", "Lamp"), (1, True, "bell", "Bell")]
    assert standby.fresh(rows) == [("lamp", "Lamp"), ("bell", "Bell")]
    assert standby.fresh([(1, None, None, None)]) == []
    assert standby.age == 2.0
    assert standby.may_be_asked()
    clock[0] += 0.25
    assert standby.fresh(rows) is None
    assert standby.age == 2.25


def test_after_a_lapse_the_standby_is_asked_after_the_next_heartbeat(clock: list[float]) -> None:
    standby = Standby(Heartbeats(), 2.0)
    assert standby.fresh([(None, None)]) is None
    clock[0] += answers.INTERVAL - 0.25
    assert not standby.may_be_asked()
    clock[0] += 0.25
    assert standby.may_be_asked()


def test_a_standby_that_fails_is_left_alone_ever_longer_until_it_answers(
    clock: list[float], written: Heartbeats
) -> None:
    standby = Standby(written, 100.0)
    for pause in (0.5, 1.0, 2.0, 4.0, 8.0, 8.0):
        standby.failed(OperationalError("down"))
        clock[0] += pause - 0.25
        assert not standby.may_be_asked(), pause
        clock[0] += 0.25
        assert standby.may_be_asked(), pause
    standby.fresh([(1, None)])
    standby.failed(OperationalError("down"))
    clock[0] += 0.5
    assert standby.may_be_asked()


def test_whoever_holds_no_slot_of_machines_is_answered_by_the_primary(written: Heartbeats) -> None:
    standby = Standby(written, 100.0)
    assert standby.rows(SQL, ["x"]) is None
    with slot_held():
        assert standby.rows(SQL, ["x"]) is None


def test_machines_are_answered_by_the_standby_but_in_no_transaction(
    monkeypatch: pytest.MonkeyPatch, written: Heartbeats
) -> None:
    monkeypatch.setattr(answers, "ANSWERS", DEFAULT_DB_ALIAS)
    Device.objects.create(identifier="lamp", name="Lamp")
    standby = Standby(written, 100.0)
    with slot_held():
        assert standby.rows(SQL, ["lamp"]) == [("lamp", "Lamp")]
        with transaction.atomic():
            assert standby.rows(SQL, ["lamp"]) is None
        assert standby.rows(SQL, ["bell"]) == []
        Heartbeat.objects.all().delete()
        assert standby.rows(SQL, ["lamp"]) is None, "it shows no number"


def test_a_standby_that_failed_is_not_asked_at_once_again(
    monkeypatch: pytest.MonkeyPatch, clock: list[float], written: Heartbeats
) -> None:
    monkeypatch.setattr(answers, "ANSWERS", DEFAULT_DB_ALIAS)
    standby, asked = Standby(written, 100.0), []

    def down(*_given: Any) -> None:
        asked.append(1)
        raise OperationalError("down")

    with slot_held():
        monkeypatch.setattr(drivers, "run", down)
        connections[DEFAULT_DB_ALIAS].ensure_connection()
        assert standby.rows(SQL, ["lamp"]) is None
        assert connections[DEFAULT_DB_ALIAS].connection is None, "it was given up"
        assert standby.rows(SQL, ["lamp"]) is None
        assert len(asked) == 1
        clock[0] += answers.MIN_PAUSE
        assert standby.rows(SQL, ["lamp"]) is None
        assert len(asked) == 2


@postgres
@pytest.mark.parametrize("count", [0, 1])
def test_the_heartbeat_comes_with_the_rows_and_without_any(count: int) -> None:
    heartbeats = Heartbeats()
    statement = answers.with_heartbeat(SQL)
    for number in range(count):
        Device.objects.create(identifier="lamp", name=f"Lamp {number}")
    rows = drivers.run(connection, statement, [heartbeats.process, "lamp"])
    assert [row[0] for row in rows] == [None], "nothing was written yet"
    heartbeats.write()
    heartbeats.write()
    rows = drivers.run(connection, statement, [heartbeats.process, "lamp"])
    assert rows[0][0] == 2
    assert [row[2:] for row in rows if row[1]] == [("lamp", "Lamp 0")][:count]
    assert Heartbeat.objects.count() == 1


@postgres
def test_a_heartbeat_waits_for_no_standby() -> None:
    how = f"{answers.WRITE} RETURNING current_setting(%s)"
    rows = drivers.run(connection, how, ["a process", 1, "synchronous_commit"])
    assert rows == [("local",)]


@postgres
def test_heartbeats_go_on_after_failures_and_forget_gone_processes_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Over(Exception):
        """Ends what goes on for ever."""

    heartbeats, left = Heartbeats(), [1, 2, 3, 4]
    faults: list[Exception] = [OperationalError("down"), ValueError("odd")]
    write = Heartbeats.write

    def write_after_faults(beats: Heartbeats) -> None:
        if faults:
            raise faults.pop()
        write(beats)

    def gone(_seconds: float) -> None:
        Heartbeat.objects.create(
            process=f"gone {left.pop()}", number=1, written=timezone.now() - timedelta(days=2)
        )
        if not left:
            raise Over

    monkeypatch.setattr(Heartbeats, "write", write_after_faults)
    monkeypatch.setattr(answers, "time", SimpleNamespace(monotonic=time.monotonic, sleep=gone))
    with pytest.raises(Over):
        answers._run(heartbeats)
    names = set(Heartbeat.objects.values_list("process", flat=True))
    assert names == {heartbeats.process, "gone 1", "gone 2"}
    assert Heartbeat.objects.get(pk=heartbeats.process).number == 2
