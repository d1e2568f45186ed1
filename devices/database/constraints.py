"""Constraints that migrations add to large tables. Migrations name what is here."""

from typing import Any

from django.db.migrations import AddConstraint
from django.db.models import CheckConstraint


class AddWiderCheck(AddConstraint):
    """Put a check in the place of a narrower one, which every row has passed.

    So no row is read: PostgreSQL holds its lock for a moment, however large the table is.
    """

    constraint: CheckConstraint

    def database_forwards(
        self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any
    ) -> None:
        """Add it; SQLite makes a new table, as for any constraint."""
        if schema_editor.connection.vendor != "postgresql":
            super().database_forwards(app_label, schema_editor, from_state, to_state)
            return
        model = to_state.apps.get_model(app_label, self.model_name)
        if self.allow_migrate_model(schema_editor.connection.alias, model):
            sql = self.constraint.create_sql(model, schema_editor)
            schema_editor.execute(f"{sql} NOT VALID", params=None)
