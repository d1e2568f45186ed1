"""Permissions are called as staff call what they are about: keys and rules."""

from django.db import migrations

WORDS = {
    ("devices", "presharedkey"): ("pre-shared key", "key"),
    ("devices", "historicalpresharedkey"): ("pre-shared key", "key"),
    ("acl", "commandpermission"): ("command permission", "rule"),
    ("acl", "historicalcommandpermission"): ("command permission", "rule"),
}


def _rename(apps, *, back):
    permissions = apps.get_model("auth", "Permission").objects
    for (app, model), words in WORDS.items():
        old, new = reversed(words) if back else words
        about = {"content_type__app_label": app, "content_type__model": model}
        for permission in permissions.filter(**about, name__endswith=old):
            permission.name = permission.name.removesuffix(old) + new
            permission.save(update_fields=["name"])


def rename(apps, schema_editor):
    _rename(apps, back=False)


def rename_back(apps, schema_editor):
    _rename(apps, back=True)


class Migration(migrations.Migration):
    dependencies = [
        ("authsite", "0010_roles_and_attributes"),
        ("acl", "0014_call_permissions_rules"),
        ("devices", "0028_call_pre_shared_keys_keys"),
    ]

    operations = [migrations.RunPython(rename, rename_back)]
