"""Find out what of PostgreSQL, or of a pooler before it, does not fit."""

import contextlib
import secrets

import psycopg
from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, DatabaseError, InterfaceError, connections
from psycopg.pq import ExecStatus

SKIPS_IN_INDEXES = 17  # the first release that reads an index in one go for several lists of values


def complaints() -> list[str]:
    """Return what the server, and the settings for the pooler that is found, should have otherwise.

    Two connections of ours that are one of the server's share it by transactions.
    """
    connection = connections.create_connection(DEFAULT_DB_ALIAS)
    if connection.vendor != "postgresql":
        return []
    other = connections.create_connection(DEFAULT_DB_ALIAS)
    try:
        connection.ensure_connection()
        other.ensure_connection()
        found = _judge(connection.connection, other.connection)
        ((release,),) = connection.connection.execute(  # a pooler tells a number of its own
            "SELECT current_setting('server_version_num')::int / 10000", prepare=False
        ).fetchall()
    except (DatabaseError, InterfaceError, psycopg.Error):
        return []  # the database cannot be asked now: the server says so by itself
    finally:
        for opened in (connection, other):
            with contextlib.suppress(DatabaseError, InterfaceError, psycopg.Error):
                opened.close()
    if release < SKIPS_IN_INDEXES:
        found.append(
            f"PostgreSQL {release} answers correctly, but decisions about devices in many groups "
            f"take several times as long as with {SKIPS_IN_INDEXES} or newer."
        )
    return found


def _judge(first: "psycopg.Connection[object]", second: "psycopg.Connection[object]") -> list[str]:
    # A name of its own: the server's connection may have been somebody else's before.
    name = f"authsite_{secrets.token_hex(8)}".encode()
    prepared = first.pgconn.prepare(name, b"SELECT 1")
    pid = first.execute("SELECT pg_backend_pid()", prepare=False).fetchone()
    with second.transaction():
        shared = second.execute("SELECT pg_backend_pid()", prepare=False).fetchone() == pid
        compiles = second.execute("SELECT pg_jit_available()", prepare=False).fetchone()
        followed = (
            prepared.status == ExecStatus.COMMAND_OK
            and first.pgconn.exec_prepared(name, []).status == ExecStatus.TUPLES_OK
        )
    if not shared:
        return []
    found = []
    if not settings.DATABASE_POOLER:
        found.append(
            "A pooler hands the database's connections on after each transaction: set "
            "DATABASE_POOLER=on, or pages that read through a cursor will fail, and may end the "
            "process that serves them."
        )
    if first.prepare_threshold is not None and not followed:
        found.append(
            "PREPARED_STATEMENTS is on, and the pooler does not follow prepared statements: set "
            "PREPARED_STATEMENTS=off, or its max_prepared_statements (PgBouncer 1.21 and later)."
        )
    if compiles == (True,):
        found.append(
            "PostgreSQL's jit is on: to compile a decision's statement can take longer than a "
            "device waits. ALTER ROLE … SET jit = off for the role of DATABASE_URL."
        )
    return found
