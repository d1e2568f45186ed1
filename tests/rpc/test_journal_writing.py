"""The journal's writer: bounded whatever is sent, exact whoever else writes, never in the way."""

import subprocess
import sys
import threading
from datetime import datetime, timedelta
from operator import attrgetter
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from django.conf import settings as django_settings
from django.db import OperationalError, connection
from msgspec.structs import replace

from acl.engine.decisions import Decision, Reason, Request
from devices.verdicts import Outcome, Verdict
from rpc import journal
from rpc.journal import Entry, Journal, of_decision, of_verdict
from rpc.models import CallKey, CallQuerySet, CallReason, CallRecord, Question
from tests.support.servers import Server, demo_server

VERIFIED = of_verdict("known", Verdict(Outcome.VERIFIED, device=1))


def unknown(number: int) -> Entry:
    return of_verdict(f"unknown-{number}", Verdict(Outcome.UNKNOWN_DEVICE))


def command(number: int, source: str = "known") -> Entry:
    decision = Decision(Reason.ALLOWED, rule=7)
    return of_decision(Request(source, "other", f"/v1/Command.{number}"), decision)


def claim(number: int) -> Entry:
    return Entry(Question.CALLER, Outcome.WRONG_SECRET, f"claim-{number}")


def rows(**filters: Any) -> list[tuple[str, str, str, int, bool]]:
    return list(
        CallRecord.objects.filter(**filters)
        .order_by("caller", "subject", "command")
        .values_list("caller", "subject", "command", "count", "others")
    )


@pytest.fixture(autouse=True)
def _little_room(monkeypatch: pytest.MonkeyPatch, now: datetime) -> None:
    monkeypatch.setattr(journal, "MAX_OF_STRANGERS", 3)
    monkeypatch.setattr(journal, "MAX_OF_SUBJECT", 4)  # in an hour, which does not end meanwhile


@pytest.mark.django_db
def test_a_million_names_make_a_few_rows() -> None:
    writer = Journal()
    for number in range(20):
        writer.record("verifier", "10.0.0.7", [unknown(number)])
        if number % 5 == 0:
            writer.flush()  # what is written still takes up room
    writer.record("verifier", "10.0.0.7", [unknown(1)])
    writer.flush()
    assert rows() == [
        ("10.0.0.7", "", "", 17, True),
        ("10.0.0.7", "unknown-0", "", 1, False),
        ("10.0.0.7", "unknown-1", "", 2, False),
        ("10.0.0.7", "unknown-2", "", 1, False),
    ]


@pytest.mark.django_db
def test_strangers_take_no_room_from_callers_that_are_let_in() -> None:
    writer = Journal()
    for number in range(5):
        writer.record("frames", f"2001:db8::{number}", [claim(number)])
    writer.record("verifier", "10.0.0.7", [unknown(1)])
    writer.record("verifier", "10.0.0.8", [unknown(2)])
    writer.flush()
    assert rows(question="caller", others=True) == [("", "", "", 2, True)]
    assert len(rows(question="caller", others=False)) == 3
    assert rows(question="credential") == [
        ("10.0.0.7", "unknown-1", "", 1, False),
        ("10.0.0.8", "unknown-2", "", 1, False),
    ]


@pytest.mark.django_db
def test_one_device_with_many_commands_leaves_room_to_others() -> None:
    writer = Journal()
    for number in range(10):
        writer.record("frames", "10.0.0.7", [command(number)])
    writer.record("frames", "10.0.0.7", [command(1, source="modest")])
    writer.flush()
    assert rows(others=True) == [("10.0.0.7", "known", "", 6, True)]
    assert rows(subject="modest") == [("10.0.0.7", "modest", "/v1/Command.1", 1, False)]
    assert CallRecord.objects.get(others=True).rule is None
    assert CallRecord.objects.total() == 11


@pytest.mark.django_db
def test_all_new_rows_of_an_hour_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "MAX_ROWS", 5)
    writer = Journal()
    for number in range(10):
        writer.record("frames", "10.0.0.7", [command(1, source=f"known-{number}")])
    writer.record("verifier", "10.0.0.7", [VERIFIED])  # bounded by the registry itself
    writer.flush()
    assert len(rows(others=False)) == 6
    assert CallRecord.objects.total() == 11


@pytest.mark.django_db
def test_the_next_hour_has_room_again(monkeypatch: pytest.MonkeyPatch, now: datetime) -> None:
    writer = Journal()
    for hour in range(2):
        monkeypatch.setattr("time.time", (now + hour * timedelta(hours=1)).timestamp)
        for number in range(5):
            writer.record("verifier", "10.0.0.7", [unknown(number)])
    writer.flush()
    assert len(rows(others=False)) == 6
    assert [row[3] for row in rows(others=True)] == [2, 2]


@pytest.mark.django_db
def test_what_waits_for_the_database_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Journal, "capacity", 4)
    writer = Journal()
    for number in range(10):
        writer.record(
            "verifier",
            "10.0.0.7",
            [of_verdict(f"known-{number}", Verdict(Outcome.VERIFIED, device=number))],
        )
    assert len(writer._collected) == 5
    writer.flush()
    assert rows(others=True) == [("", "", "", 6, True)]
    assert CallRecord.objects.callers()[0].caller == "10.0.0.7"


@pytest.mark.django_db
def test_what_the_database_cannot_take_waits_and_is_not_counted_twice(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Journal, "batch_rows", 2)
    writer = Journal()
    for number in range(6):
        writer.record(
            "frames", "10.0.0.7", [Entry(Question.CALL, CallReason.ANSWERED, str(number))]
        )
    add = CallRecord.objects.add
    calls: list[int] = []

    def fail_second(queryset: Any, tallies: Any) -> None:
        calls.append(len(tallies))
        if len(calls) == 2:
            raise OperationalError("gone")
        add(tallies)

    with monkeypatch.context() as patch:
        patch.setattr("rpc.models.CallQuerySet.add", fail_second)
        writer.flush()
    assert calls == [2, 2]
    assert "wait for the database" in caplog.text
    writer.record("frames", "10.0.0.7", [Entry(Question.CALL, CallReason.ANSWERED, "2")])
    writer.flush()
    assert CallRecord.objects.total() == 7
    assert not writer._collected


def test_rows_of_neighbours_lie_together_and_every_row_is_told_from_the_others() -> None:
    key = CallKey(1, "verifier", "credential", "10.0.0.7", "a" * 40, "", "", "verified")
    neighbour, other = key._replace(subject="a" * 39 + "b"), key._replace(subject="z")
    assert sorted([other, neighbour, key], key=attrgetter("digest"))[2] == other
    changes: dict[str, Any] = dict.fromkeys(key._fields, "changed") | {"bucket": 2, "others": True}
    varied = [key._replace(**{field: value}) for field, value in changes.items()]
    digests = {each.digest for each in (key, neighbour, other, *varied)}
    assert len(digests) == 3 + len(key._fields)
    assert all(len(UUID(digest).bytes) == 16 for digest in digests)


@pytest.mark.django_db
def test_a_batch_that_cannot_be_written_at_all_is_lost_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Journal, "batch_rows", 1)
    writer = Journal()
    writer.record("no such endpoint", "10.0.0.7", [replace(VERIFIED, subject="x" * 10)])
    writer.record("verifier", "10.0.0.7", [VERIFIED])
    with monkeypatch.context() as patch:
        patch.setattr("rpc.models.CallQuerySet.add", _refusing(CallQuerySet.add))
        writer.flush()
    assert "journal: a batch was not written" in caplog.text
    assert CallRecord.objects.total() == 1


def _refusing(add: Any) -> Any:
    def refuse(queryset: Any, tallies: Any) -> None:
        if {key.endpoint for key in tallies} != {"verifier"}:
            raise ValueError
        add(queryset, tallies)

    return refuse


@pytest.mark.django_db
def test_it_writes_by_itself_and_early_when_much_waits(
    monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    settings.EVIDENCE_INTERVAL = 60
    monkeypatch.setattr(Journal, "capacity", 4)
    flushed = threading.Event()
    monkeypatch.setattr(Journal, "write", lambda *_: flushed.set())
    writer = Journal()
    writer._finish = lambda: None  # type: ignore[method-assign]
    for number in range(3):
        writer.record("verifier", "10.0.0.7", [unknown(number)])
    try:
        assert flushed.wait(5)
    finally:
        Journal._finish(writer)
    assert writer._thread is not None
    assert not writer._thread.is_alive()


@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif("connection.vendor == 'sqlite'", reason="SQLite has one writer at a time")
def test_writers_of_the_same_rows_never_block_each_other_for_ever() -> None:
    failures: list[BaseException] = []
    ready = threading.Barrier(3)

    def write(order: int) -> None:
        writer = Journal()
        ready.wait()
        try:
            for _ in range(20):
                for number in range(200)[::order]:
                    writer.record("verifier", "10.0.0.7", [command(number, f"known-{number}")])
                CallRecord.objects.add(writer._collected)
                writer._collected = {}
        except OperationalError as error:
            failures.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=write, args=[order]) for order in (1, -1, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert CallRecord.objects.total() == 20 * (200 + 200 + 29)


WRITE = """
import django; django.setup()
from devices.verdicts import Outcome, Verdict
from rpc.journal import Journal, of_verdict
journal = Journal()
for round in range(20):
    for number in range(100):
        verdict = Verdict(Outcome.VERIFIED, device=number)
        journal.record("verifier", "10.0.0.7", [of_verdict(f"device-{number}", verdict)])
    journal.flush()
assert not journal._collected
"""


COUNT = "from rpc.models import CallRecord; print(CallRecord.objects.filter({}).total())"


@pytest.mark.e2e
def test_processes_that_write_at_once_lose_nothing(server: Server) -> None:
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITE], cwd=django_settings.BASE_DIR, env=env)
        for env in [server.environment] * 2
    ]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    counted = server.manage(
        "shell", "-v0", "-c", COUNT.format("reason='verified', caller='10.0.0.7'")
    )
    assert counted.split()[-1] == str(2 * 20 * 100)


@pytest.mark.once(on="postgres")
@pytest.mark.e2e
def test_a_server_that_is_told_to_end_writes_what_it_counted(tmp_path: Path) -> None:
    with demo_server(tmp_path, EVIDENCE_INTERVAL="600") as own:
        for _ in range(20):
            own.ask("POST", "/deviceverifier", b"no json")
        own.stop()
        counted = own.manage("shell", "-v0", "-c", COUNT.format("reason='invalid-body'"))
    assert counted.split()[-1] == "20"
