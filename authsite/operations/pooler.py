"""Find out whether a pooler stands before the database, and what it would break."""

import contextlib
import secrets

import psycopg
from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, DatabaseError, InterfaceError, connections
from psycopg.pq import ExecStatus


def complaints() -> list[str]:
    """Return what is wrong with the settings for the pooler that is found, if there is one.

    Two connections of ours that are one of the server's share it by transactions.
    """
    connection = connections.create_connection(DEFAULT_DB_ALIAS)
    if connection.vendor != "postgresql":
        return []
    other = connections.create_connection(DEFAULT_DB_ALIAS)
    try:
        connection.ensure_connection()
        other.ensure_connection()
        return _judge(connection.connection, other.connection)
    except (DatabaseError, InterfaceError, psycopg.Error):
        return []  # the database cannot be asked now: the server says so by itself
    finally:
        for opened in (connection, other):
            with contextlib.suppress(DatabaseError, InterfaceError, psycopg.Error):
                opened.close()


def _judge(first: "psycopg.Connection[object]", second: "psycopg.Connection[object]") -> list[str]:
    # A name of its own: the server's connection may have been somebody else's before.
    name = f"authsite_{secrets.token_hex(8)}".encode()
    prepared = first.pgconn.prepare(name, b"SELECT 1")
    pid = first.execute("SELECT pg_backend_pid()", prepare=False).fetchone()
    with second.transaction():
        shared = second.execute("SELECT pg_backend_pid()", prepare=False).fetchone() == pid
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
    return found
