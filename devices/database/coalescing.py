"""One statement for what threads ask at the same moment.

While one thread waits for the database, others come with questions of the same kind. They gather,
and the next statement carries all of theirs: the round trip, which costs more than its rows, is
shared. Nobody waits for company, and nothing is kept: every question is put to the database after
it was asked, so whatever was changed before shows in its answer.
"""

import threading
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Generic, TypeVar

from django.db import DEFAULT_DB_ALIAS, InterfaceError, OperationalError, connections

Question = TypeVar("Question", bound=Hashable)
Answer = TypeVar("Answer")


class Batch(Generic[Question, Answer]):
    """Questions that the thread with the first one puts to the database for all of them."""

    __slots__ = ("answers", "done", "failure", "questions", "turn")

    def __init__(self, question: Question) -> None:
        self.questions = [question]
        self.answers: Mapping[Question, Answer] = {}
        self.failure: Exception | None = None
        self.turn = threading.Lock()  # held until the batch before it is answered
        self.turn.acquire()
        self.done = threading.Lock()  # held until there are answers, or a failure
        self.done.acquire()


class Coalescer(Generic[Question, Answer]):
    """Puts questions to `ask_all`, one batch at a time; what comes meanwhile is the next batch.

    `ask_all` takes the questions of a batch and returns the answers of those that have one.
    """

    def __init__(self, ask_all: Callable[[Sequence[Question]], Mapping[Question, Answer]]) -> None:
        self._ask_all = ask_all
        self._lock = threading.Lock()
        self._is_asking = False
        self._gathering: Batch[Question, Answer] | None = None

    def ask(self, question: Question) -> Answer | None:
        """Return the answer, None where there is none; fails as `ask_all` does.

        Asked alone where there is no round trip to share, in SQLite, and in a transaction, whose
        changes no other thread sees.
        """
        own = connections[DEFAULT_DB_ALIAS]
        if own.vendor == "sqlite" or own.in_atomic_block:
            return self._ask_all([question]).get(question)
        with self._lock:
            joined = self._gathering
            if joined is not None:
                joined.questions.append(question)
            else:
                batch = Batch[Question, Answer](question)
                waits = self._is_asking
                self._is_asking = True
                if waits:
                    self._gathering = batch
        if joined is not None:
            with joined.done:  # each of those who wait wakes the next
                return self._answer(joined, question)
        if waits:
            batch.turn.acquire()
            with self._lock:
                self._gathering = None
        self._put(batch)
        return self._answer(batch, question)

    def _put(self, batch: Batch[Question, Answer]) -> None:
        """Get the answers of a batch, then let the next one go on."""
        try:
            batch.answers = self._ask_all(batch.questions)
        except Exception as failure:  # noqa: BLE001 - raised in each of the threads
            batch.failure = failure
        finally:
            batch.done.release()
            with self._lock:
                if self._gathering is None:
                    self._is_asking = False
                else:
                    self._gathering.turn.release()

    def _answer(self, batch: Batch[Question, Answer], question: Question) -> Answer | None:
        """Return what the batch has for one of its questions.

        That the database cannot be asked is true for all. Any other failure may be the fault of
        one question: each is then asked by itself.
        """
        if batch.failure is None:
            return batch.answers.get(question)
        if len(batch.questions) == 1 or isinstance(
            batch.failure, OperationalError | InterfaceError
        ):
            raise batch.failure
        return self._ask_all([question]).get(question)
