from django.db import migrations, models

from devices.database.indexes import AddIndexMeanwhile


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("devices", "0021_jobs")]

    operations = [
        AddIndexMeanwhile(
            model_name="device",
            index=models.Index(
                condition=models.Q(("enabled", False)),
                fields=["id"],
                name="devices_device_disabled",
            ),
        ),
    ]
