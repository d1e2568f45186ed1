"""Say that the database cannot be asked: in one line, and not once for each request."""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class OutageLog:
    """Writes one line in `every` seconds at most; the next one says how many it stands for."""

    every = 1.0

    def __init__(self, log: logging.Logger, every: float | None = None) -> None:
        self._log = log
        if every is not None:
            self.every = every
        self._lock = threading.Lock()
        self._next = 0.0
        self._unsaid = 0

    @contextmanager
    def noting(self, what: str) -> Iterator[None]:
        """Note that `what` failed, whatever is raised within the block, and go on after it."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - whatever a cache raises
            self.note(what, error)

    def note(self, what: str, error: BaseException) -> None:
        """Say that `what` failed, and why, without a traceback."""
        with self._lock:
            now = time.monotonic()
            if now < self._next:
                self._unsaid += 1
                return
            self._next, unsaid, self._unsaid = now + self.every, self._unsaid, 0
        reason = " ".join(str(error).split()) or type(error).__name__
        more = f" ({unsaid} more since the last line)" if unsaid else ""
        self._log.error("%s: %s: %s%s", what, type(error).__name__, reason, more)
