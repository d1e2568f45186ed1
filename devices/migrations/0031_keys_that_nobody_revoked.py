from typing import Any

from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor

# Which devices have no usable key: all devices are held against this index, without the table. A use
# of a key writes none of its columns, and so stays in its page (0029).
INDEXES = {
    "devices_key_unrevoked": "devices_presharedkey (device_id)"
    " INCLUDE (not_after, not_before, pepper) WHERE revoked_at IS NULL",
}


def create(_apps: Any, schema_editor: BaseDatabaseSchemaEditor) -> None:
    if schema_editor.connection.vendor == "postgresql":
        for name, columns in INDEXES.items():
            schema_editor.execute(f"CREATE INDEX CONCURRENTLY IF NOT EXISTS {name} ON {columns}")


def drop(_apps: Any, schema_editor: BaseDatabaseSchemaEditor) -> None:
    if schema_editor.connection.vendor == "postgresql":
        for name in INDEXES:
            schema_editor.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("devices", "0030_kinds_of_account_events")]

    operations = [migrations.RunPython(create, drop)]
