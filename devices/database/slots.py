"""Bound how many requests are worked on at once, and how long one waits for that.

The server gives each request a thread, which waits for a body, or for the turn of a guess, for as
long as that takes. Threads that wait are cheap and many; what is scarce is a database connection
and a share of the processor. A slot is both. Machines and staff have slots of their own, so that
pages that hang take none from verifications. (docs/waiting.md)
"""

import copy
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from math import inf
from queue import Empty, SimpleQueue
from typing import Any

from django.db import DEFAULT_DB_ALIAS, OperationalError, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from devices import telemetry
from devices.database import deadlines, drivers
from devices.database.deadlines import SECONDS, guard

SLOTS = "authsite.slots"  # where in a request's environment its slots are

_held = threading.local()

Slot = list[BaseDatabaseWrapper]


class NoSlotError(OperationalError):
    """All slots stayed taken for as long as a request may wait for one."""


class Slots:
    """A pool of slots; `with slots:` holds one of them for the thread.

    A slot is a connection to each of the databases in `aliases`. `max_wait` is in seconds, and so
    is `deadline`, of each statement that Django's cursors run. `session` are PostgreSQL settings of
    the connections, given when they are opened.
    """

    def __init__(
        self,
        count: int,
        *,
        max_wait: float,
        deadline: float = SECONDS,
        session: Mapping[str, str | int] | None = None,
        aliases: Sequence[str] = (DEFAULT_DB_ALIAS,),
    ) -> None:
        self._max_wait = max_wait
        self._aliases = aliases
        self._session = session
        self._deadline = deadline
        self._guards = ExitStack()  # for good: what nothing holds on to ends at once
        self._free: SimpleQueue[Slot] = SimpleQueue()
        for _ in range(count):
            self._free.put([self.another(alias) for alias in aliases])

    def another(self, alias: str) -> BaseDatabaseWrapper:
        """Return one more connection as the slots have them, not opened yet."""
        own = connections[alias]
        del connections[alias]  # so that the next look-up makes another one
        connection, connections[alias] = connections[alias], own
        self._guards.enter_context(connection.execute_wrapper(guard(self._deadline)))
        connection.inc_thread_sharing()  # by one thread after another
        if self._session and connection.vendor == "postgresql":
            connection.settings_dict = with_session(connection.settings_dict, self._session)
        return connection

    def acquire(self) -> None:
        """Wait for a slot and let this thread's queries use its connections."""
        try:
            slot = self._free.get_nowait()
        except Empty:
            slot = self._wait()
        for alias, connection in zip(self._aliases, slot, strict=True):
            connections[alias] = connection
            if deadlines.overdue and _is_overdue(connection):
                connection.close()  # each would be found out by a request of its own
        _held.slots = self

    def _wait(self) -> Slot:
        began = time.monotonic()
        try:
            slot = self._free.get(timeout=self._max_wait)
        except Empty:
            telemetry.listener.turned_away("slot")
            raise NoSlotError("too many requests are worked on at once") from None
        telemetry.listener.waited("slot", time.monotonic() - began)
        return slot

    def release(self) -> None:
        """Let another thread have the slot of this one."""
        slot = [connections[alias] for alias in self._aliases]
        for alias in self._aliases:
            del connections[alias]
        _held.slots = None
        self._free.put(slot)

    def has(self, alias: str) -> bool:
        """Whether each slot has a connection to that database."""
        return alias in self._aliases

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *_error: object) -> None:
        if held() is self:
            for alias in self._aliases:
                if drivers.is_lost(connections[alias]):
                    connections[alias].close()
            self.release()


@contextmanager
def released() -> Iterator[None]:
    """Give the slot of this thread, if it has one, to others for as long as the block waits."""
    slots = held()
    if slots is None or connections[DEFAULT_DB_ALIAS].in_atomic_block:
        yield
        return
    slots.release()
    try:
        yield
    finally:
        slots.acquire()


def held() -> Slots | None:
    """Return the slots that this thread holds one of, if it does."""
    slots: Slots | None = getattr(_held, "slots", None)
    return slots


def _is_overdue(connection: BaseDatabaseWrapper) -> bool:
    """Whether it leads to a server that has not answered in time since it was opened."""
    since = deadlines.overdue.get(getattr(connection, "server", ("", 0)), 0.0)
    return getattr(connection, "opened", inf) < since


def session_options(config: Mapping[str, Any]) -> str:
    """Return what an operator has sessions of a PostgreSQL begin with, as libpq finds it."""
    return str(config["OPTIONS"].get("options", os.environ.get("PGOPTIONS", "")))


def with_session(config: Mapping[str, Any], session: Mapping[str, str | int]) -> dict[str, Any]:
    """Return the settings of a PostgreSQL with what its sessions begin with, too."""
    changed = copy.deepcopy(dict(config))
    words = [session_options(config)]
    words += [f"-c {name}={value}" for name, value in session.items()]
    changed["OPTIONS"]["options"] = " ".join(filter(None, words))
    return changed
