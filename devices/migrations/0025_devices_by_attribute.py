from typing import Any

from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor

# Which devices have an attribute with a value: `attributes @> '{"floor": 2}'`. Without a lock that
# writers wait for. SQLite reads the table.
NAME = "devices_device_by_attribute"


def create(_apps: Any, schema_editor: BaseDatabaseSchemaEditor) -> None:
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(
            f"CREATE INDEX CONCURRENTLY IF NOT EXISTS {NAME} ON devices_device"
            " USING gin (attributes jsonb_path_ops)"
        )


def drop(_apps: Any, schema_editor: BaseDatabaseSchemaEditor) -> None:
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {NAME}")


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("devices", "0024_saved_filters")]

    operations = [migrations.RunPython(create, drop)]
