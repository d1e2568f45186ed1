"""Ask a statement's questions in an event loop, which never waits for the database.

All questions that come while one statement is under way share the next. Nothing is kept: each is
put to the database after it was asked, so whatever was changed before shows in its answer.

A question that the loop cannot ask now (it has no connection yet, or lost it) is handed back: a
thread asks it, and judges what failed. What fails late is not asked twice: callers wait 5 s in all.
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

from devices.database import deadlines, drivers
from devices.database.outages import OutageLog
from devices.database.statements import Statement

MAX_QUESTIONS = 200  # in one statement: what is sent fits a socket's buffer, so nothing waits there
SOON = 0.5  # seconds within which a failure leaves time to ask again
PAUSE = 1.0  # seconds between two attempts to connect

Answer = TypeVar("Answer")
Asked = list[tuple[str, "asyncio.Future[Answer | None]"]]

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
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Answer | None] = loop.create_future()
        if self._driver is None:
            self._open(loop)
            answer.set_result(None)
        else:
            self._waiting.append((question, answer))
            if not self._asked and len(self._waiting) == 1:
                loop.call_soon(self._send)  # with whatever else comes in this turn of the loop
        return answer

    def _open(self, loop: asyncio.AbstractEventLoop) -> None:
        """Have a thread open the connection, unless one does, or has just failed."""
        if self._opening is None and time.monotonic() >= self._open_again:
            self._open_again = time.monotonic() + PAUSE
            self._opening = loop.run_in_executor(None, self._opened)
            self._opening.add_done_callback(self._take)

    def _opened(self) -> None:
        self._connection.close()
        self._connection.connect()
        self._statement.on(self._connection, [])  # so that it is prepared

    def _take(self, opening: "asyncio.Future[None]") -> None:
        self._opening = None
        if opening.cancelled():
            return
        if error := opening.exception():
            outages.note("the loop cannot ask the database", error)
            return
        self._driver = self._connection.connection
        if self._connection.vendor != "sqlite":
            asyncio.get_running_loop().add_reader(self._driver.fileno(), self._receive)

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
            drivers.send(self._driver, self._sql, [questions])
        except Exception as error:  # noqa: BLE001 - whatever it is, those who wait must hear of it
            self._fail(error)
            return
        loop = asyncio.get_running_loop()
        self._deadline = loop.call_later(deadlines.SECONDS, self._give_up)

    def _receive(self) -> None:
        try:
            rows = drivers.received(self._driver, self._sql)
            if rows is not None:
                self._answer(rows)
        except Exception as error:  # noqa: BLE001 - as above
            self._fail(error)

    def _answer(self, rows: drivers.Rows) -> None:
        answers = self._answers_of(rows)
        if self._deadline is not None:
            self._deadline.cancel()
        for question, answer in self._asked:
            if not answer.done():
                answer.set_result(answers.get(question, self._nothing))
        self._send()

    def _give_up(self) -> None:
        deadlines.last_overdue = time.monotonic()
        self._fail(deadlines.Overdue(f"no answer within {deadlines.SECONDS:g} s"))

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
        for _, answer in failed:
            if answer.done():
                continue
            if is_late:
                answer.set_exception(OperationalError(*error.args))
            else:
                answer.set_result(None)
