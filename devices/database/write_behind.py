"""Write behind the requests: in batches, by one thread of each process.

A crash loses what its process collected since the last write, and nothing else.
"""

import logging
import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import suppress
from heapq import merge
from itertools import chain, islice
from multiprocessing.util import Finalize
from operator import length_hint
from typing import Any, Generic, TypeVar

from django.conf import settings
from django.db import Error, InterfaceError, OperationalError, connection
from django.db.backends.base.base import BaseDatabaseWrapper

from devices.database.deadlines import guard
from devices.database.outages import OutageLog

RUN = 250  # entries that are sorted at once, while requests wait for the interpreter
PAUSE = 0.002  # seconds between two of them
WAL_WAIT = 100  # milliseconds that a truncation waits for readers
MAX_WAL_PAGES = 25_000  # of SQLite's log, some 100 MB; who keeps it from beginning again is told
STATEMENT_SECONDS = 30.0  # after which the connection of a database that stands still is given up
READ_ONLY = "25006"  # SQLSTATE of a server that became, or still is, a standby

Name = TypeVar("Name")
Record = TypeVar("Record")
Entry = TypeVar("Entry")
Batch = list[tuple[Name, Record]]

log = logging.getLogger(__name__)
outages = OutageLog(log)


class WriteBehindWorker(Generic[Name, Record]):
    """Collects one record under each name, the newest one; a thread of its own writes them.

    Subclasses collect under `_lock`, call `_start` once there is something to write, and say how a
    batch is written. What was collected in EVIDENCE_INTERVAL seconds is written
    evenly over the next ones, or sooner, the more is collected meanwhile: written at once, it would
    keep requests waiting for the interpreter and for the database. The thread ends with the process
    and never before: whatever fails is logged and tried again.
    """

    name: str  # of the thread
    capacity = math.inf  # rows; once so many wait, it writes without pauses
    batch_rows = 200

    def __init__(self) -> None:
        self._collected: dict[Name, Record] = {}
        self._lock = threading.Lock()
        self._wake = threading.Event()  # ends a pause of the thread
        self._ended = False
        self._thread: threading.Thread | None = None

    def waiting(self) -> int:
        return len(self._collected)

    def order(self, entry: tuple[Name, Record]) -> Any:
        """Return what SQLite gets entries sorted by (`Batches`)."""
        return entry[0]

    def drain(self) -> Iterable[Batch[Name, Record]]:
        """Return what was collected until now, and forget it.

        Batches are made one by one, and a length hint tells how many are left.
        """
        with self._lock:
            collected, self._collected = self._collected, {}
        return Batches(collected, self.batch_rows, self.order, self._pause)

    def requeue(self, batches: Iterable[Batch[Name, Record]]) -> None:
        """Collect again what was not written; what was collected since is newer."""
        with self._lock:
            self._collected = dict(chain.from_iterable(batches)) | self._collected

    def write(self, batch: Batch[Name, Record]) -> None:
        """Write one batch, in one short transaction."""
        raise NotImplementedError

    def flush(self) -> None:
        """Write what was collected until now; what the database cannot take waits."""
        for _ in self._batches_written():
            pass

    def _batches_written(self) -> Iterator[int]:
        """Write batch after batch; yield how many are left, which are kept if it ends there."""
        unwritten: list[Batch[Name, Record]] = []
        batches = iter(self.drain())
        try:
            for batch in batches:
                left = length_hint(batches)
                try:
                    self.write(batch)
                except Exception as error:
                    if cannot_write(error):
                        unwritten.append(batch)
                        outages.note(
                            f"{self.name}: {left + 1} batches wait for the database", error
                        )
                        return
                    log.exception("%s: a batch was not written", self.name)
                yield left
        finally:
            self.requeue(chain(unwritten, batches))

    def _start(self) -> None:
        """Have the thread run; there is none where EVIDENCE_INTERVAL is 0."""
        if self._thread is not None or not settings.EVIDENCE_INTERVAL:
            return
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
                self._thread.start()
                # Unlike atexit, this runs in a server's forked workers, too.
                Finalize(None, self._finish, exitpriority=0)

    def _run(self) -> None:
        end, is_all_written = time.monotonic() + settings.EVIDENCE_INTERVAL, False
        while not self._ended:
            if not is_all_written or self.waiting() < self.capacity / 2:
                self._wake.wait(max(0.0, end - time.monotonic()))
            self._wake.clear()
            if self._ended:
                return
            end, is_all_written = time.monotonic() + settings.EVIDENCE_INTERVAL, False
            try:
                is_all_written = self._write_until(end)
            except Exception:
                log.exception("%s: it goes on in %d s", self.name, settings.EVIDENCE_INTERVAL)

    def _write_until(self, end: float) -> bool:
        """Write what was collected, spread over the time until then at most; whether all of it."""
        left = 1
        try:
            with connection.execute_wrapper(guard(STATEMENT_SECONDS)):
                for left in self._batches_written():
                    if self._ended:
                        break
                    if left:
                        sooner = settings.EVIDENCE_INTERVAL * self.waiting() / self.capacity
                        self._wake.wait(max(0.0, end - sooner - time.monotonic()) / (left + 1))
                        self._wake.clear()
            truncate_wal(connection)
        finally:
            connection.close()
        return not left

    def _pause(self, seconds: float) -> bool:
        """Leave the interpreter to requests; whether the thread has no more time, since it ends."""
        self._wake.wait(seconds)
        return self._ended and threading.current_thread() is self._thread

    def _finish(self) -> None:
        self._ended = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout=1)
        self._wake.set()  # for no pauses
        self.flush()
        connection.close()


def cannot_write(error: Exception) -> bool:
    """Whether nothing can be written now: no server, or a standby that only reads."""
    if isinstance(error, OperationalError | InterfaceError):
        return True
    return getattr(error.__cause__, "sqlstate", None) == READ_ONLY


class Batches(Iterator[Batch[Name, Record]]):
    """What was collected, in parts of at most `size` entries; the dictionary is emptied.

    Parts are made, and entries forgotten, one by one: requests wait for the interpreter meanwhile.
    SQLite gets entries in their `order`, if there is one: it writes whole pages, so rows that lie
    together cost a third to a half when they are written together. PostgreSQL gets them as they
    came, the last ones first: it keeps the newer version of a row in its page, where few rows of
    one page are written at once, and then leaves the indexes alone. `pause` waits between two
    steps; where it says that there is no time, the rest stays as it came.
    """

    def __init__(
        self,
        collected: dict[Name, Record],
        size: int,
        order: Callable[[tuple[Name, Record]], Any] | None = None,
        pause: Callable[[float], bool | None] = time.sleep,
    ) -> None:
        self._size, self._left = size, len(collected)
        self._entries = came = _emptied(collected, collected.popitem)
        if order and connection.vendor == "sqlite":
            runs: list[Batch[Name, Record]] = []
            while run := sorted(islice(came, RUN), key=order, reverse=True):
                runs.append(run)
                if pause(PAUSE):
                    break
            in_order = merge(*(_emptied(run, run.pop) for run in runs), key=order)
            self._entries = chain(in_order, came)

    def __next__(self) -> Batch[Name, Record]:
        batch = list(islice(self._entries, self._size))
        if not batch:
            raise StopIteration
        self._left -= len(batch)
        return batch

    def __length_hint__(self) -> int:
        return math.ceil(self._left / self._size)


def _emptied(entries: Sized, pop: Callable[[], Entry]) -> Iterator[Entry]:
    while entries:
        yield pop()


def truncate_wal(connection: BaseDatabaseWrapper) -> None:
    """Have SQLite begin its write-ahead log again, if its readers allow that at once.

    SQLite's own checkpoints copy the log but never wait: while something is always read, as under
    load, they find no moment to begin again, and the file grows by all that is written.
    """
    if connection.vendor != "sqlite":
        return
    with suppress(Error), connection.cursor() as cursor:
        cursor.execute(f"PRAGMA busy_timeout = {WAL_WAIT}")  # other writers wait meanwhile
        cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        is_busy, pages, _copied = cursor.fetchone()
        if is_busy and pages > MAX_WAL_PAGES:
            log.warning(
                "the write-ahead log of SQLite has %d pages and cannot begin again: some program "
                "reads the database in one transaction for long, which must end",
                pages,
            )
