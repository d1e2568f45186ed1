"""Run one statement on the driver's own connection: every low-level name stands here.

Django's cursors would write each parameter into the SQL, and have it parsed and planned again.
psycopg's cursors spend twice the time on a short answer and number prepared statements by first
use, so that behind a pooler one name could mean two statements; here the name is a hash of the
text. Used are `Connection.pgconn` (psycopg's documented access to libpq), what its cursors read
rows with (`Transformer`), and two undocumented names of Django, `connection.connection` and
`wrap_database_errors`: tests/devices/database/test_drivers.py fails when one of them changes.
"""

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from typing import Any, NoReturn
from weakref import WeakKeyDictionary

import msgspec
import psycopg
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg.adapt import Transformer
from psycopg.pq import ConnStatus, DiagnosticField, ExecStatus, Format
from psycopg.pq.abc import PGconn, PGresult

from devices.database.deadlines import SECONDS, Deadline

Rows = list[tuple[Any, ...]]
Driver = psycopg.Connection[Any]

PLAIN = {str, int, bool, type(None)}  # what SQLite takes as it is
LOST_STATEMENT, KNOWN_STATEMENT = b"26000", b"42P05"  # SQLSTATE


def run(
    connection: BaseDatabaseWrapper, sql: str, parameters: Sequence[Any], seconds: float = SECONDS
) -> Rows:
    """Run a statement and return its rows; a failure is one of Django's database errors.

    `seconds` is how long PostgreSQL may take to answer.
    """
    with connection.wrap_database_errors:
        if connection.connection is None:
            connection.connect()
        if connection.vendor == "sqlite":
            return _run_on_sqlite(connection.connection, sql, parameters)
        return _run_on_postgres(connection.connection, sql, parameters, seconds)


def is_lost(connection: BaseDatabaseWrapper) -> bool:
    """Whether the server has closed the connection."""
    return isinstance(connection.connection, psycopg.Connection) and connection.connection.closed


def for_cursor(connection: BaseDatabaseWrapper, parameters: Sequence[Any]) -> list[Any]:
    """Return parameters as Django's cursors take them."""
    adapt = _for_sqlite if connection.vendor == "sqlite" else _as_array
    return [adapt(value) for value in parameters]


# --- SQLite ---------------------------------------------------------------------------------


def _run_on_sqlite(driver: sqlite3.Connection, sql: str, parameters: Sequence[Any]) -> Rows:
    values = [value if type(value) in PLAIN else _for_sqlite(value) for value in parameters]
    return aware(driver.execute(_with_question_marks(sql), values))


@contextmanager
def one_state(connection: BaseDatabaseWrapper) -> Iterator[None]:
    """Have what is read within be of one state; no writer waits for that (Django's would)."""
    with connection.wrap_database_errors:
        driver: sqlite3.Connection = connection.connection
        driver.execute("BEGIN")
        try:
            yield
        finally:
            driver.commit()


def aware(rows: Iterable[tuple[Any, ...]]) -> Rows:
    """Return SQLite's rows with the zone of their moments: it stores them in UTC, unsaid."""
    return [_aware(row) if datetime in map(type, row) else row for row in rows]


def _aware(row: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(
        [value.replace(tzinfo=UTC) if isinstance(value, datetime) else value for value in row]
    )


@cache
def _with_question_marks(sql: str) -> str:
    return sql.replace("%s", "?").replace("%%", "%")


def _for_sqlite(value: object) -> object:
    """Return a parameter as SQLite's driver takes it, which knows neither lists nor moments."""
    if isinstance(value, list):
        return msgspec.json.encode(value).decode()
    if isinstance(value, datetime):
        return str(value.astimezone(UTC).replace(tzinfo=None))
    return value


# --- PostgreSQL -----------------------------------------------------------------------------


class Prepared:
    """One statement on one connection: its name on the server, and how its columns are read."""

    __slots__ = ("is_known", "name", "reader")

    def __init__(self, sql: str) -> None:
        self.name = b"authsite_" + hashlib.blake2b(sql.encode(), digest_size=8).hexdigest().encode()
        self.is_known = False  # to the server
        self.reader: psycopg.abc.Transformer | None = None


_prepared: WeakKeyDictionary[Driver, dict[str, Prepared]] = WeakKeyDictionary()


def _run_on_postgres(driver: Driver, sql: str, parameters: Sequence[Any], seconds: float) -> Rows:
    """Run by libpq's blocking calls, which hold the interpreter for none of the wait.

    Parameters go as text whose types the server infers, so that one plan takes whatever comes.
    """
    statements = _prepared.get(driver)
    if statements is None:
        statements = _prepared[driver] = {}
    statement = statements.get(sql)
    if statement is None:
        statement = statements[sql] = Prepared(sql)
    with Deadline(driver, seconds):
        result = _result(
            driver, statement, _numbered(sql), [_for_postgres(value) for value in parameters]
        )
    return _rows(driver, statement, result)


def send(driver: Driver, sql: str, parameters: Sequence[Any]) -> bool:
    """Put a statement that has run once on this connection, and do not wait: see `received`.

    Where nothing is prepared, as behind a pooler that hands each transaction another connection of
    the server's, the text goes along each time: all of it is one message, and so one transaction.
    Whether all of it is sent; what is not goes out with `flush`, once the socket takes more.
    """
    values = [_for_postgres(value) for value in parameters]
    if driver.prepare_threshold is None:
        driver.pgconn.send_query_params(_numbered(sql), values)
    else:
        driver.pgconn.send_query_prepared(_prepared[driver][sql].name, values)
    return flush(driver)


def flush(driver: Driver) -> bool:
    """Send what the socket takes of what is left to send; whether that is all."""
    return driver.pgconn.flush() == 0


def received(driver: Driver, sql: str) -> Rows | None:
    """Return the rows of what was sent once they are there, None until then; never waits."""
    server = driver.pgconn
    server.consume_input()
    if server.is_busy():
        return None
    result = server.get_result()
    if result is None:
        raise psycopg.OperationalError("nothing was asked")
    rows = _rows(driver, _prepared[driver][sql], result)
    while server.get_result() is not None:  # what follows ends the statement, and is there, too
        pass
    return rows


def _rows(driver: Driver, statement: Prepared, result: PGresult) -> Rows:
    if result.status == ExecStatus.COMMAND_OK:
        return []  # a statement that writes
    if result.status != ExecStatus.TUPLES_OK:
        _fail(driver.pgconn, result)
    reader = statement.reader
    if reader is None:
        # For the adapters alone: `_prepared` would keep a connection that stood in it for good.
        reader = statement.reader = Transformer(driver.adapters)  # sessions are in UTC
        reader.set_pgresult(result, format=Format.TEXT)
    else:
        reader.set_pgresult(result, set_loaders=False)
    return reader.load_rows(0, result.ntuples, tuple)


def _result(driver: Driver, statement: Prepared, sql: bytes, values: Any) -> PGresult:
    server = driver.pgconn
    if driver.prepare_threshold is None:
        return server.exec_params(sql, values)
    if not statement.is_known:
        prepared = server.prepare(statement.name, sql)
        # A pooler may have handed us a server that knows it: the name is a hash of the text.
        if prepared.status != ExecStatus.COMMAND_OK and _code(prepared) != KNOWN_STATEMENT:
            return prepared
        statement.is_known = True
    result = server.exec_prepared(statement.name, values)
    if _code(result) == LOST_STATEMENT:  # or one that does not
        return server.exec_params(sql, values)
    return result


def _for_postgres(value: object) -> bytes | None:
    """Return a parameter as the server reads it, whatever its type."""
    if value is None:
        return None
    text = str(_as_array(value))
    if "\x00" in text:
        raise psycopg.DataError("PostgreSQL text holds no NUL")
    return text.encode()


def _as_array(value: object) -> object:
    """Return a list in the server's own notation: psycopg takes longer to write one."""
    if not isinstance(value, list):
        return value
    items = list(map(str, value))
    text = "".join(items)
    if "\\" in text or '"' in text:
        items = [item.replace("\\", "\\\\").replace('"', '\\"') for item in items]
    return '{"' + '","'.join(items) + '"}' if items else "{}"


@cache
def _numbered(sql: str) -> bytes:
    """Return the SQL with the server's own placeholders: $1, $2 and so on."""
    text, *others = sql.split("%s")
    for number, part in enumerate(others, 1):
        text += f"${number}{part}"
    return text.replace("%%", "%").encode()


def _code(result: PGresult) -> bytes | None:
    if result.status in (ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK):
        return None
    return result.error_field(DiagnosticField.SQLSTATE)


def _fail(server: PGconn, result: PGresult) -> NoReturn:
    """Raise what a result that is none means: as psycopg would, a lost connection by its name."""
    message = server.get_error_message()
    code = _code(result)
    if server.status != ConnStatus.OK or code is None:
        raise psycopg.OperationalError(message)
    try:
        kind = psycopg.errors.lookup(code.decode())
    except KeyError:  # of a newer server, or of something between
        kind = psycopg.OperationalError
    raise kind(message)
