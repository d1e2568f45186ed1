"""The groups of staff accounts: Viewer, Operator, Security, Auditor."""

from django.db import migrations

from authsite import roles


def establish(apps, schema_editor):
    roles.establish(apps)


def abolish(apps, schema_editor):
    roles.abolish(apps)


class Migration(migrations.Migration):
    dependencies = [
        ("acl", "0008_expectations"),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("axes", "0010_accessattemptexpiration"),
        ("contenttypes", "0002_remove_content_type_name"),
        ("devices", "0009_try_credential"),
        ("rpc", "0001_calls"),
    ]

    operations = [migrations.RunPython(establish, abolish, elidable=False)]
