"""Writing behind the requests: in bulk, by one thread of each process, every few seconds.

What is noted between two writes is lost with the process that noted it, and nothing else is.
"""

import threading
from multiprocessing.util import Finalize

from django.conf import settings
from django.db import connection


class Writer:
    """Collects notes from request threads; a thread of its own writes them.

    Subclasses note under `_lock`, call `_start` once there is something to write, and write it in
    `flush`, which must not raise.
    """

    name: str  # of the thread

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._ended = False
        self._writer: threading.Thread | None = None

    def flush(self) -> None:
        """Write what was noted until now."""
        raise NotImplementedError

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
        while True:
            self._wake.wait(settings.EVIDENCE_INTERVAL)
            self._wake.clear()
            if self._ended:
                return
            self.flush()
            connection.close()

    def _hurry(self) -> None:
        """Have the thread write now."""
        self._wake.set()

    def _finish(self) -> None:
        self._ended = True
        self._wake.set()
        if self._writer is not None:
            self._writer.join(timeout=1)
        self.flush()
        connection.close()
