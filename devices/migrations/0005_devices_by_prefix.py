from typing import Any

from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor

# PostgreSQL looks the beginning of an identifier up in an index only where the index compares byte
# by byte, which the unique one does not in most collations. On SQLite the unique one does.
INDEX = "devices_device_by_prefix"


def create(_apps: Any, schema_editor: BaseDatabaseSchemaEditor) -> None:
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(
            f"CREATE INDEX {INDEX} ON devices_device (identifier varchar_pattern_ops)"
        )


def drop(_apps: Any, schema_editor: BaseDatabaseSchemaEditor) -> None:
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(f"DROP INDEX {INDEX}")


class Migration(migrations.Migration):
    dependencies = [("devices", "0004_credentials_by_end")]

    operations = [migrations.RunPython(create, drop)]
