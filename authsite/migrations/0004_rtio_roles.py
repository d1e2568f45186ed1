"""What the groups may do with RTIO servers, routes and sessions."""

from django.db import migrations

from authsite import roles


def establish(apps, schema_editor):
    roles.establish(apps)


class Migration(migrations.Migration):
    dependencies = [("authsite", "0003_operators_see_calls"), ("rpc", "0004_ended_sessions")]

    operations = [migrations.RunPython(establish, migrations.RunPython.noop, elidable=False)]
