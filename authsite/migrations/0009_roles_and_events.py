"""What the groups may do with events and webhooks."""

from django.db import migrations

from authsite import roles


def establish(apps, schema_editor):
    roles.establish(apps)


class Migration(migrations.Migration):
    dependencies = [
        ("authsite", "0008_external_identities"),
        ("devices", "0019_events_and_webhooks"),
    ]

    operations = [migrations.RunPython(establish, migrations.RunPython.noop, elidable=False)]
