"""Waiting for events without a database connection, a slot, or a statement of one's own.

One thread of each process looks for new events while somebody waits, every EVERY seconds, and
wakes all who do. A look costs three short statements, however many wait. Who waits has a thread of
the server's, so that only EVENT_WAITERS may. (docs/waiting.md)
"""

import logging
import threading
import time
from collections.abc import Callable

from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection

from devices.database.deadlines import guard
from devices.database.outages import OutageLog
from devices.events import stream

EVERY = 0.04  # seconds between two looks
LINGER = 2.0  # seconds that the thread goes on when nobody waits any more
STATEMENT_SECONDS = 2.0

log = logging.getLogger(__name__)
outages = OutageLog(log)


class TooManyError(Exception):
    """As many wait as may."""


class Watcher:
    """Looks for new events while somebody waits. One a process."""

    def __init__(self, is_stopping: Callable[[], bool] = lambda: False) -> None:
        self.is_stopping = is_stopping  # whether the server was told to stop: nobody waits then
        self._changed = threading.Condition()
        self._position: int | None = None  # of the last event, as of the last look
        self._waiting = 0
        self._has_stopped = False
        self._thread: threading.Thread | None = None

    def wait(self, beyond: int, seconds: float) -> bool:
        """Wait until there are events beyond a position; return whether there are.

        Raises TooManyError where EVENT_WAITERS wait already.
        """
        deadline = time.monotonic() + seconds
        with self._changed:
            if self._waiting >= settings.EVENT_WAITERS:
                raise TooManyError
            self._waiting += 1
            try:
                self._start()
                while not self._has_stopped and not self._is_beyond(beyond):
                    left = deadline - time.monotonic()
                    if left <= 0:
                        break
                    self._changed.wait(left)
                return self._is_beyond(beyond)
            finally:
                self._waiting -= 1

    def _is_beyond(self, position: int) -> bool:
        return self._position is not None and self._position > position

    def _start(self) -> None:
        if self._thread is None or not self._thread.is_alive():
            self._position = None
            self._thread = threading.Thread(target=self._run, name="events", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        idle_since = time.monotonic()
        try:
            while True:
                position, stops = self._look(), self.is_stopping()
                with self._changed:
                    self._position = position
                    self._has_stopped = stops
                    self._changed.notify_all()
                    if self._waiting:
                        idle_since = time.monotonic()
                    elif stops or time.monotonic() - idle_since > LINGER:
                        self._thread = None
                        return
                time.sleep(EVERY)
        finally:
            connection.close()

    def _look(self) -> int | None:
        """Number what is committed, and return the last position; None where nobody answers."""
        try:
            with connection.execute_wrapper(guard(STATEMENT_SECONDS)):
                stream.number()
                return stream.head()
        except (DatabaseError, InterfaceError) as error:
            outages.note("events cannot be looked for", error)
            connection.close()
            return None


watcher = Watcher()
