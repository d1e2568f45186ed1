from django.db import migrations, models

from devices.database.constraints import know_origin

MODELS = ["deviceserviceroute", "rtioserver", "sessionending"]
ORIGINS = [
    ("admin", "Admin"),
    ("api", "API"),
    ("command", "Command"),
    ("import", "Import"),
    ("shell", "Shell or script"),
    ("registry", "The registry itself"),
]


class Migration(migrations.Migration):
    dependencies = [("rpc", "0008_history_of_the_api")]

    operations = [
        *know_origin("rpc", MODELS, ORIGINS),
        migrations.AlterField(
            "sessionending",
            "origin",
            models.CharField(choices=ORIGINS, editable=False, max_length=16, verbose_name="from"),
        ),
    ]
