"""Attempts at other hosts, made behind the requests: many at once, few at each host.

What is to be attempted are rows of the database. One thread asks for them, whichever one calls
`run`; the connections live in an event loop in a thread of its own.
"""

import asyncio
import logging
import queue
import ssl
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from django.db import Error, connection

from devices.database import names
from devices.database.outages import OutageLog

MAX_REST = 60.0  # seconds that a host which fails is left alone
MAX_SILENCE = 60.0  # seconds between lines of the log about one outage
PAUSE = 1.0  # seconds after which a thread goes on that failed, or found nothing to do

Attempt = TypeVar("Attempt")
log = logging.getLogger(__name__)


def tls_context(authorities: str = "") -> ssl.SSLContext:
    """Return how a host's certificate is checked: by authorities in PEM, or the system's.

    Python 3.13 changed what it checks unless told otherwise. All versions do the same here: a
    certificate without key identifiers, as many private authorities issue it, is not refused for
    that, and an intermediate authority can be trusted without its root.
    """
    context = ssl.create_default_context(cadata=authorities or None)
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


class EventLoop(asyncio.SelectorEventLoop):
    """Has names looked up as elsewhere: a name that hangs holds up no other host."""

    async def getaddrinfo(self, host: Any, port: Any, **options: Any) -> list[Any]:
        lookup = names.begin(host, port, **options)
        return await asyncio.shield(asyncio.wrap_future(lookup, loop=self))


@dataclass(slots=True)
class Load:
    """What a process knows of one host: how much is under way, and whether it fails."""

    running: int = 0
    failures: int = 0  # one after the other
    rests_until: float = 0.0  # monotonic

    def capacity(self, at_once: int) -> int:
        """Return how many attempts may begin now; one at a time where the last one failed."""
        if self.rests_until > time.monotonic():
            return 0
        return max(0, (1 if self.failures else at_once) - self.running)

    def note(self, *, failed: bool) -> None:
        """Count an attempt that is over; a host that fails rests, ever longer."""
        self.running -= 1
        self.failures = self.failures + 1 if failed else 0
        rest = min(2.0 ** min(self.failures - 2, 10), MAX_REST) if failed else 0.0
        self.rests_until = time.monotonic() + rest


class BackgroundThread:
    """Works in a thread of its process; subclasses say what is to be done (`run`)."""

    name: str  # of the thread

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def run(self, done: Callable[[], bool], seconds: float = float("inf")) -> bool:
        """Work in this thread until `done`, or for so long; return whether it is done."""
        raise NotImplementedError

    def serve(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self.run_for_ever, name=self.name, daemon=True
                )
                self._thread.start()

    def run_for_ever(self, done: Callable[[], bool] = lambda: False) -> None:
        """Work until `done`, whatever fails meanwhile; an outage is told once a minute."""
        outages = OutageLog(log, MAX_SILENCE)
        while not done():
            try:
                self.run(done)
            except Error as error:
                outages.note(f"{self.name} cannot go on now", error)
            except Exception:  # whatever it is, the thread must go on
                log.exception("%s failed", self.name)
            connection.close()
            if not done():
                time.sleep(PAUSE)


class Worker(BackgroundThread, Generic[Attempt]):
    """Makes attempts; subclasses say which (`run`), how (`attempt`), and at which host."""

    def __init__(self) -> None:
        super().__init__()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._connections: threading.Thread | None = None  # where the loop runs
        self._done: queue.SimpleQueue[Attempt | None] = queue.SimpleQueue()  # None: look for work
        self._loads: defaultdict[int, Load] = defaultdict(Load)  # by the host's primary key

    async def attempt(self, attempt: Attempt) -> None:
        """Make an attempt, and put it into `_done`."""
        raise NotImplementedError

    def host_of(self, attempt: Attempt) -> int:
        """Return the primary key of the host that an attempt is at."""
        raise NotImplementedError

    def has_failed(self, attempt: Attempt) -> bool:
        """Whether an attempt that is over counts as a failure of its host."""
        raise NotImplementedError

    def begin(self, attempt: Attempt) -> None:
        """Have an attempt made in the event loop."""
        self._loads[self.host_of(attempt)].running += 1
        asyncio.run_coroutine_threadsafe(self.attempt(attempt), self._event_loop())

    def finished(self, seconds: float, *, gather: float = 0.0) -> list[Attempt]:
        """Return the attempts that are over; wait for the first, and `gather` for others."""
        finished: list[Attempt] = []
        try:
            found = self._done.get(timeout=seconds)
            if found is not None:
                time.sleep(gather)
            while True:
                if found is not None:
                    finished.append(found)
                found = self._done.get_nowait()
        except queue.Empty:
            pass
        for attempt in finished:
            self._loads[self.host_of(attempt)].note(failed=self.has_failed(attempt))
        return finished

    def _event_loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = EventLoop()
            self._connections = threading.Thread(
                target=self._loop.run_forever, name=f"{self.name}-connections", daemon=True
            )
            self._connections.start()
        return self._loop

    def end_loop(self) -> None:
        if self._loop is not None and self._connections is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._connections.join()
            self._loop.close()
            self._loop = self._connections = None
