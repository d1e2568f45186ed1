"""Constraints that migrations add to large tables. Migrations name what is here."""

from collections.abc import Sequence
from typing import Any

from django.db.migrations import AddConstraint, AlterField, RemoveConstraint, RunPython
from django.db.migrations.operations.base import Operation
from django.db.models import CharField, CheckConstraint, Q

from devices.history.context import current_origin


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


def know_origin(
    app_label: str, names: Sequence[str], origins: Sequence[tuple[str, str]]
) -> list[Operation]:
    """Return what lets the histories of an app's models have the last of these origins, too.

    Backwards, changes from there are told as those of a shell, which every release knows.
    """
    new = origins[-1][0]
    checks = {f"historical{name}": f"{app_label}_{name}_history_origin_known" for name in names}

    def tell_otherwise(apps: Any, _schema_editor: Any) -> None:
        for model in checks:
            rows = apps.get_model(app_label, model)._default_manager
            rows.filter(origin=new).update(origin="shell")

    def field() -> Any:
        return CharField(
            choices=origins,
            default=current_origin,
            editable=False,
            max_length=16,
            verbose_name="from",
        )

    condition = Q(origin__in=[value for value, _label in origins])
    return [
        *(RemoveConstraint(model, name) for model, name in checks.items()),
        *(AlterField(model, "origin", field()) for model in checks),
        *(
            AddWiderCheck(model, CheckConstraint(condition=condition, name=name))
            for model, name in checks.items()
        ),
        RunPython(RunPython.noop, tell_otherwise),
    ]
