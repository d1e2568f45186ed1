"""Indexes that are made, and removed, while the registry answers."""

from typing import Any

from django.contrib.postgres.operations import AddIndexConcurrently, RemoveIndexConcurrently
from django.db.migrations import AddIndex, RemoveIndex


class _Meanwhile:
    """Runs an operation of PostgreSQL's without a lock that writers wait for; elsewhere `plain`.

    Its migration is not atomic.
    """

    plain: Any

    def database_forwards(self, app_label: str, schema_editor: Any, *states: Any) -> None:
        if schema_editor.connection.vendor == "postgresql":
            super().database_forwards(app_label, schema_editor, *states)  # type: ignore[misc]
        else:
            self.plain.database_forwards(self, app_label, schema_editor, *states)

    def database_backwards(self, app_label: str, schema_editor: Any, *states: Any) -> None:
        if schema_editor.connection.vendor == "postgresql":
            super().database_backwards(app_label, schema_editor, *states)  # type: ignore[misc]
        else:
            self.plain.database_backwards(self, app_label, schema_editor, *states)


class AddIndexMeanwhile(_Meanwhile, AddIndexConcurrently):
    """Add an index while others write."""

    plain = AddIndex


class RemoveIndexMeanwhile(_Meanwhile, RemoveIndexConcurrently):
    """Remove an index while others write."""

    plain = RemoveIndex
