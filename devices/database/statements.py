"""SQL that is written once and run many times.

Building a query anew costs Django ten times what the database needs to answer it. The machine
endpoints ask the same few questions over and over, so each is a `Statement`: an ordinary QuerySet
whose variable parts are `Parameter`s, compiled once for each database vendor. What the ORM cannot
say (a recursive look-up) is a `WrittenStatement`.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any, NoReturn
from weakref import WeakKeyDictionary

import msgspec
import psycopg
from django.core.exceptions import EmptyResultSet
from django.db import (
    DEFAULT_DB_ALIAS,
    InterfaceError,
    NotSupportedError,
    OperationalError,
    connections,
)
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Expression, Field, Lookup, QuerySet
from django.db.models.sql.compiler import SQLCompiler
from psycopg import Connection
from psycopg.adapt import PyFormat, Transformer
from psycopg.pq import ConnStatus, ExecStatus
from psycopg.pq.abc import PGconn, PGresult

Converter = Callable[[Any, Any, BaseDatabaseWrapper], Any]


class Parameter(Expression):
    """A place in a query that gets its value when the statement is run."""

    def __init__(self, name: str, output_field: "Field[Any, Any]") -> None:
        super().__init__(output_field=output_field)
        self.name = name

    def as_sql(
        self, compiler: SQLCompiler, connection: BaseDatabaseWrapper
    ) -> tuple[str, tuple[Any, ...]]:
        """Compile to a placeholder whose parameter is this object itself."""
        return "%s", (self,)


class Among(Lookup):
    """Membership of a column in a list: `Among(F(column), Parameter(…))`, given when it is run.

    One placeholder whatever the length of the list, so that there is one text to parse and plan.
    """

    lookup_name = "among"

    def as_sqlite(
        self, compiler: SQLCompiler, connection: BaseDatabaseWrapper
    ) -> tuple[str, tuple[Any, ...]]:
        """Compile to a look-up of each item of a JSON array."""
        return self._as_text("{} IN (SELECT value FROM json_each({}))", compiler, connection)

    def as_postgresql(
        self, compiler: SQLCompiler, connection: BaseDatabaseWrapper
    ) -> tuple[str, tuple[Any, ...]]:
        """Compile to a look-up of each item of an array."""
        return self._as_text("{} = ANY({})", compiler, connection)

    def _as_text(
        self, template: str, compiler: SQLCompiler, connection: BaseDatabaseWrapper
    ) -> tuple[str, tuple[Any, ...]]:
        column, before = self.process_lhs(compiler, connection)
        values, after = self.process_rhs(compiler, connection)
        return template.format(column, values), (*before, *after)


def adapted(value: object, connection: BaseDatabaseWrapper) -> object:
    """Return a parameter as the vendor's driver takes it: SQLite's knows no list and no moment.

    PostgreSQL's knows lists, and takes longer to write one than the server to look it up.
    """
    if isinstance(value, list):
        if connection.vendor == "sqlite":
            return msgspec.json.encode(value).decode()
        return "{" + ",".join(map(_quoted, value)) + "}"
    if isinstance(value, datetime) and connection.vendor == "sqlite":
        return connection.ops.adapt_datetimefield_value(value)
    return value


def _quoted(item: object) -> str:
    """Return an item of an array as PostgreSQL reads it, whatever its type."""
    text = str(item)
    if "\\" in text or '"' in text:
        text = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'


class Compiled:
    """One statement in one vendor's SQL: the text, its parameters, and how columns are read."""

    def __init__(self, queryset: "QuerySet[Any, Any]", connection: BaseDatabaseWrapper) -> None:
        compiler = queryset.query.get_compiler(connection=connection)
        self.sql, self.parameters = compiler.as_sql()
        columns = [column for column, _, _ in compiler.select]
        self.converters: list[tuple[int, list[Converter], Any]] = [
            (position, converters, expression)
            for position, (converters, expression) in compiler.get_converters(columns).items()
        ]


def fetch(
    connection: BaseDatabaseWrapper, sql: str, parameters: Sequence[Any]
) -> list[tuple[Any, ...]]:
    """Run one statement and return every row.

    A connection that was open and turns out dead (the server was restarted) is opened anew
    once; a server that cannot be reached raises OperationalError.
    """
    was_open = connection.connection is not None
    # The retry below notices a dead connection; asking beforehand would double the round trips.
    connection.health_check_done = True  # type: ignore[attr-defined]
    try:
        return _run(connection, sql, parameters)
    except (OperationalError, InterfaceError, NotSupportedError):  # the last: altered meanwhile
        if not was_open or connection.in_atomic_block:
            raise
        connection.close()
        return _run(connection, sql, parameters)


def _run(
    connection: BaseDatabaseWrapper, sql: str, parameters: Sequence[Any]
) -> list[tuple[Any, ...]]:
    drive = DRIVERS.get(connection.vendor)
    if (
        drive is None
        or connection.in_atomic_block  # which psycopg itself begins
        or connection.queries_logged
        or connection.execute_wrappers
    ):
        with connection.cursor() as cursor:
            cursor.execute(sql, parameters)
            return list(cursor.fetchall())
    # Django's cursors would write each parameter into the SQL, and have it parsed and planned anew.
    with connection.wrap_database_errors:
        if connection.connection is None:
            connection.connect()
        return drive(connection.connection, sql, parameters)


def _on_sqlite(driver: Any, sql: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
    return list(driver.execute(_with_question_marks(sql), parameters))


@cache
def _with_question_marks(sql: str) -> str:
    return sql.replace("%s", "?").replace("%%", "%")


def _on_postgres(
    driver: "Connection[Any]", sql: str, parameters: Sequence[Any]
) -> list[tuple[Any, ...]]:
    """Run by libpq's blocking calls, which hold the GIL for none of the wait.

    psycopg's own cursors spend three times as long on a short answer. Parameters go as text whose
    types the server infers, so that one plan takes whatever values come.
    """
    adapter = Transformer(driver)
    values: Any = adapter.dump_sequence(parameters, [PyFormat.TEXT] * len(parameters))
    server = driver.pgconn
    if driver.prepare_threshold is None:
        result = server.exec_params(_numbered(sql), values)
    else:
        result = server.exec_prepared(_prepared(driver, sql), values)
    if result.status != ExecStatus.TUPLES_OK:
        _fail(server, result)
    adapter.set_pgresult(result)
    rows: list[tuple[Any, ...]] = adapter.load_rows(0, result.ntuples, tuple)
    return rows


@cache
def _numbered(sql: str) -> bytes:
    """Return the SQL with the server's own placeholders: $1, $2 and so on."""
    text, *others = sql.split("%s")
    for number, part in enumerate(others, 1):
        text += f"${number}{part}"
    return text.replace("%%", "%").encode()


_names: WeakKeyDictionary["Connection[Any]", dict[str, bytes]] = WeakKeyDictionary()


def _prepared(driver: "Connection[Any]", sql: str) -> bytes:
    """Return the name of the statement on this connection, which it is parsed for once."""
    names = _names.get(driver)
    if names is None:
        # Left alone, the server would plan a look-up in a list anew each time it is run.
        driver.pgconn.exec_(b"SET plan_cache_mode = force_generic_plan")
        names = _names[driver] = {}
    name = names.get(sql)
    if name is None:
        name = b"authsite_%d" % len(names)
        result = driver.pgconn.prepare(name, _numbered(sql))
        if result.status != ExecStatus.COMMAND_OK:
            _fail(driver.pgconn, result)
        names[sql] = name
    return name


def _fail(server: PGconn, result: PGresult) -> NoReturn:
    """Raise what a result that is none means: as psycopg would, a dead connection by its name."""
    if server.status != ConnStatus.OK:
        raise psycopg.OperationalError(server.get_error_message())
    raise psycopg.errors.error_from_result(result)


DRIVERS = {"sqlite": _on_sqlite, "postgresql": _on_postgres}


class Statement:
    """A query that is built once and then only run.

    `build` returns a QuerySet of tuples (`values_list`). Rows come back as tuples, converted as
    the ORM would. Running it takes no part in the QuerySet cache and costs one round trip.
    """

    def __init__(self, build: Callable[[], "QuerySet[Any, Any]"]) -> None:
        self._build = build
        self._compiled: dict[str, Compiled] = {}

    def rows(self, *, using: str = DEFAULT_DB_ALIAS, **values: object) -> list[tuple[Any, ...]]:
        """Run with `values` for the parameters and return every row; it fails as `fetch` does.

        A list is the value of a parameter within `Among`.
        """
        connection = connections[using]
        compiled = self._compiled.get(connection.vendor)
        if compiled is None:
            try:
                compiled = Compiled(self._build(), connection)
            except EmptyResultSet:  # pragma: no cover - a statement without rows is a mistake
                raise TypeError("the statement can never return a row") from None
            self._compiled[connection.vendor] = compiled
        parameters = [
            adapted(values[parameter.name], connection)
            if isinstance(parameter, Parameter)
            else parameter
            for parameter in compiled.parameters
        ]
        rows = fetch(connection, compiled.sql, parameters)
        if not compiled.converters:
            return rows
        return [self._converted(row, compiled, connection) for row in rows]

    @staticmethod
    def _converted(
        row: tuple[Any, ...], compiled: Compiled, connection: BaseDatabaseWrapper
    ) -> tuple[Any, ...]:
        columns = list(row)
        for position, converters, expression in compiled.converters:
            for convert in converters:
                columns[position] = convert(columns[position], expression, connection)
        return tuple(columns)


class WrittenStatement:
    """A query in each vendor's own words, for what the ORM cannot say.

    `{among}` in the text stands for membership of a list that is given when the statement is run:
    one placeholder whatever its length, so that there is one text to parse and to plan.
    """

    AMONG = {
        "sqlite": "IN (SELECT value FROM json_each(%s))",
        "postgresql": "= ANY(%s)",
    }

    def __init__(self, sql: str | Mapping[str, str]) -> None:
        self._sql = {
            vendor: (sql if isinstance(sql, str) else sql[vendor]).format(among=among)
            for vendor, among in self.AMONG.items()
        }

    def rows(self, *values: object, using: str = DEFAULT_DB_ALIAS) -> list[tuple[Any, ...]]:
        """Run with a value for each placeholder, in order; rows come back as the driver reads them.

        Lists and moments are adapted to the vendor. Failures are those of `fetch`.
        """
        connection = connections[using]
        return fetch(
            connection,
            self._sql[connection.vendor],
            [adapted(value, connection) for value in values],
        )
