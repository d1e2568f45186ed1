from django.db import migrations

from devices.database.constraints import know_origin

MODELS = [
    "attributedefinition",
    "certificate",
    "certificateauthority",
    "device",
    "devicegroup",
    "membership",
    "presharedkey",
    "revocationlist",
    "webhook",
]
ORIGINS = [
    ("admin", "Admin"),
    ("api", "API"),
    ("command", "Command"),
    ("import", "Import"),
    ("shell", "Shell or script"),
    ("registry", "The registry itself"),
]


class Migration(migrations.Migration):
    dependencies = [("devices", "0034_kinds_of_events_by_name")]

    operations = know_origin("devices", MODELS, ORIGINS)
