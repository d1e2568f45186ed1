"""Ask a statement's questions in an event loop, which never waits for the database.

All questions that come while one statement is under way share the next. Nothing is kept: each is
put to the database after it was asked, so whatever was changed before shows in its answer.

A question that the loop cannot ask now (it has no connection yet, or lost it) is handed back: a
thread asks it, and judges what failed. What fails late is not asked twice: callers wait 5 s in all.

Where there is a standby, it is asked first, and the primary what the standby must not answer:

    StandbyAsker ──(failed, slow, or its lease has lapsed)──▶ LoopAsker ──(failed)──▶ a thread
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Generic, TypeVar

import psycopg
from django.db import OperationalError
from django.db.backends.base.base import BaseDatabaseWrapper

from devices import telemetry
from devices.database import answers, deadlines, drivers
from devices.database.answers import Standby
from devices.database.outages import OutageLog
from devices.database.statements import Statement

MAX_QUESTIONS = 200  # in one statement: what is sent fits a socket's buffer, so nothing waits there
SOON = 0.5  # seconds within which a failure leaves time to ask again
PAUSE = 1.0  # seconds between two attempts to connect

Answer = TypeVar("Answer")
Asked = list[tuple[str, asyncio.Future[Answer | None]]]

log = logging.getLogger(__name__)
outages = OutageLog(log)


class LoopAsker(Generic[Answer]):
    """Puts questions, texts, to one statement whose only parameter is the list of them.

    `answers_of` makes of its rows the answers of those questions that have one; `nothing` is the
    answer of the others. All methods are called in the thread of the loop.
    """

    def __init__(
        self,
        connection: BaseDatabaseWrapper,
        statement: Statement,
        answers_of: Callable[[drivers.Rows], Mapping[str, Answer]],
        nothing: Answer,
    ) -> None:
        self._connection = connection
        self._statement = statement
        self._sql = statement.sql[connection.vendor]
        self._answers_of = answers_of
        self._nothing = nothing
        self._driver: Any = None  # while the connection can be asked
        self._opening: asyncio.Future[None] | None = None
        self._open_again = 0.0
        self._waiting: Asked[Answer] = []
        self._asked: Asked[Answer] = []
        self._sent = 0.0
        self._deadline: asyncio.TimerHandle | None = None

    @property
    def is_open(self) -> bool:
        """Whether questions are asked here, and not handed back."""
        return self._driver is not None

    def ask(self, question: str) -> "asyncio.Future[Answer | None]":
        """Return what will be the answer; None where a thread has to ask.

        It fails with an OperationalError where the database does not answer in time.
        """
        answer: asyncio.Future[Answer | None] = asyncio.get_running_loop().create_future()
        self.put(question, answer)
        return answer

    def put(self, question: str, answer: "asyncio.Future[Answer | None]") -> None:
        """Have a question answered as `ask` says."""
        if self._driver is None:
            self._open()
            self._hand_back([(question, answer)])
            return
        self._waiting.append((question, answer))
        if not self._asked and len(self._waiting) == 1:
            # With whatever else comes in this turn of the loop.
            asyncio.get_running_loop().call_soon(self._send)

    def _hand_back(self, asked: Asked[Answer], error: Exception | None = None) -> None:
        """Have threads ask; with an error, of those who have waited for long, fail with that."""
        for _, answer in asked:
            if answer.done():
                continue
            if error is None:
                answer.set_result(None)
            else:
                answer.set_exception(OperationalError(*error.args))

    def _parameters(self, questions: list[str]) -> list[object]:
        return [questions]

    def _seconds(self) -> float:
        """Return how long an answer may take."""
        return deadlines.SECONDS

    def _valid(self, rows: drivers.Rows) -> drivers.Rows | None:
        """Return the rows that answer; None where these do not."""
        return rows

    def _open(self) -> None:
        """Have a thread open the connection, unless one does, or has just failed."""
        if self._opening is None and time.monotonic() >= self._open_again:
            self._open_again = time.monotonic() + PAUSE
            self._opening = asyncio.get_running_loop().run_in_executor(None, self._opened)
            self._opening.add_done_callback(self._take)

    def _opened(self) -> None:
        self._connection.close()
        self._connection.connect()
        drivers.run(self._connection, self._sql, self._parameters([]))  # so that it is prepared

    def _take(self, opening: "asyncio.Future[None]") -> None:
        self._opening = None
        if opening.cancelled():
            return
        if error := opening.exception():
            self._note(error)
            return
        self._driver = self._connection.connection
        if self._connection.vendor != "sqlite":
            asyncio.get_running_loop().add_reader(self._driver.fileno(), self._receive)

    def _note(self, error: BaseException) -> None:
        """Say that the database cannot be asked."""
        outages.note("the loop cannot ask the database", error)

    def _send(self) -> None:
        self._asked, self._waiting = self._waiting[:MAX_QUESTIONS], self._waiting[MAX_QUESTIONS:]
        if not self._asked:
            return
        self._sent = time.monotonic()
        questions = list({question for question, _ in self._asked})
        try:
            if self._connection.vendor == "sqlite":  # without a round trip there is no wait
                self._answer(self._statement.on(self._connection, questions))
                return
            drivers.send(self._driver, self._sql, self._parameters(questions))
        except Exception as error:  # noqa: BLE001 - whatever it is, those who wait must hear of it
            self._fail(error)
            return
        self._deadline = asyncio.get_running_loop().call_later(self._seconds(), self._give_up)

    def _receive(self) -> None:
        try:
            rows = drivers.received(self._driver, self._sql)
            if rows is not None:
                self._answer(rows)
        except Exception as error:  # noqa: BLE001 - as above
            self._fail(error)

    def _answer(self, rows: drivers.Rows) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        valid = self._valid(rows)
        if valid is None:
            self._hand_back(self._asked)
        else:
            found = self._answers_of(valid)
            for question, answer in self._asked:
                if not answer.done():
                    answer.set_result(found.get(question, self._nothing))
        self._send()

    def _give_up(self) -> None:
        deadlines.note_overdue(self._driver)
        self._fail(deadlines.Overdue(f"no answer within {self._seconds():g} s"))

    def _fail(self, error: Exception) -> None:
        """Hand back what was asked, and give the connection up: the next one is opened anew."""
        if self._deadline is not None:
            self._deadline.cancel()
        if isinstance(self._driver, psycopg.Connection):
            with suppress(psycopg.Error):
                asyncio.get_running_loop().remove_reader(self._driver.fileno())
        self._driver = None
        is_late = time.monotonic() - self._sent > SOON
        failed, self._asked, self._waiting = self._asked + self._waiting, [], []
        self._hand_back(failed, error if is_late else None)


class StandbyAsker(LoopAsker[Answer]):
    """Puts questions to the standby, and to the primary's asker those that it must not answer."""

    def __init__(
        self,
        connection: BaseDatabaseWrapper,
        statement: Statement,
        answers_of: Callable[[drivers.Rows], Mapping[str, Answer]],
        nothing: Answer,
        *,
        standby: Standby,
        primary: LoopAsker[Answer],
    ) -> None:
        super().__init__(connection, statement, answers_of, nothing)
        self._standby = standby
        self._primary = primary
        self._sql = answers.with_heartbeat(self._sql)

    def put(self, question: str, answer: "asyncio.Future[Answer | None]") -> None:
        """Have a question answered as `ask` says."""
        if self._standby.may_be_asked():
            super().put(question, answer)
        else:
            self._hand_back([(question, answer)])

    def _hand_back(self, asked: Asked[Answer], error: Exception | None = None) -> None:
        if asked:
            telemetry.listener.answered_by("primary")
        for question, answer in asked:
            self._primary.put(question, answer)

    def _parameters(self, questions: list[str]) -> list[object]:
        return [self._standby.process, questions]

    def _seconds(self) -> float:
        return answers.SECONDS

    def _valid(self, rows: drivers.Rows) -> drivers.Rows | None:
        fresh = self._standby.fresh(rows)
        if fresh is not None:
            telemetry.listener.answered_by("standby")
        return fresh

    def _note(self, error: BaseException) -> None:
        self._standby.failed(error)

    def _fail(self, error: Exception) -> None:
        self._standby.failed(error)
        super()._fail(error)
