from django.db import migrations

from authsite import roles


def establish(apps, schema_editor):
    roles.establish(apps)


class Migration(migrations.Migration):
    dependencies = [
        ("authsite", "0001_roles"),
        ("devices", "0009_try_credential"),
        ("rpc", "0001_calls"),
    ]

    operations = [migrations.RunPython(establish, migrations.RunPython.noop, elidable=False)]
