"""Whoever sends slowly keeps a thread waiting, but nothing that others need.

The server gives each request a thread, which waits for the body for as long as its sender likes.
Threads that wait are cheap and many; what is scarce is a place to work: a database connection and a
share of the processor. A request has one while it is worked on and leaves it while it waits.
"""

import io
from queue import SimpleQueue
from typing import Protocol

from django.db import DEFAULT_DB_ALIAS, connections
from django.db.backends.base.base import BaseDatabaseWrapper


class Stream(Protocol):
    """What a WSGI server reads a body from."""

    def read(self, size: int, /) -> bytes: ...


class Places:
    """Where a process works on requests, THREADS at once: each is a database connection."""

    def __init__(self, count: int) -> None:
        self._free: SimpleQueue[BaseDatabaseWrapper] = SimpleQueue()
        for _ in range(count):
            place = connections.create_connection(DEFAULT_DB_ALIAS)
            place.inc_thread_sharing()  # by one thread after another
            self._free.put(place)

    def take(self) -> BaseDatabaseWrapper:
        """Wait for a place and let this thread's queries use its connection, which is returned."""
        place = connections[DEFAULT_DB_ALIAS] = self._free.get()
        return place

    def leave(self, place: BaseDatabaseWrapper) -> None:
        """Let another thread have this one's place."""
        del connections[DEFAULT_DB_ALIAS]
        self._free.put(place)


class Body(io.IOBase):
    """A request's `wsgi.input`: whoever waits for it has no place meanwhile."""

    def __init__(self, stream: Stream, places: Places) -> None:
        self._stream = stream
        self._places = places
        self.place = places.take()

    def read(self, size: int) -> bytes:
        """Return the next `size` bytes; fewer only where the body ends."""
        if self.place.in_atomic_block:
            return self._stream.read(size)
        self._places.leave(self.place)
        try:
            return self._stream.read(size)
        finally:
            self.place = self._places.take()

    def leave(self) -> None:
        """Let another thread have the place; nothing is read afterwards."""
        self._places.leave(self.place)
