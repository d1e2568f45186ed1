"""What the groups may do with the types of attributes."""

from django.db import migrations

from authsite import roles


def establish(apps, schema_editor):
    roles.establish(apps)


class Migration(migrations.Migration):
    dependencies = [
        ("authsite", "0009_roles_and_events"),
        ("devices", "0023_attribute_definitions"),
    ]

    operations = [migrations.RunPython(establish, migrations.RunPython.noop, elidable=False)]
