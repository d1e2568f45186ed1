from django.db import migrations

from devices.database.constraints import know_origin

MODELS = ["assertion", "commandpermission", "commandset", "commandsetpattern"]
ORIGINS = [
    ("admin", "Admin"),
    ("api", "API"),
    ("command", "Command"),
    ("import", "Import"),
    ("shell", "Shell or script"),
    ("registry", "The registry itself"),
]


class Migration(migrations.Migration):
    dependencies = [("acl", "0014_call_permissions_rules")]

    operations = know_origin("acl", MODELS, ORIGINS)
