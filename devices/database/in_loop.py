"""Ask the database in an event loop, which never waits for it.

All questions that come while others are asked share the next statements. Nothing is kept: each is
put to the database after it was asked, so whatever was changed before shows in its answer.

Questions that the loop cannot ask now (it has no connection yet, or lost it) are handed back: a
thread asks them, and judges what failed. What fails late is not asked twice: callers wait 5 s in
all.

Where there is a standby, it is asked first, and the primary what the standby must not answer:

    StandbyAsker ──(failed, slow, or its lease has lapsed)──▶ LoopAsker ──(failed)──▶ a thread
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Generic, TypeVar

import psycopg
from django.db import Error, OperationalError
from django.db.backends.base.base import BaseDatabaseWrapper

from devices import telemetry
from devices.database import answers, deadlines, drivers
from devices.database.answers import Standby
from devices.database.outages import OutageLog
from devices.database.statements import MustWait, Query, Steps

MAX_QUESTIONS = 200  # asked together, which holds up the others in the loop
SOON = 0.5  # seconds within which a failure leaves time to ask again
PAUSE = 1.0  # seconds between two attempts to connect

Question = TypeVar("Question", bound=Hashable)
Answer = TypeVar("Answer")
Answers = Mapping[Question, Answer]
Asked = tuple[Sequence[Question], "asyncio.Future[Any]"]

log = logging.getLogger(__name__)
outages = OutageLog(log)


class LoopAsker(Generic[Question, Answer]):
    """Puts questions to the database, those of many requests together.

    `ask_all` are the steps that answer different questions. `statements` are those that it puts,
    each with values that show the server what it is. All methods are called in the thread of the
    loop.
    """

    def __init__(
        self,
        connection: BaseDatabaseWrapper,
        ask_all: Callable[[Sequence[Question]], Steps[Answers[Question, Answer]]],
        statements: Sequence[Query],
    ) -> None:
        self._connection = connection
        self._ask_all = ask_all
        self._statements = statements
        self._texts = {one.statement: one.statement.sql[connection.vendor] for one in statements}
        self._own_values: tuple[object, ...] = ()  # before those of each query
        self._driver: Any = None  # while the connection can be asked
        self._opening: asyncio.Future[None] | None = None
        self._open_again = 0.0
        self._waiting: deque[Asked[Question]] = deque()
        self._asked: list[Asked[Question]] = []
        self._steps: Steps[Answers[Question, Answer]] | None = None
        self._sql = ""  # of the statement under way
        self._began = 0.0
        self._deadline: asyncio.TimerHandle | None = None

    @property
    def is_open(self) -> bool:
        """Whether questions are asked here, and not handed back."""
        return self._driver is not None

    def ask(
        self, questions: Sequence[Question]
    ) -> "asyncio.Future[Answers[Question, Answer] | None]":
        """Return what will be the answers, with others among them; None where a thread has to ask.

        It fails with an OperationalError where the database does not answer in time.
        """
        future: asyncio.Future[Answers[Question, Answer] | None]
        future = asyncio.get_running_loop().create_future()
        self.put(questions, future)
        return future

    def put(
        self,
        questions: Sequence[Question],
        future: "asyncio.Future[Answers[Question, Answer] | None]",
    ) -> None:
        """Have questions answered as `ask` says."""
        if self._driver is None:
            self._open()
            self._hand_back([(questions, future)])
            return
        self._waiting.append((questions, future))
        if not self._asked and len(self._waiting) == 1:
            # With whatever else comes in this turn of the loop.
            asyncio.get_running_loop().call_soon(self._begin)

    def _hand_back(self, asked: Sequence[Asked[Question]], error: Exception | None = None) -> None:
        """Have threads ask; with an error, of those who have waited for long, fail with that."""
        for _, future in asked:
            if future.done():
                continue
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(OperationalError(*error.args))
                future.exception()  # asyncio logs it otherwise where nobody waits any more

    def _seconds(self) -> float:
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
        for statement, values in self._statements:  # so that each is prepared
            parameters = [*self._own_values, *values]
            drivers.run(self._connection, self._texts[statement], parameters)

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
        outages.note("the loop cannot ask the database", error)

    def _begin(self) -> None:
        """Ask what waits: as many questions as may be asked together, and those of one at least."""
        if self._asked or not self._waiting:
            return
        different: dict[Question, None] = {}
        while self._waiting and (
            not self._asked or len(different) + len(self._waiting[0][0]) <= MAX_QUESTIONS
        ):
            asked = self._waiting.popleft()
            self._asked.append(asked)
            different.update(dict.fromkeys(asked[0]))
        self._began = time.monotonic()
        self._steps = self._ask_all(list(different))
        if self._connection.vendor == "sqlite" and len(self._statements) > 1:
            try:
                with drivers.one_state(self._connection):
                    self._go_on(None)
            except Error as error:  # it neither began nor ended
                self._fail(error)
        else:
            self._go_on(None)

    def _go_on(self, rows: drivers.Rows | None) -> None:
        """Put the next query; after the last one, tell those who asked."""
        if self._steps is None:
            return
        try:
            while True:
                statement, values = self._steps.send(rows)  # type: ignore[arg-type]
                sql, parameters = self._texts[statement], [*self._own_values, *values]
                if self._connection.vendor != "sqlite":
                    self._send(sql, parameters)
                    return
                rows = drivers.run(self._connection, sql, parameters)  # no round trip, no wait
        except StopIteration as end:
            for _, future in self._asked:
                if not future.done():
                    future.set_result(end.value)
            self._end()
        except MustWait:
            self._hand_back(self._asked)
            self._end()
        except Exception as error:  # noqa: BLE001 - whatever it is, those who wait must hear of it
            self._fail(error)

    def _send(self, sql: str, parameters: list[object]) -> None:
        self._sql = sql
        loop = asyncio.get_running_loop()
        if not drivers.send(self._driver, sql, parameters):
            loop.add_writer(self._driver.fileno(), self._flush)
        self._deadline = loop.call_later(self._seconds(), self._give_up)

    def _flush(self) -> None:
        try:
            if drivers.flush(self._driver):
                asyncio.get_running_loop().remove_writer(self._driver.fileno())
        except Exception as error:  # noqa: BLE001 - as above
            self._fail(error)

    def _receive(self) -> None:
        try:
            rows = drivers.received(self._driver, self._sql)
        except Exception as error:  # noqa: BLE001 - as above
            self._fail(error)
            return
        if rows is None:
            return
        if self._deadline is not None:
            self._deadline.cancel()
        if (valid := self._valid(rows)) is not None:
            self._go_on(valid)
        else:
            self._hand_back(self._asked)
            self._end()

    def _end(self) -> None:
        self._asked = []
        if not self._waiting:
            return
        if self._connection.vendor == "sqlite":
            asyncio.get_running_loop().call_soon(self._begin)  # those who were answered go first
        else:
            self._begin()

    def _give_up(self) -> None:
        deadlines.note_overdue(self._driver)
        self._fail(deadlines.Overdue(f"no answer within {self._seconds():g} s"))

    def _fail(self, error: Exception) -> None:
        """Hand back what was asked, and give the connection up: the next question opens another."""
        if self._deadline is not None:
            self._deadline.cancel()
        if isinstance(self._driver, psycopg.Connection):
            with suppress(psycopg.Error):
                loop = asyncio.get_running_loop()
                loop.remove_reader(self._driver.fileno())
                loop.remove_writer(self._driver.fileno())
        self._driver = self._steps = None
        is_late = bool(self._asked) and time.monotonic() - self._began > SOON
        failed, self._asked = [*self._asked, *self._waiting], []
        self._waiting.clear()
        self._hand_back(failed, error if is_late else None)


class StandbyAsker(LoopAsker[Question, Answer]):
    """Puts questions to the standby, and to the primary's asker those that it must not answer."""

    def __init__(
        self,
        connection: BaseDatabaseWrapper,
        ask_all: Callable[[Sequence[Question]], Steps[Answers[Question, Answer]]],
        statements: Sequence[Query],
        *,
        standby: Standby,
        primary: LoopAsker[Question, Answer],
    ) -> None:
        super().__init__(connection, ask_all, statements)
        self._texts = {one: answers.with_heartbeat(text) for one, text in self._texts.items()}
        self._own_values = (standby.process,)
        self._standby = standby
        self._primary = primary

    def put(
        self,
        questions: Sequence[Question],
        future: "asyncio.Future[Answers[Question, Answer] | None]",
    ) -> None:
        """Have questions answered as `ask` says."""
        if self._standby.may_be_asked():
            super().put(questions, future)
        else:
            self._hand_back([(questions, future)])

    def _hand_back(self, asked: Sequence[Asked[Question]], error: Exception | None = None) -> None:
        if asked:
            telemetry.listener.answered_by("primary")
        for questions, future in asked:
            self._primary.put(questions, future)

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
