from django.db import migrations, models

from devices.database.indexes import AddIndexMeanwhile, RemoveIndexMeanwhile


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("devices", "0032_keys_by_label_and_hint")]

    operations = [
        AddIndexMeanwhile(
            model_name="presharedkey",
            index=models.Index(
                condition=models.Q(("not_after__isnull", False), ("revoked_at", None)),
                fields=["not_after", "device"],
                name="devices_key_ends_by_device",
            ),
        ),
        RemoveIndexMeanwhile(model_name="presharedkey", name="devices_key_ends"),
    ]
