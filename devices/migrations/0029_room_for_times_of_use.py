from typing import Any

from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor

# Room in each page of PostgreSQL's tables for rows that are written again with a newer time of use:
# a row that stays in its page needs no new entry in any index, eight of devices among them. Holds
# for pages that are filled from now on; no row is moved, and no writer waits.
TABLES = ("devices_device", "devices_presharedkey", "devices_certificate")


def leave_room(_apps: Any, schema_editor: BaseDatabaseSchemaEditor) -> None:
    if schema_editor.connection.vendor == "postgresql":
        for table in TABLES:
            schema_editor.execute(f"ALTER TABLE {table} SET (fillfactor = 85)")


def leave_none(_apps: Any, schema_editor: BaseDatabaseSchemaEditor) -> None:
    if schema_editor.connection.vendor == "postgresql":
        for table in TABLES:
            schema_editor.execute(f"ALTER TABLE {table} RESET (fillfactor)")


class Migration(migrations.Migration):
    dependencies = [("devices", "0028_call_pre_shared_keys_keys")]

    operations = [migrations.RunPython(leave_room, leave_none)]
