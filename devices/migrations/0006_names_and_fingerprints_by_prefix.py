from typing import Any

from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor

# What the search over everything looks up by its beginning, byte by byte as in 0005. SQLite, whose
# LIKE uses no index, reads these tables.
INDEXES = {
    "devices_device_by_name": "devices_device (UPPER(name) text_pattern_ops)",
    "devices_certificate_by_prefix": "devices_certificate (fingerprint varchar_pattern_ops)",
}


def create(_apps: Any, schema_editor: BaseDatabaseSchemaEditor) -> None:
    if schema_editor.connection.vendor == "postgresql":
        for name, columns in INDEXES.items():
            schema_editor.execute(f"CREATE INDEX {name} ON {columns}")


def drop(_apps: Any, schema_editor: BaseDatabaseSchemaEditor) -> None:
    if schema_editor.connection.vendor == "postgresql":
        for name in INDEXES:
            schema_editor.execute(f"DROP INDEX {name}")


class Migration(migrations.Migration):
    dependencies = [("devices", "0005_devices_by_prefix")]

    operations = [migrations.RunPython(create, drop)]
