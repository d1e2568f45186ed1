from django.db import migrations, models

from devices.database.indexes import AddIndexMeanwhile


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("devices", "0015_changes_in_batches")]

    operations = [
        AddIndexMeanwhile(
            model_name="historicalcertificate",
            index=models.Index(
                condition=models.Q(("batch__isnull", False)),
                fields=["batch", "history_id"],
                name="devices_certificate_batch",
            ),
        ),
        AddIndexMeanwhile(
            model_name="historicalcertificateauthority",
            index=models.Index(
                condition=models.Q(("batch__isnull", False)),
                fields=["batch", "history_id"],
                name="devices_certificateautho_batch",
            ),
        ),
        AddIndexMeanwhile(
            model_name="historicaldevice",
            index=models.Index(
                condition=models.Q(("batch__isnull", False)),
                fields=["batch", "history_id"],
                name="devices_device_batch",
            ),
        ),
        AddIndexMeanwhile(
            model_name="historicaldevicegroup",
            index=models.Index(
                condition=models.Q(("batch__isnull", False)),
                fields=["batch", "history_id"],
                name="devices_devicegroup_batch",
            ),
        ),
        AddIndexMeanwhile(
            model_name="historicalmembership",
            index=models.Index(
                condition=models.Q(("batch__isnull", False)),
                fields=["batch", "history_id"],
                name="devices_membership_batch",
            ),
        ),
        AddIndexMeanwhile(
            model_name="historicalpresharedkey",
            index=models.Index(
                condition=models.Q(("batch__isnull", False)),
                fields=["batch", "history_id"],
                name="devices_presharedkey_batch",
            ),
        ),
        AddIndexMeanwhile(
            model_name="historicalrevocationlist",
            index=models.Index(
                condition=models.Q(("batch__isnull", False)),
                fields=["batch", "history_id"],
                name="devices_revocationlist_batch",
            ),
        ),
    ]
