"""Commits and the standbys that confirm them. `make drill` freezes a real one."""

import time
from contextlib import suppress
from types import SimpleNamespace

import psycopg
import pytest
from django.db import connection, transaction
from django.utils import timezone

from devices.database import confirmation, last_used
from devices.database.confirmation import bounded, without_waiting
from devices.models import Device
from rpc.journal import journal
from rpc.models import CallCount, CallKey, CallRecord

postgres = pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has no standbys")


@postgres
@pytest.mark.django_db(transaction=True)
def test_what_is_written_behind_requests_waits_for_no_standby_and_no_disk() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET synchronous_commit = remote_apply")
        with without_waiting():
            cursor.execute("SHOW synchronous_commit")
            assert cursor.fetchone() == ("off",)
        cursor.execute("SHOW synchronous_commit")
        assert cursor.fetchone() == ("remote_apply",)
        cursor.execute("RESET synchronous_commit")


@postgres
@pytest.mark.django_db
def test_no_connection_has_statements_compiled() -> None:
    """Each decision about devices in fifty groups took longer than the 1.5 s that it may."""
    with connection.cursor() as cursor:
        assert cursor.execute("SHOW jit").fetchone() == ("off",)


@postgres
@pytest.mark.django_db
@pytest.mark.parametrize("table", ["the journal", "times of use"])
def test_a_statement_that_is_written_behind_requests_waits_for_nothing(table: str) -> None:
    """Shown by the rest of the transaction around it, which it is without one."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL synchronous_commit = remote_apply")
        if table == "the journal":
            key = CallKey(1, "verifier", "credential", "caller", "subject", "", "", "verified")
            journal.write([(key, CallCount(1, 0.0, 0.0))])
            assert CallRecord.objects.get().count == 1
        else:
            device = Device.objects.create(identifier="one")
            last_used.worker.write([(("Device", device.pk), timezone.now())])
            device.refresh_from_db()
            assert device.last_seen is not None
        cursor.execute("SHOW synchronous_commit")
        assert cursor.fetchone() == ("off",)


@postgres
@pytest.mark.django_db(transaction=True)
def test_a_wait_is_cancelled_and_the_next_statement_is_not() -> None:
    connection.ensure_connection()
    driver = connection.connection
    began = time.monotonic()
    with pytest.raises(psycopg.errors.QueryCanceled), bounded(driver, 0.2):
        driver.execute("SELECT pg_sleep(5)")
    assert time.monotonic() - began < 3
    for _ in range(50):
        with suppress(psycopg.errors.QueryCanceled), bounded(driver, 0.001):  # it may be in time
            driver.execute("SELECT 1")
        assert driver.execute("SELECT 2").fetchone() == (2,)


def test_only_the_wait_for_standbys_makes_a_change_unconfirmed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    awaited: list[bool] = []
    monkeypatch.setattr(confirmation, "_await_confirmation", lambda: awaited.append(True))
    for function in (None, "ExecVacuum", confirmation.WAITED):
        confirmation.on_notice(SimpleNamespace(source_function=function))  # type: ignore[arg-type]
    assert awaited == [True]
    assert confirmation.take_unconfirmed()
    assert not confirmation.take_unconfirmed(), "it is told once"
