"""Questions to a standby, and the lease that they hold by. `make drill` asks real standbys."""

import pytest
from django.db import connection

from devices.database import answers, drivers
from devices.database.answers import Heartbeats, Standby
from devices.models import Device, Heartbeat

# Heartbeats are written past the transaction that a test is in otherwise.
pytestmark = pytest.mark.django_db(transaction=True)
postgres = pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has no standbys")

SQL = "SELECT identifier, name FROM devices_device WHERE identifier = %s"


def test_only_a_number_of_late_is_fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr("devices.database.answers.time.monotonic", lambda: clock[0])
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


def test_whoever_holds_no_slot_of_machines_is_answered_by_the_primary() -> None:
    assert Standby(Heartbeats(), 2).rows(SQL, ["x"]) is None


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
