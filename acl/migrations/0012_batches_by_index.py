from django.db import migrations, models

from devices.database.indexes import AddIndexMeanwhile


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("acl", "0011_changes_in_batches")]

    operations = [
        AddIndexMeanwhile(
            model_name="historicalassertion",
            index=models.Index(
                condition=models.Q(("batch__isnull", False)),
                fields=["batch", "history_id"],
                name="acl_assertion_batch",
            ),
        ),
        AddIndexMeanwhile(
            model_name="historicalcommandpermission",
            index=models.Index(
                condition=models.Q(("batch__isnull", False)),
                fields=["batch", "history_id"],
                name="acl_commandpermission_batch",
            ),
        ),
        AddIndexMeanwhile(
            model_name="historicalcommandset",
            index=models.Index(
                condition=models.Q(("batch__isnull", False)),
                fields=["batch", "history_id"],
                name="acl_commandset_batch",
            ),
        ),
        AddIndexMeanwhile(
            model_name="historicalcommandsetpattern",
            index=models.Index(
                condition=models.Q(("batch__isnull", False)),
                fields=["batch", "history_id"],
                name="acl_commandsetpattern_batch",
            ),
        ),
    ]
