"""Bounding what wrong secrets can cost, before anything is hashed.

Failures are counted per entity, never per source address: every call comes from the one backend.
The count hangs on the identifier *and* the chosen keys it has, so that a new key starts afresh in
every process. Counts live in Django's cache: with a cache that all processes share they are exact,
with the local one each process counts alone. What may be hashed waits in one queue for the one
thread that hashes. Unknown identifiers take the same way as known ones: they wait for the same
turn, and differ in neither work nor time. (docs/credentials.md)
"""

import hashlib
import heapq
import hmac
import itertools
import logging
import math
import os
import random
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import partial
from typing import TypeVar

from django.core.cache import cache
from django.utils.translation import gettext as _

from devices import telemetry
from devices.credentials.hashing import encoded
from devices.database.outages import OutageLog
from devices.database.slots import released
from devices.events import guesses

FAILURES = 5  # wrong guesses at one entity before further ones are answered without hashing
WINDOW = 15 * 60  # seconds that a failure counts
# Seconds that a question waits for its turn, by chance: RTIO gives 5 s in all, and its devices,
# refused together, would come back together.
WAIT = (3.4, 4.2)
# Seconds after which a guess that cost no hash is answered, by chance: longer than reading any
# device takes, and as wide as it takes to hide what the journal makes of it.
THROTTLED_TIME = (0.005, 0.009)
MAX_WAITING = 400  # requests that wait in one process, each with a thread; `serve` gives it 520
PENALTY = 10  # questions that go before one for each failure of its entity
IDLE = 10.0  # seconds after which the thread that hashes ends
# How often, and after how many seconds, a guess that finds no mark free looks again while an equal
# one is on its way to the queue: they came together, and may share its hash.
RETRIES, RETRY_AFTER = 20, 0.005
REMEMBERED = 50_000  # chosen secrets that one process remembers having verified

UNCOUNTED = "failures cannot be counted: guesses at chosen secrets are refused"

Result = TypeVar("Result")

outages = OutageLog(logging.getLogger(__name__))


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

    def digest(self, stored: str, secret: str) -> bytes:
        """Return what stands for a secret and a stored text, in this process only."""
        return hmac.digest(self._key, stored.encode() + b"\x00" + encoded(secret), hashlib.sha256)

    def note(self, stored: str, secret: str) -> None:
        with self._lock:
            self._verified[stored] = self.digest(stored, secret)
            self._verified.move_to_end(stored)
            while len(self._verified) > self._most:
                self._verified.popitem(last=False)

    def recalls(self, stored: str, secret: str) -> bool:
        """Whether `secret` was verified before against exactly this stored digest."""
        known = self._verified.get(stored)
        return known is not None and hmac.compare_digest(known, self.digest(stored, secret))


class Job(Future[Result]):
    """A question that needs a memory-hard hash, and its answer for all who wait for it."""

    def __init__(self, question: bytes, work: Callable[[], Result]) -> None:
        super().__init__()
        self.question = question
        self.work = work
        self.started = 0.0  # when its hash began


class HashQueue:
    """Memory-hard hashes, one at a time in this process, by a thread of their own.

    Equal questions share a hash. Those of devices and those of callers take turns, however many
    there are of either, and within each the first come is the first served; a question about an
    entity with failures goes back PENALTY places for each. Nobody waits longer than WAIT.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._arrived = threading.Condition(self._lock)
        self._heap: list[tuple[float, int, Job[object]]] = []
        self._jobs: dict[bytes, Job[object]] = {}
        self._arriving: Counter[bytes] = Counter()  # questions on their way into `_jobs`
        self._numbers = itertools.count()
        self._served = 0.0  # the virtual time of the question that was served last
        self._last: dict[str, float] = {}  # that of the last question of each face
        self.waiting = 0
        self._thread: threading.Thread | None = None

    def ask(
        self,
        question: bytes,
        work: Callable[[], Result] | None,
        *,
        face: str,
        failures: int,
        on_join: Callable[[], None] = lambda: None,
    ) -> Job[Result] | None:
        """Return the finished job of a question; None where its turn did not come in time.

        Without `work` an equal question is joined; raises KeyError where none waits. Where one is
        joined, `on_join` is called before the wait. What `work` raises is raised for everybody who
        asked.
        """
        began = time.monotonic()
        wait = min(random.uniform(*WAIT), _deadline.get() - began)  # noqa: S311
        with self._lock:
            if wait <= 0 or self.waiting >= MAX_WAITING:
                return None
            job = self._jobs.get(question)
            is_first = job is None
            if job is None:
                if work is None:
                    raise KeyError(question)
                job = self._add(question, work, face, failures)
            self.waiting += 1
        try:
            if not is_first:
                on_join()
            failure = job.exception(wait)
        except TimeoutError:
            if is_first:
                with self._lock:
                    if job.cancel():  # who joined it is refused, too
                        del self._jobs[question]
            if not job.started:
                return None
            failure = job.exception()  # it is being hashed
        except CancelledError:
            return None
        finally:
            with self._lock:
                self.waiting -= 1
        telemetry.listener.waited("hash", max(0.0, job.started - began))
        if failure is not None:
            raise failure
        return job  # type: ignore[return-value]

    def is_asked(self, question: bytes) -> bool:
        """Whether the question waits or is being hashed, so that asking it costs nothing."""
        return question in self._jobs

    @contextmanager
    def arriving(self, question: bytes) -> Iterator[None]:
        """Let equal questions know within the block that this one may soon wait here."""
        with self._lock:
            self._arriving[question] += 1
        try:
            yield
        finally:
            with self._lock:
                self._arriving[question] -= 1
                if not self._arriving[question]:
                    del self._arriving[question]

    def is_arriving(self, question: bytes) -> bool:
        """Return whether an equal question is between taking its mark and its answer."""
        return question in self._arriving

    def _add(
        self, question: bytes, work: Callable[[], Result], face: str, failures: int
    ) -> Job[object]:
        """Queue a question. Start-time fair queueing: the faces have a virtual time each."""
        job: Job[object] = Job(question, work)
        self._last[face] = max(self._served, self._last.get(face, 0.0)) + 1
        turn = self._last[face] + PENALTY * failures
        heapq.heappush(self._heap, (turn, next(self._numbers), job))
        self._jobs[question] = job
        self._arrived.notify()
        if self._thread is None or not self._thread.is_alive():  # not started, or forked away
            self._thread = threading.Thread(target=self._run, name="hashing", daemon=True)
            self._thread.start()
        return job

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._heap and not self._arrived.wait_for(lambda: self._heap, IDLE):
                    self._thread = None
                    return
                turn, _number, job = heapq.heappop(self._heap)
                if not job.set_running_or_notify_cancel():
                    continue
                job.started = time.monotonic()
                self._served = max(self._served, turn)
            finish: Callable[[], None]
            try:
                finish = partial(job.set_result, job.work())
            except Exception as failure:  # noqa: BLE001 - raised in each of the threads
                finish = partial(job.set_exception, failure)
            except BaseException as failure:  # noqa: BLE001 - a panic of Rust code, say
                error = RuntimeError(repr(failure))
                error.__cause__ = failure
                finish = partial(job.set_exception, error)
            with self._lock:
                del self._jobs[job.question]
            finish()


remembered = Remembered()
queue = HashQueue()
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


def hide_time(began: float) -> None:
    """Wait until a refusal that cost no hash may be answered, THROTTLED_TIME after it was asked.

    What was read of a registered device takes a little longer to read than nothing; over one
    connection a stranger could tell the two apart.
    """
    left = began + random.uniform(*THROTTLED_TIME) - time.monotonic()  # noqa: S311
    if left > 0:
        with released():
            time.sleep(left)


class FailureMarks:
    """The marks in the cache that failures leave for WINDOW seconds; all taken, nothing is tried.

    A try takes one and gives it back where it was right: so tries at the same moment, in whatever
    process, are all counted. A cache's `add` is atomic, while `incr` is not in every cache.
    """

    def __init__(self, name: str, most: int) -> None:
        self._marks = [f"{name}:{number}" for number in range(most)]
        self._taken: str | None = None
        self._failures = 0  # that had left a mark before this one was taken
        self.refusal = ""  # why nothing was tried, in words for staff

    def take(self) -> bool:
        """Count the try as a failure for now; False where it may not be made."""
        with outages.noting(UNCOUNTED):
            taken = cache.get_many(self._marks)
            self._failures = len(taken)
            free = (mark for mark in self._marks if mark not in taken)
            self._taken = next((mark for mark in free if cache.add(mark, True, WINDOW)), None)
            return self._taken is not None
        self.refusal = _("failures cannot be counted")
        return False

    def give_back(self) -> None:
        """Do not count the try: it was right, or was not made."""
        taken, self._taken = self._taken, None
        if taken is not None:
            with outages.noting("a guess that was right, or not hashed, was counted as a failure"):
                cache.delete(taken)


class Guess(FailureMarks):
    """One attempt at an entity whose secret matched nothing that is cheap to check."""

    def __init__(self, identifier: str, digests: Sequence[str], *, as_caller: bool = False) -> None:
        trier = _trier.get()
        self._face = "caller" if as_caller or trier else "device"
        self._guessed = "" if trier else identifier  # of whom is told that it is guessed at
        face = trier or self._face
        entity = "\x00".join([face, identifier, *sorted(digests)])  # rows come in any order
        super().__init__("guess:" + hashlib.sha256(encoded(entity)).hexdigest(), FAILURES)

    def hashed(
        self, secret: str, work: Callable[[], Result], recall: Callable[[], Result | None]
    ) -> Result | None:
        """Return what `work` returns, in its turn; None where it is refused or finds nothing.

        It counts as a failure where it finds nothing. An equal guess that waits is joined, and one
        that was answered since this one was asked is recalled: `work` is to have it remembered.
        """
        question = remembered.digest(self._marks[0], secret)
        retries = iter(range(RETRIES))
        while True:
            if not queue.is_asked(question) and (known := recall()) is not None:
                return known
            equal_arrives = queue.is_arriving(question)
            with queue.arriving(question):
                if queue.is_asked(question) or super().take():
                    may_add = self._taken is not None
                    with released(), suppress(KeyError):  # the equal one was answered meanwhile
                        job = queue.ask(
                            question,
                            work if may_add else None,
                            face=self._face,
                            failures=self._failures,
                            on_join=self.give_back,  # equal ones elsewhere may need the mark
                        )
                        break
                    continue
            # The equal one may have been answered while the marks were looked at.
            equal_arrives = equal_arrives or queue.is_arriving(question)
            if self.refusal or not equal_arrives or next(retries, None) is None:
                if (known := recall()) is None:
                    self._refuse()
                return known
            with released():
                time.sleep(RETRY_AFTER)
        if job is None:
            telemetry.listener.turned_away("hash")
            self.refusal = _("too many secrets are being checked at once")
        result = None if job is None else job.result()
        if job is None or result is not None:
            self.give_back()
        return result

    def take(self) -> bool:
        """Take a mark; tell of the entity where there is none, since it is guessed at."""
        if super().take():
            return True
        self._refuse()
        return False

    def _refuse(self) -> None:
        if self.refusal:
            return
        if self._guessed:
            guesses.worker.note(self._guessed)
        self.refusal = _("%(failures)d failures within %(minutes)d minutes") % {
            "failures": FAILURES,
            "minutes": WINDOW // 60,
        }
