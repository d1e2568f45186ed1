"""Bounding what wrong secrets can cost, before anything is hashed.

Failures are counted per entity, never per source address: every call comes from the one backend.
The count hangs on the identifier *and* the chosen keys it has, so that a new key starts afresh in
every process. Counts live in Django's cache: with a cache that all processes share they are exact,
with the local one each process counts alone. Unknown identifiers take the same way as known ones:
they wait for the same turn, and differ in neither work nor time.
"""

import hashlib
import hmac
import logging
import math
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from django.conf import settings
from django.core.cache import cache
from django.utils.translation import gettext as _

from devices import telemetry
from devices.credentials.hashing import encoded

FAILURES = 5  # wrong guesses at one entity before further ones are answered without hashing
WINDOW = 15 * 60  # seconds that a failure counts
REST = 1.0  # of the time that a hash took: how long a process hashes nothing after it
MAX_REST = 1.0  # seconds between two hashes, though the machine may have stood still
SLOT_WAIT = 0.25  # seconds that a guess waits for its turn to be hashed
MAX_WAITING = 4  # guesses that wait in one process; the next is refused at once
THREADS_LEFT = 3  # of a process for all else, where it has so many: who waits or hashes holds one
REMEMBERED = 50_000  # chosen secrets that one process remembers having verified

UNCOUNTED = "failures cannot be counted: guesses at chosen secrets are refused"

log = logging.getLogger(__name__)


class Remembered:
    """Chosen secrets that were verified by this process, so that they need no hash again.

    In memory only, as a digest keyed with a key of this process and bound to the stored digest:
    whatever changes the row voids the memory, and the row itself is read at every request.
    """

    def __init__(self, most: int = REMEMBERED) -> None:
        self._key = os.urandom(32)
        self._most = most
        self._verified: OrderedDict[str, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def _digest(self, stored: str, secret: str) -> bytes:
        return hmac.digest(self._key, stored.encode() + b"\x00" + encoded(secret), hashlib.sha256)

    def note(self, stored: str, secret: str) -> None:
        """Remember that `secret` matches the stored digest."""
        with self._lock:
            self._verified[stored] = self._digest(stored, secret)
            self._verified.move_to_end(stored)
            while len(self._verified) > self._most:
                self._verified.popitem(last=False)

    def recalls(self, stored: str, secret: str) -> bool:
        """Whether `secret` was verified before against exactly this stored digest."""
        known = self._verified.get(stored)
        return known is not None and hmac.compare_digest(known, self._digest(stored, secret))


class HashingSlot:
    """One memory-hard hash at a time in this process, and then a rest: `rest` times as long.

    So a process spends at most a half (a quarter) of one core on guesses for a rest of 1 (of 3).
    """

    def __init__(self, rest: float = REST) -> None:
        self._rest = rest
        self._turn = threading.Lock()
        self._counter = threading.Lock()
        self._waiting = 0
        self._rest_until = 0.0

    @contextmanager
    def held(self) -> Iterator[bool]:
        """Yield whether the caller may hash now, after a short wait where there is one."""
        if not self._take():
            yield False
            return
        started = time.monotonic()
        try:
            yield True
        finally:
            ended = time.monotonic()
            self._rest_until = ended + min(self._rest * (ended - started), MAX_REST)
            self._turn.release()

    def _take(self) -> bool:
        if time.monotonic() >= _deadline.get():
            return False
        if self._take_at_once():
            return True
        began = time.monotonic()
        if not self._take_after_a_wait():
            telemetry.listener.turned_away("hash")
            return False
        telemetry.listener.waited("hash", time.monotonic() - began)
        return True

    def _take_at_once(self) -> bool:
        if not self._turn.acquire(blocking=False):
            return False
        if time.monotonic() >= self._rest_until:
            return True
        self._turn.release()
        return False

    def _take_after_a_wait(self) -> bool:
        with self._counter:
            if self._waiting >= min(MAX_WAITING, settings.THREADS - 1 - THREADS_LEFT):
                return False
            self._waiting += 1
        try:
            if not self._turn.acquire(timeout=SLOT_WAIT):
                return False
            time.sleep(max(0.0, self._rest_until - time.monotonic()))
            return True
        finally:
            with self._counter:
                self._waiting -= 1


remembered = Remembered()
slot = HashingSlot()
caller_slot = HashingSlot(rest=3 * REST)  # apart: strangers must not take the devices' turns
_deadline: ContextVar[float] = ContextVar("deadline", default=math.inf)
_trier: ContextVar[str] = ContextVar("trier", default="")


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Let nothing within the block begin to wait or hash once `seconds` have passed.

    One request may ask about many entities; it must not hold its thread for all of their turns.
    """
    token = _deadline.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        _deadline.reset(token)


class NoSlot:
    """The turn of what hashes nothing: it is always at hand."""

    @contextmanager
    def held(self) -> Iterator[bool]:
        """Yield that the caller may go on."""
        yield True


@contextmanager
def tried_by(trier: str) -> Iterator[None]:
    """Count what is guessed within the block against `trier` alone, and never against a device.

    A member of staff who tries a secret must not use up the guesses of those who connect.
    """
    token = _trier.set(trier)
    try:
        yield
    finally:
        _trier.reset(token)


class Guess:
    """One attempt at an entity whose secret matched nothing that is cheap to check.

    An entity has a place for each failure that it may have. A guess takes one before it is hashed
    and a right one gives it back, so that guesses at the same moment, in whatever process, are
    all counted: a cache's `add` is atomic, while `incr` is not in every cache.
    """

    def __init__(
        self,
        identifier: str,
        digests: Sequence[str],
        *,
        as_caller: bool = False,
        hashed: bool = True,
    ) -> None:
        trier = _trier.get()
        waits = caller_slot if as_caller or trier else slot
        self._slot = waits if hashed else NoSlot()
        face = trier or ("caller" if as_caller else "device")
        entity = "\x00".join([face, identifier, *sorted(digests)])  # rows come in any order
        counter = "guess:" + hashlib.sha256(encoded(entity)).hexdigest()
        self._places = [f"{counter}:{number}" for number in range(FAILURES)]
        self._taken: str | None = None
        self.refusal = ""  # why it was answered without hashing, in words for staff

    @contextmanager
    def attempt(self) -> Iterator[bool]:
        """Yield whether the guess may be hashed; otherwise `refusal` says why not.

        It counts as a failure unless `succeeded` is called.
        """
        free = self._free_places()
        if not free:
            yield False
            return
        with self._slot.held() as allowed:
            if not allowed:
                self.refusal = _("too many secrets are being checked at once")
            yield allowed and self._take(free)

    def _free_places(self) -> list[str]:
        try:
            taken = cache.get_many(self._places)
        except Exception:
            log.exception(UNCOUNTED)
            self.refusal = _("failures cannot be counted")
            return []
        free = [place for place in self._places if place not in taken]
        if not free:
            self._refuse_exhausted()
        return free

    def _take(self, free: Sequence[str]) -> bool:
        try:
            taken = (place for place in free if cache.add(place, True, timeout=WINDOW))
            self._taken = next(taken, None)
        except Exception:
            log.exception(UNCOUNTED)
            self.refusal = _("failures cannot be counted")
            return False
        if self._taken is None:
            self._refuse_exhausted()
        return self._taken is not None

    def _refuse_exhausted(self) -> None:
        self.refusal = _("%(failures)d failures within %(minutes)d minutes") % {
            "failures": FAILURES,
            "minutes": WINDOW // 60,
        }

    def succeeded(self) -> None:
        """Give the place back: the secret was right."""
        try:
            cache.delete(self._taken)
        except Exception:
            log.exception("a right secret was counted as a failure")
