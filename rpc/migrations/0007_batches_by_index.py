from django.db import migrations, models

from devices.database.indexes import AddIndexMeanwhile


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("rpc", "0006_changes_in_batches")]

    operations = [
        AddIndexMeanwhile(
            model_name="historicaldeviceserviceroute",
            index=models.Index(
                condition=models.Q(("batch__isnull", False)),
                fields=["batch", "history_id"],
                name="rpc_deviceserviceroute_batch",
            ),
        ),
        AddIndexMeanwhile(
            model_name="historicalrtioserver",
            index=models.Index(
                condition=models.Q(("batch__isnull", False)),
                fields=["batch", "history_id"],
                name="rpc_rtioserver_batch",
            ),
        ),
        AddIndexMeanwhile(
            model_name="historicalsessionending",
            index=models.Index(
                condition=models.Q(("batch__isnull", False)),
                fields=["batch", "history_id"],
                name="rpc_sessionending_batch",
            ),
        ),
    ]
