"""Put what machines ask to a standby, for as long as that is known to be fresh.

Each process writes a number to the primary every INTERVAL, in a row of its own, and remembers when.
The statement that a standby answers reads that row, too: a standby that shows the number shows
whatever was committed before it was written. The clocks of two machines are never compared. Where
the standby shows no number of the last ANSWERS_LEASE seconds, or fails, the primary is asked.
Threads ask by `Standby.rows`, the event loop by `in_loop.StandbyAsker`.
(docs/operations.md, "Answers from standbys".)
"""

import logging
import secrets
import threading
import time
from collections.abc import Sequence
from functools import cache
from typing import Any

from django.conf import settings
from django.db import (
    DEFAULT_DB_ALIAS,
    InterfaceError,
    NotSupportedError,
    OperationalError,
    connection,
    connections,
)

from devices import telemetry
from devices.database import drivers, slots
from devices.database.confirmation import follow_up_earlier
from devices.database.outages import OutageLog

ANSWERS = "answers"  # the standby's alias in DATABASES
INTERVAL = 0.5  # seconds between two heartbeats
KEPT = 60  # numbers whose moments are remembered
SECONDS = 0.5  # for an answer: then the primary has time to give it
MIN_PAUSE, MAX_PAUSE = 0.5, 8.0  # seconds without asking a standby that failed

# In no transaction: the condition, which always holds, says that it waits for no standby. For the
# disk it waits: standbys are sent what is written there.
WRITE = """
INSERT INTO devices_heartbeat (process, number, written)
SELECT %s::text, %s::bigint, now()
 WHERE (SELECT set_config('synchronous_commit', 'local', true)) = 'local'
ON CONFLICT (process) DO UPDATE SET number = excluded.number, written = now()
"""
# Rows of processes that are gone.
FORGET = "DELETE FROM devices_heartbeat WHERE written < now() - interval '1 day'"
WITH_HEARTBEAT = """
SELECT heartbeat.number, asked.* FROM (SELECT 1) AS one
LEFT JOIN (SELECT number FROM devices_heartbeat WHERE process = %s) AS heartbeat ON true
LEFT JOIN (SELECT true AS present, question.* FROM ({sql}) AS question) AS asked ON true
"""

log = logging.getLogger(__name__)
outages = OutageLog(log)


class Heartbeats:
    """The numbers that this process wrote, and when it began to write each."""

    def __init__(self) -> None:
        self.process = secrets.token_hex(16)
        self._moments: dict[int, float] = {}
        self._number = 0

    def write(self) -> None:
        """Write the next number, without waiting for any standby."""
        self._number += 1
        self._moments[self._number] = time.monotonic()
        self._moments.pop(self._number - KEPT, None)
        drivers.run(connection, WRITE, [self.process, self._number])

    def age(self, number: int | None) -> float:
        """Return how old, in seconds, what a standby shows with this number may be at most."""
        moment = None if number is None else self._moments.get(number)
        return float("inf") if moment is None else time.monotonic() - moment


class Standby:
    """What this process knows of its standby: whether to ask it, and whether an answer holds."""

    def __init__(self, heartbeats: Heartbeats, lease: float) -> None:
        self._heartbeats = heartbeats
        self._lease = lease
        self._pause = MIN_PAUSE
        self._asked_again = 0.0
        self.process = heartbeats.process
        self.age = float("inf")  # as it was last seen

    def rows(self, sql: str, values: Sequence[object]) -> list[tuple[Any, ...]] | None:
        """Ask it; return the rows of a statement, None where the primary must be asked.

        That is so for whoever holds no slot with a standby, such as staff: they see what they
        wrote.
        """
        held = slots.held()
        if held is None or not held.has(ANSWERS) or connections[DEFAULT_DB_ALIAS].in_atomic_block:
            return None
        rows = self._asked(sql, values) if self.may_be_asked() else None
        telemetry.listener.answered_by("primary" if rows is None else "standby")
        return rows

    def _asked(self, sql: str, values: Sequence[object]) -> list[tuple[Any, ...]] | None:
        own = connections[ANSWERS]
        try:
            return self.fresh(
                drivers.run(own, with_heartbeat(sql), [self.process, *values], SECONDS)
            )
        except (OperationalError, InterfaceError, NotSupportedError) as error:
            own.close()
            self.failed(error)
            return None

    def may_be_asked(self) -> bool:
        """Whether it has neither failed nor been late a moment ago."""
        return time.monotonic() >= self._asked_again

    def failed(self, error: BaseException) -> None:
        """Take note that it did not answer: it is left alone for a while."""
        outages.note("the standby did not answer, the primary is asked", error)
        telemetry.listener.database_failed(ANSWERS)
        self._asked_again = time.monotonic() + self._pause
        self._pause = min(2 * self._pause, MAX_PAUSE)

    def fresh(self, rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]] | None:
        """Return the rows of a statement from those that came with its heartbeat.

        None where the lease has lapsed: the primary must be asked, and is until the next heartbeat.
        """
        self._pause = MIN_PAUSE
        self.age = age = self._heartbeats.age(rows[0][0])
        if age > self._lease:
            self._asked_again = time.monotonic() + INTERVAL
            return None
        return [row[2:] for row in rows if row[1]]


@cache
def with_heartbeat(sql: str) -> str:
    """Return a statement that reads a process's number, its first parameter, beside its rows."""
    return WITH_HEARTBEAT.replace("{sql}", sql)


standby: Standby | None = None


def start() -> None:
    """Write heartbeats in a thread of this process, and ask the standby, where there is one."""
    global standby  # noqa: PLW0603 - one a process
    if ANSWERS not in settings.DATABASES:
        return
    heartbeats = Heartbeats()
    standby = Standby(heartbeats, settings.ANSWERS_LEASE)
    follow_up_earlier()
    threading.Thread(target=_run, args=(heartbeats,), name="heartbeats", daemon=True).start()


def _run(heartbeats: Heartbeats) -> None:
    is_forgotten = False
    while True:
        began = time.monotonic()
        try:
            heartbeats.write()
            if not is_forgotten:
                with connection.cursor() as cursor:
                    cursor.execute(FORGET)
                is_forgotten = True
        except (OperationalError, InterfaceError) as error:
            outages.note("no heartbeat was written", error)
            connection.close()
        except Exception:
            log.exception("no heartbeat was written")
            connection.close()
        time.sleep(max(0.05, INTERVAL - (time.monotonic() - began)))
