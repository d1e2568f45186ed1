"""Put one statement for what threads ask at the same moment.

While one thread waits for the database, others come with questions of the same kind. They gather,
and the next statement carries all of theirs: the round trip, which costs more than its rows, is
shared. Nobody waits for company, and nothing is kept: every question is put to the database after
it was asked, so whatever was changed before shows in its answer.

A batch and the threads in it:

    the first question makes it      no other is asked: it is its turn at once
        │                            another is asked: it gathers what comes until then
        ▼
    GATHERING ──(turn)──▶ ASKED ──▶ answered   each takes its own answer
        │                   └─────▶ failed     each fails, or asks again by itself
        └──(no turn in time, or its first thread is interrupted)──▶ failed

The thread with the first question leads: it waits for the turn, asks, and whatever ends it
(answers, a failure, an interruption) gives the turn to the batch that gathered meanwhile. It waits
for its turn no longer than MAX_TURN, and those who follow it for their answer than MAX_WAIT.
"""

import threading
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Generic, TypeVar

from django.db import InterfaceError, OperationalError, connection

# Seconds: for the batch before; for that and one's own. RTIO waits 5 s in all.
MAX_TURN = 1.5
MAX_WAIT = 3.0

Question = TypeVar("Question", bound=Hashable)
Answer = TypeVar("Answer")


class Batch(Generic[Question, Answer]):
    """Questions that the thread with the first one puts to the database for all of them."""

    __slots__ = ("answers", "done", "failure", "questions", "turn")

    def __init__(self) -> None:
        self.questions: list[Question] = []
        self.answers: Mapping[Question, Answer] = {}
        self.failure: Exception | None = None
        self.turn = threading.Lock()  # held until the batch before it is answered
        self.turn.acquire()
        self.done = threading.Lock()  # held until there are answers, or a failure
        self.done.acquire()


class Coalescer(Generic[Question, Answer]):
    """Puts questions to a statement, one batch at a time; what comes meanwhile is the next batch.

    `ask_all` takes the questions of a batch and returns the answers of those that have one.
    """

    def __init__(self, ask_all: Callable[[Sequence[Question]], Mapping[Question, Answer]]) -> None:
        self._ask_all = ask_all
        self._lock = threading.Lock()
        self._asked: Batch[Question, Answer] | None = None
        self._gathering: Batch[Question, Answer] | None = None

    def ask(self, question: Question) -> Answer | None:
        """Return the answer, None where there is none; fails as the statement does.

        Asked alone where there is no round trip to share, in SQLite, and in a transaction, whose
        changes no other thread sees.
        """
        if connection.vendor == "sqlite" or connection.in_atomic_block:
            return self._ask_all([question]).get(question)
        with self._lock:
            batch = self._gathering
            leads = batch is None
            if batch is None:
                batch = Batch()
                if self._asked is None:
                    self._asked = batch
                    batch.turn.release()
                else:
                    self._gathering = batch
            batch.questions.append(question)
        if leads:
            self._lead(batch)
        elif batch.done.acquire(timeout=MAX_WAIT):
            batch.done.release()  # each of those who wait wakes the next
        else:
            raise OperationalError("the database did not answer in time")
        if batch.failure is None:
            return batch.answers.get(question)
        # That the database cannot be asked is true for all. Any other failure may be the fault of
        # one question: each is then asked by itself.
        if len(batch.questions) == 1:
            raise batch.failure
        if isinstance(batch.failure, OperationalError | InterfaceError):
            raise type(batch.failure)(*batch.failure.args) from batch.failure
        return self._ask_all([question]).get(question)

    def _lead(self, batch: Batch[Question, Answer]) -> None:
        """Get the answers of a batch once it is its turn, then let the next one go on."""
        try:
            if not batch.turn.acquire(timeout=MAX_TURN):
                raise OperationalError("the database did not answer in time")  # noqa: TRY301
            with self._lock:
                if self._gathering is batch:
                    self._gathering = None
            batch.answers = self._ask_all(batch.questions)
        except Exception as failure:  # noqa: BLE001 - raised in each of the threads
            batch.failure = failure
        except BaseException:
            batch.failure = OperationalError("the thread that asked for all was interrupted")
            raise
        finally:
            self._end(batch)

    def _end(self, batch: Batch[Question, Answer]) -> None:
        with self._lock:
            if self._gathering is batch:  # it failed while it waited for its turn
                self._gathering = None
            if self._asked is batch:
                self._asked = self._gathering
                if self._asked is not None:
                    self._asked.turn.release()
        batch.done.release()
