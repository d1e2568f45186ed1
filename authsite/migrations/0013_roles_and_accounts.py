"""What the groups may do with accounts, over the API."""

from django.db import migrations

from authsite import roles


def establish(apps, schema_editor):
    roles.establish(apps)


class Migration(migrations.Migration):
    dependencies = [("authsite", "0012_accounts_by_the_api")]

    operations = [migrations.RunPython(establish, migrations.RunPython.noop, elidable=False)]
