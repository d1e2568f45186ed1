"""What writers have in common: batches in an even pace, and none lost at the end."""

import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from operator import itemgetter, length_hint
from pathlib import Path
from typing import Any

import pytest
from django.db import OperationalError, connection, connections
from django.db.backends.sqlite3.base import DatabaseWrapper

from devices.database import write_behind
from devices.database.write_behind import Batch, Batches, WriteBehindWorker, truncate_wal

pytestmark = pytest.mark.django_db
SQLITE = {"ENGINE": "django.db.backends.sqlite3", "OPTIONS": {}}


class Numbers(WriteBehindWorker[int, None]):
    """Writes numbers, and notes when."""

    name = "numbers"
    capacity = 100

    def __init__(self) -> None:
        super().__init__()
        self.noted: list[int] = []
        self.written: list[int] = []
        self.moments: list[float] = []
        self.is_done = threading.Event()

    def note(self, *numbers: int) -> None:
        self.noted += numbers
        self._start()

    def waiting(self) -> int:
        return len(self.noted)

    def drain(self) -> list[Batch[int, None]]:
        noted, self.noted = self.noted, []
        return [[(number, None)] for number in noted]

    def requeue(self, batches: Iterable[Batch[int, None]]) -> None:
        self.noted = [*(number for [(number, _)] in batches), *self.noted]

    def write(self, batch: Batch[int, None]) -> None:
        [(number, _)] = batch
        self.written.append(number)
        self.moments.append(time.monotonic())
        if number == 0:
            self.is_done.set()


@pytest.fixture
def writer(settings: Any) -> Iterator[Numbers]:
    settings.EVIDENCE_INTERVAL = 20
    numbers = Numbers()
    yield numbers
    numbers._finish()


@pytest.fixture
def at_work(writer: Numbers) -> Numbers:
    """Return a writer that has begun to write 51 numbers in 20 seconds."""
    writer.note(*range(50, -1, -1))
    writer._wake.set()
    while not writer.written:
        time.sleep(0.01)
    return writer


def test_what_waits_is_written_evenly(writer: Numbers, settings: Any) -> None:
    settings.EVIDENCE_INTERVAL = 1
    writer.note(4, 3, 2, 1, 0)
    assert writer.is_done.wait(5)
    gaps = [after - before for before, after in zip(writer.moments, writer.moments[1:])]  # noqa: B905
    assert writer.written == [4, 3, 2, 1, 0]
    assert len(gaps) == 4
    assert sum(gaps) > 0.5


def test_the_more_is_collected_meanwhile_the_shorter_the_pauses(at_work: Numbers) -> None:
    assert not at_work.is_done.wait(1)
    at_work.note(*range(100, 150))  # half of what may wait
    at_work._wake.set()
    written = len(at_work.written)
    assert not at_work.is_done.wait(2)  # 50 rows in 8 s
    assert len(at_work.written) > written + 6  # 5 in these 2 s, had there been nothing more
    at_work.note(*range(150, 200))
    at_work._wake.set()
    assert at_work.is_done.wait(2)
    deadline = time.monotonic() + 2
    while 100 not in at_work.written:  # the next ones are not left until 20 s are over
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_where_half_of_what_may_wait_is_there_writing_goes_on_at_once(
    writer: Numbers, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = writer.write

    def write_while_more_comes(batch: Batch[int, None]) -> None:
        if batch == [(1, None)]:
            writer.noted += [0, *range(2, 51)]
        write(batch)

    monkeypatch.setattr(writer, "write", write_while_more_comes)
    writer.note(1)
    writer._wake.set()
    assert writer.is_done.wait(5)


def test_the_log_begins_anew_right_after_the_last_batch(
    writer: Numbers, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = threading.Event()
    monkeypatch.setattr(write_behind, "truncate_wal", lambda _connection: begun.set())
    writer.note(0)
    writer._wake.set()
    assert begun.wait(5)


def test_in_an_outage_much_is_tried_once_in_a_while(
    writer: Numbers, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[Batch[int, None]] = []

    def fail(batch: Batch[int, None]) -> None:
        tried.append(batch)
        raise OperationalError("gone")

    monkeypatch.setattr(writer, "write", fail)
    writer.note(*range(1, 201))  # twice its capacity
    writer._wake.set()
    time.sleep(1)
    assert tried == [[(1, None)]]
    assert writer.waiting() == 200
    monkeypatch.undo()
    writer._finish()
    assert writer.written == list(range(1, 201))


def test_an_end_does_not_wait_for_the_pace_and_loses_nothing(at_work: Numbers) -> None:
    began = time.monotonic()
    at_work._finish()
    assert time.monotonic() - began < 5
    assert at_work.written == list(range(50, -1, -1))
    assert at_work.noted == []
    assert at_work._thread is not None
    assert not at_work._thread.is_alive()


@pytest.mark.parametrize("run", [1, 2, 10])
def test_sqlite_gets_what_was_collected_in_order_and_postgresql_as_it_came(
    monkeypatch: pytest.MonkeyPatch, run: int
) -> None:
    monkeypatch.setattr(write_behind, "RUN", run)
    collected = {3: "c", 1: "a", 2: "b"}
    ordered = Batches(dict(collected), 2, order=itemgetter(0))
    as_they_came = [[(2, "b"), (1, "a")], [(3, "c")]]
    assert length_hint(ordered) == 2
    first = next(ordered)
    assert length_hint(ordered) == 1
    if connection.vendor == "sqlite":
        assert [first, *ordered] == [[(1, "a"), (2, "b")], [(3, "c")]]
    else:
        assert [first, *ordered] == as_they_came
    assert length_hint(ordered) == 0
    assert list(Batches(collected, 2)) == as_they_came
    assert not collected
    assert not list(Batches({}, 2, order=itemgetter(0)))


@pytest.fixture
def log(tmp_path: Path) -> Iterator[tuple[DatabaseWrapper, Path]]:
    """Return a connection to an SQLite file, and the write-ahead log that it wrote to."""
    file = tmp_path / "registry.sqlite3"
    connection = DatabaseWrapper({**connections.settings["default"], **SQLITE, "NAME": str(file)})
    connection.inc_thread_sharing()
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("CREATE TABLE numbers AS VALUES (1), (2)")
    yield connection, file.with_name(f"{file.name}-wal")
    connection.close()


def test_a_log_that_nobody_reads_begins_anew(log: tuple[DatabaseWrapper, Path]) -> None:
    connection, file = log
    assert file.stat().st_size > 0
    truncate_wal(connection)
    assert file.stat().st_size == 0


@pytest.mark.parametrize("most", [0, 1000])
def test_a_log_that_is_read_stays_and_keeps_nobody_waiting(
    most: int,
    log: tuple[DatabaseWrapper, Path],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    connection, file = log
    monkeypatch.setattr(write_behind, "MAX_WAL_PAGES", most)
    with closing(sqlite3.connect(file.parent / "registry.sqlite3")) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM numbers").fetchone()
        began = time.monotonic()
        truncate_wal(connection)
        assert time.monotonic() - began < 1
    assert file.stat().st_size > 0
    assert ("cannot begin again" in caplog.text) == (most == 0)  # and else grew without a word
