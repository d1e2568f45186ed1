"""Write behind the requests: in batches, by one thread of each process.

A crash loses what its process collected since the last write, and nothing else.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from multiprocessing.util import Finalize
from typing import Any, Generic, TypeVar

from django.conf import settings
from django.db import Error, InterfaceError, OperationalError, connection
from django.db.backends.base.base import BaseDatabaseWrapper

from devices.database.deadlines import guard
from devices.database.outages import OutageLog

WAL_WAIT = 100  # milliseconds that a truncation waits for readers
STATEMENT_SECONDS = 30.0  # after which the connection of a database that stands still is given up
READ_ONLY = "25006"  # SQLSTATE of a server that became, or still is, a standby

Batch = TypeVar("Batch")
Name = TypeVar("Name")
Record = TypeVar("Record")

log = logging.getLogger(__name__)
outages = OutageLog(log)


class WriteBehindWorker(Generic[Batch]):
    """Collects records from request threads; a thread of its own writes them.

    Subclasses collect under `_lock`, call `_start` once there is something to write, and say what a
    batch is and how one is written. What was collected in EVIDENCE_INTERVAL seconds is written
    evenly over the next ones, or sooner, the more is collected meanwhile: written at once, it would
    keep requests waiting for the interpreter and for the database. The thread ends with the process
    and never before: whatever fails is logged and tried again.
    """

    name: str  # of the thread
    capacity: int  # rows; once so many wait, it writes without pauses

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._ended = False
        self._thread: threading.Thread | None = None

    def waiting(self) -> int:
        """Return how many rows wait to be written."""
        raise NotImplementedError

    def drain(self) -> Iterable[Batch]:
        """Return what was collected until now, and forget it."""
        raise NotImplementedError

    def requeue(self, batches: Sequence[Batch]) -> None:
        """Collect again what was not written; what was collected since is newer."""
        raise NotImplementedError

    def write(self, batch: Batch) -> None:
        """Write one batch, in one short transaction."""
        raise NotImplementedError

    def flush(self) -> None:
        """Write what was collected until now; what the database cannot take waits."""
        for _ in self._batches_written():
            pass

    def _batches_written(self) -> Iterator[int]:
        """Write batch after batch; yield how many are left, which are kept if it ends there."""
        waiting = deque(self.drain())
        try:
            while waiting:
                try:
                    self.write(waiting[0])
                except Exception as error:
                    if cannot_write(error):
                        outages.note(
                            f"{self.name}: {len(waiting)} batches wait for the database", error
                        )
                        return
                    log.exception("%s: a batch was not written", self.name)
                waiting.popleft()
                yield len(waiting)
        finally:
            self.requeue(waiting)

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
        end = time.monotonic() + settings.EVIDENCE_INTERVAL
        while not self._ended:
            self._wake.wait(max(0.0, end - time.monotonic()))
            self._wake.clear()
            end = time.monotonic() + settings.EVIDENCE_INTERVAL
            try:
                self._write_until(end)
            except Exception:
                log.exception("%s: it goes on in %d s", self.name, settings.EVIDENCE_INTERVAL)

    def _write_until(self, end: float) -> None:
        """Write what was collected, spread over the time until then at most."""
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

    def _hurry(self) -> None:
        """End a pause of the thread."""
        self._wake.set()

    def _finish(self) -> None:
        self._ended = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout=1)
        self.flush()
        connection.close()


def cannot_write(error: Exception) -> bool:
    """Whether nothing can be written now: no server, or a standby that only reads."""
    if isinstance(error, OperationalError | InterfaceError):
        return True
    return getattr(error.__cause__, "sqlstate", None) == READ_ONLY


def in_batches(
    collected: Mapping[Name, Record], size: int, order: Callable[[Name], Any] | None = None
) -> list[list[tuple[Name, Record]]]:
    """Return what was collected in parts of at most `size` entries.

    SQLite gets them in that order, if there is one: it writes whole pages, so rows that lie
    together cost a third to a half when they are written together. PostgreSQL gets them as they
    came: it keeps the newer version of a row in its page, where few rows of one page are written
    at once, and then leaves the indexes alone.
    """
    entries = list(collected.items())
    if order and connection.vendor == "sqlite":
        entries.sort(key=lambda entry: order(entry[0]))
    return [entries[start : start + size] for start in range(0, len(entries), size)]


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
