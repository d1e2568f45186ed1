"""Writing behind the requests: in batches, by one thread of each process.

What is noted between two writes is lost with the process that noted it, and nothing else is.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from multiprocessing.util import Finalize
from typing import Generic, TypeVar

from django.conf import settings
from django.db import Error, InterfaceError, OperationalError, connection
from django.db.backends.base.base import BaseDatabaseWrapper

PATIENCE = 100  # milliseconds

Batch = TypeVar("Batch")
Name = TypeVar("Name")
Note = TypeVar("Note")

log = logging.getLogger(__name__)


class Writer(Generic[Batch]):
    """Collects notes from request threads; a thread of its own writes them.

    Subclasses note under `_lock`, call `_start` once there is something to write, and say what a
    batch is and how one is written. What was noted in EVIDENCE_INTERVAL seconds is written evenly
    over the next ones: written at once, it would keep requests waiting for the interpreter and
    for the database.
    """

    name: str  # of the thread

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._ended = False
        self._writer: threading.Thread | None = None

    def take(self) -> Iterable[Batch]:
        """Return what was noted until now, and forget it."""
        raise NotImplementedError

    def requeue(self, batches: Sequence[Batch]) -> None:
        """Note again what was not written; what was noted since is newer."""
        raise NotImplementedError

    def write(self, batch: Batch) -> None:
        """Write one batch, in one short transaction."""
        raise NotImplementedError

    def flush(self) -> None:
        """Write what was noted until now; what the database cannot take waits for the next time."""
        for _ in self._batches_written():
            pass

    def _batches_written(self) -> Iterator[int]:
        """Write batch after batch; yield how many are left, which stay noted if it ends there."""
        waiting = deque(self.take())
        try:
            while waiting:
                try:
                    self.write(waiting[0])
                except (OperationalError, InterfaceError):
                    log.exception("%s: %d batches wait for the database", self.name, len(waiting))
                    return
                except Exception:  # whatever it is, the thread that writes must go on
                    log.exception("%s: a batch was not written", self.name)
                waiting.popleft()
                yield len(waiting)
        finally:
            self.requeue(waiting)

    def _start(self) -> None:
        """Have the thread run; there is none where EVIDENCE_INTERVAL is 0."""
        if self._writer is not None or not settings.EVIDENCE_INTERVAL:
            return
        with self._lock:
            if self._writer is None:
                self._writer = threading.Thread(target=self._run, name=self.name, daemon=True)
                self._writer.start()
                # Unlike atexit, this runs in a server's forked workers, too.
                Finalize(None, self._finish, exitpriority=0)

    def _run(self) -> None:
        interval = settings.EVIDENCE_INTERVAL
        end = time.monotonic() + interval
        while True:
            self._wake.wait(max(0.0, end - time.monotonic()))
            self._wake.clear()
            if self._ended:
                return
            end = time.monotonic() + interval
            for left in self._batches_written():
                if left:
                    self._wake.wait(max(0.0, end - time.monotonic()) / (left + 1))
                if self._ended:
                    break
            truncate_wal(connection)
            connection.close()

    def _hurry(self) -> None:
        """Have the thread write now; what it is writing, without further pauses."""
        self._wake.set()

    def _finish(self) -> None:
        self._ended = True
        self._wake.set()
        if self._writer is not None:
            self._writer.join(timeout=1)
        self.flush()
        connection.close()


def in_batches(noted: Mapping[Name, Note], size: int) -> list[dict[Name, Note]]:
    """Return what was noted in parts of at most `size` entries."""
    entries = list(noted.items())
    return [dict(entries[start : start + size]) for start in range(0, len(entries), size)]


def truncate_wal(connection: BaseDatabaseWrapper) -> None:
    """Have SQLite begin its write-ahead log anew, if its readers allow that at once.

    SQLite's own checkpoints copy the log but never wait: while something is always read, as under
    load, they find no moment to begin anew, and the file grows by all that is written.
    """
    if connection.vendor != "sqlite":
        return
    with suppress(Error), connection.cursor() as cursor:
        cursor.execute(f"PRAGMA busy_timeout = {PATIENCE}")  # other writers wait meanwhile
        cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
