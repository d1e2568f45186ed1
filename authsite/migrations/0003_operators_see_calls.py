"""Let the roles Operator and Security see the journal of calls: why a device is refused."""

from django.db import migrations

from authsite import roles


def establish(apps, schema_editor):
    roles.establish(apps)


def withdraw(apps, schema_editor):
    for group in apps.get_model("auth", "Group").objects.filter(name__in=["Operator", "Security"]):
        seen = group.permissions.filter(content_type__app_label="rpc", codename="view_callrecord")
        group.permissions.remove(*seen)


class Migration(migrations.Migration):
    dependencies = [("authsite", "0002_hash_session_keys")]

    operations = [migrations.RunPython(establish, withdraw, elidable=False)]
