"""What the groups may do with tokens of the API and with service accounts."""

from django.db import migrations

from authsite import roles


def establish(apps, schema_editor):
    roles.establish(apps)


class Migration(migrations.Migration):
    dependencies = [("authsite", "0005_api_tokens")]

    operations = [migrations.RunPython(establish, migrations.RunPython.noop, elidable=False)]
