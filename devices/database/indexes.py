"""Indexes that are made, and removed, while the registry answers.

PostgreSQL makes them without a lock that writers wait for, but in no transaction: an attempt that
is interrupted leaves an index that is marked invalid. No query uses it, each write keeps it up, and
its name is taken. So an operation that is run again begins where the one before ended, and
`migrate` has invalid indexes made anew first (`remake_invalid`). (docs/operations.md, "Upgrades")
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from django.conf import settings
from django.contrib.postgres.operations import AddIndexConcurrently, RemoveIndexConcurrently
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations import AddIndex, RemoveIndex

# How long it may wait for transactions that began before: it waits for all that write to the table,
# however short a lock `migrate` waits for, and nothing waits for it meanwhile.
PATIENCE = "10min"

STATE = {
    "postgresql": "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(%s)",
    "sqlite": "SELECT true FROM sqlite_master WHERE type = 'index' AND name = %s",
}
# Of the tables that are named; but none that another session is making at this moment.
INVALID = """
SELECT indexrelid::regclass::text
  FROM pg_index
 WHERE NOT indisvalid AND indrelid = ANY(%s::regclass[])
   AND indexrelid NOT IN (SELECT index_relid FROM pg_stat_progress_create_index)
 ORDER BY 1
"""
# What PostgreSQL calls its own half-made copies: the index that they were to replace is there.
COPY = re.compile(r'_cc(new|old)\d*"?\Z')


@contextmanager
def patience(connection: BaseDatabaseWrapper) -> Iterator[None]:
    """Wait for locks for up to PATIENCE within the block, whatever was set before.

    Behind a pooler, where `migrate` sets no shorter wait, none is set: the connection to the server
    is another one at each statement, and somebody else's would be left with it.
    """
    if settings.DATABASE_POOLER:
        yield
        return
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('lock_timeout')")
        before = cursor.fetchone()[0]
        cursor.execute("SELECT set_config('lock_timeout', %s, false)", [PATIENCE])
        try:
            yield
        finally:
            cursor.execute("SELECT set_config('lock_timeout', %s, false)", [before])


def remake_invalid(connection: BaseDatabaseWrapper) -> list[str]:
    """Make anew, without a lock that writers wait for, each index of ours that is invalid.

    Return their names. In a transaction, and on SQLite, there is nothing to do.
    """
    if connection.vendor != "postgresql" or connection.in_atomic_block:
        return []
    tables = connection.introspection.django_table_names(only_existing=True)
    names = list(map(connection.ops.quote_name, tables))
    with connection.cursor() as cursor:
        cursor.execute(INVALID, [names])
        invalid = [name for (name,) in cursor.fetchall()]
        with patience(connection):
            for name in filter(COPY.search, invalid):
                cursor.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
            remade = [name for name in invalid if not COPY.search(name)]
            for name in remade:
                cursor.execute(f"REINDEX INDEX CONCURRENTLY {name}")
    return remade


class _Meanwhile:
    """Runs an operation of PostgreSQL's without a lock that writers wait for; elsewhere `plain`.

    Its migration is not atomic: what an interrupted one has done already is left as it is.
    """

    plain: Any
    adds: bool  # an index, where it is run forwards

    def _name(self) -> str:
        raise NotImplementedError

    def database_forwards(self, app_label: str, schema_editor: Any, *states: Any) -> None:
        self._run("database_forwards", app_label, schema_editor, *states, adds=self.adds)

    def database_backwards(self, app_label: str, schema_editor: Any, *states: Any) -> None:
        self._run("database_backwards", app_label, schema_editor, *states, adds=not self.adds)

    def _run(
        self, direction: str, app_label: str, schema_editor: Any, *states: Any, adds: bool
    ) -> None:
        connection = schema_editor.connection
        is_shown = schema_editor.collect_sql  # and not run
        if not is_shown and self._is_there(connection) == adds:
            return
        if connection.vendor != "postgresql":
            getattr(self.plain, direction)(self, app_label, schema_editor, *states)
            return
        with nullcontext() if is_shown else patience(connection):
            getattr(super(), direction)(app_label, schema_editor, *states)

    def _is_there(self, connection: BaseDatabaseWrapper) -> bool:
        """Whether the index is there; one that is invalid is taken away."""
        is_sqlite = connection.vendor == "sqlite"
        name = self._name() if is_sqlite else connection.ops.quote_name(self._name())
        with connection.cursor() as cursor:
            cursor.execute(STATE[connection.vendor], [name])
            found = cursor.fetchone()
            if found is None or found[0]:
                return found is not None
            with patience(connection):
                cursor.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
        return False


class AddIndexMeanwhile(_Meanwhile, AddIndexConcurrently):
    """Add an index while others write."""

    plain = AddIndex
    adds = True

    def _name(self) -> str:
        return str(self.index.name)


class RemoveIndexMeanwhile(_Meanwhile, RemoveIndexConcurrently):
    """Remove an index while others write."""

    plain = RemoveIndex
    adds = False

    def _name(self) -> str:
        return self.name
