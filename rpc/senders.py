"""Bodies of slow senders: waiting for them must not take the threads from everyone else.

A process has few threads, and the server lets each wait for a body for as long as its sender
likes. So half of them may wait like that. Whoever comes to read beyond these has a thread waited
for him that nothing else needs, and gives up on it soon: that thread costs memory only, and ends
with its sender's connection.
"""

import io
import logging
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import Protocol

from django.conf import settings

PIECE = 4096  # bytes that a sender must get through in time, each again
ROUND = 0.05  # seconds; rounds are counted, not time: the process itself may have stood still
CROWDED_ROUNDS = 2  # that a sender gets while half of the threads or more wait for others
ROUNDS = 200  # that a sender gets at most

log = logging.getLogger(__name__)


class SenderTooSlow(OSError):
    """Others needed the thread that waited for this body."""


class Stream(Protocol):
    """What a WSGI server reads a body from."""

    def read(self, size: int, /) -> bytes: ...


class Crowd:
    """The threads of a process that wait for bodies."""

    def __init__(self) -> None:
        self._lock = Lock()
        self.stuck = 0  # threads that cannot give up

    def enter(self) -> bool:
        """Take a place among those who wait as long as it takes; False if there is none."""
        with self._lock:
            if self.is_full():
                return False
            self.stuck += 1
            return True

    def leave(self) -> None:
        """Give the place back."""
        with self._lock:
            self.stuck -= 1

    def is_full(self) -> bool:
        """Whether half of the threads wait for senders."""
        return self.stuck >= settings.THREADS // 2


crowd = Crowd()


class Body(io.IOBase):
    """A request's `wsgi.input` that gives up on a slow sender, with SenderTooSlow."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def read(self, size: int) -> bytes:
        """Return the next `size` bytes; fewer only where the body ends."""
        if not crowd.enter():
            return self._read_apart(size)
        try:
            return self._stream.read(size)
        finally:
            crowd.leave()

    def _read_apart(self, size: int) -> bytes:
        pieces = Pieces(self._stream, size)
        Thread(target=pieces.fetch, name="slow sender", daemon=True).start()
        body = bytearray()
        while len(body) < size:
            piece = pieces.next()
            body += piece
            if len(piece) < PIECE:
                break
        return bytes(body)


class Pieces:
    """A body that one thread fetches and another waits for."""

    def __init__(self, stream: Stream, size: int) -> None:
        self._stream = stream
        self._size = size
        self._fetched: SimpleQueue[bytes | OSError] = SimpleQueue()
        self._is_wanted = True

    def fetch(self) -> None:
        """Read all that is wanted; runs in a thread of its own."""
        for start in range(0, self._size, PIECE):
            if not self._is_wanted:
                return
            try:
                self._fetched.put(self._stream.read(min(PIECE, self._size - start)))
            except OSError as error:
                self._fetched.put(error)
                return

    def next(self) -> bytes:
        """Return the next piece; raises what reading raised, or SenderTooSlow."""
        for waited in range(1, ROUNDS + 1):
            try:
                piece = self._fetched.get(timeout=ROUND)
            except Empty:
                if waited >= CROWDED_ROUNDS and crowd.is_full():
                    break
            else:
                if isinstance(piece, OSError):
                    raise piece
                return piece
        self._is_wanted = False
        log.warning("gave up on a sender: too many are not done sending")
        raise SenderTooSlow
