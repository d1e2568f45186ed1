from typing import Any

from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor

# What the list of keys looks up by its beginning, byte by byte as in 0005. Where there is none, there
# is no entry, and a use of a key writes none of these columns.
INDEXES = {
    "devices_key_by_label": "devices_presharedkey (label varchar_pattern_ops) WHERE label <> ''",
    "devices_key_by_hint": "devices_presharedkey (hint varchar_pattern_ops) WHERE hint <> ''",
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

    dependencies = [("devices", "0031_keys_that_nobody_revoked")]

    operations = [migrations.RunPython(create, drop)]
