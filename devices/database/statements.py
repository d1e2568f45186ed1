"""SQL that is written once and run many times.

Building a query costs Django ten times what the database needs to answer it. The machine
endpoints ask the same few questions over and over, so each is a `Statement`.
"""

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

from django.db import (
    DEFAULT_DB_ALIAS,
    InterfaceError,
    NotSupportedError,
    OperationalError,
    connection,
    connections,
    transaction,
)
from django.db.backends.base.base import BaseDatabaseWrapper

from devices.database import answers, deadlines, drivers

Answer = TypeVar("Answer")


def execute(
    connection: BaseDatabaseWrapper,
    sql: str,
    parameters: Sequence[Any],
    seconds: float = deadlines.SECONDS,
) -> list[tuple[Any, ...]]:
    """Run one statement and return every row; none where it only writes.

    `seconds` is how long PostgreSQL may take to answer. A connection that was open and turns out
    lost (the server was restarted) is opened again once; a server that cannot be reached, or does
    not answer in time, raises OperationalError.
    """
    if connection.in_atomic_block:  # which the driver's own cursors begin
        with connection.cursor() as cursor:
            cursor.execute(sql, drivers.for_cursor(connection, parameters))
            rows = cursor.fetchall() if cursor.description else []
        return drivers.aware(rows) if connection.vendor == "sqlite" else rows
    was_open = connection.connection is not None
    try:
        return drivers.run(connection, sql, parameters, seconds)
    except (OperationalError, InterfaceError, NotSupportedError) as error:
        is_altered = isinstance(error, NotSupportedError)  # a table, since it was planned
        if not is_altered and not drivers.is_lost(connection):
            raise
        connection.close()
        if not was_open or isinstance(error.__cause__, deadlines.Overdue):
            raise
        return drivers.run(connection, sql, parameters, seconds)


class Statement:
    """A query in SQL, with %s for its parameters: one text for both vendors, or texts by vendor.

    `{among}` in the text stands for membership of a list that is given when the statement is run:
    one placeholder whatever its length, so that there is one text to parse and to plan. `{each}`
    stands for a table of such a list, of texts, with a column `value`. `{state}` stands for a value
    that is another one after others have committed a change: what two statements read of one
    connection belongs together where it has stayed the same. It is NULL on SQLite, where a
    transaction costs less (`one_state`).
    """

    PLACEHOLDERS: Mapping[str, Mapping[str, str]] = {
        "sqlite": {
            "among": "IN (SELECT value FROM json_each(%s))",
            "each": "json_each(%s)",
            "state": "NULL",
        },
        "postgresql": {
            "among": "= ANY(%s)",
            "each": "unnest(%s::text[])",
            # A standby's snapshot does not name the transactions that are under way: where an older
            # one is, the last one whose end was replayed tells what has been committed. (A primary:
            # NULL.)
            "state": "concat(pg_current_snapshot(), ' ', pg_last_xact_replay_timestamp())",
        },
    }

    def __init__(self, sql: str | Mapping[str, str]) -> None:
        texts = dict.fromkeys(self.PLACEHOLDERS, sql) if isinstance(sql, str) else sql
        self.sql = {
            vendor: text.format(**self.PLACEHOLDERS[vendor]) for vendor, text in texts.items()
        }

    def rows(self, *values: object) -> list[tuple[Any, ...]]:
        """Run with a value for each placeholder, in order; it fails as `execute` does.

        Values are texts, numbers, moments, and lists of texts or numbers. Moments come back aware.
        """
        connection = connections[DEFAULT_DB_ALIAS]
        rows = None
        if answers.standby is not None:
            rows = answers.standby.rows(self.sql[connection.vendor], values)
        return execute(connection, self.sql[connection.vendor], values) if rows is None else rows


class Query(NamedTuple):
    """A statement, and a value for each of its placeholders."""

    statement: Statement
    values: tuple[object, ...]


# What asks the database as a generator: it yields each query, is sent its rows, and returns what
# they mean. So the same lines run in a thread, which waits (`answered`), and in the event loop,
# which never does (`devices.database.in_loop`).
Steps = Generator[Query, list[tuple[Any, ...]], Answer]


class MustWait(Exception):
    """An answer takes longer than the event loop may be held up: a thread has to find it."""


def answered(steps: Steps[Answer]) -> Answer:
    """Put each query of the steps to the database and return what they come to."""
    try:
        query = next(steps)
        while True:
            query = steps.send(query.statement.rows(*query.values))
    except StopIteration as end:
        result: Answer = end.value
        return result


@contextmanager
def one_state() -> Iterator[None]:
    """Have all statements within see one state of the registry, whoever writes meanwhile.

    They only read. In a transaction that has begun already they see what it sees.
    """
    if connection.in_atomic_block:
        yield
    elif connection.vendor == "sqlite":
        connection.ensure_connection()
        with drivers.one_state(connection):
            yield
    else:
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            yield
