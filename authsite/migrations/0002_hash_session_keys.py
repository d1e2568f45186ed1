"""Store sessions under a hash of their keys: those of staff who are signed in go on."""

from django.db import migrations
from django.utils import timezone

from authsite.accounts.sessions import KEY_LENGTH, stored_key


def hash_keys(apps, schema_editor):
    sessions = apps.get_model("sessions", "Session").objects.using(schema_editor.connection.alias)
    sessions.filter(expire_date__lt=timezone.now()).delete()
    for key in list(sessions.values_list("pk", flat=True)):
        if len(key) != KEY_LENGTH:
            sessions.filter(pk=key).update(session_key=stored_key(key))


class Migration(migrations.Migration):
    dependencies = [("authsite", "0001_roles"), ("sessions", "0001_initial")]

    operations = [migrations.RunPython(hash_keys, migrations.RunPython.noop, elidable=True)]
