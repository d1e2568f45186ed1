from typing import Any

from django.db import migrations, models

import devices.history.context
from devices.database.constraints import AddWiderCheck

CHECKS = [
    ("historicaldeviceserviceroute", "rpc_deviceserviceroute_history_origin_known"),
    ("historicalrtioserver", "rpc_rtioserver_history_origin_known"),
    ("historicalsessionending", "rpc_sessionending_history_origin_known"),
]
CHOICES = [
    ("admin", "Admin"),
    ("api", "API"),
    ("command", "Command"),
    ("import", "Import"),
    ("shell", "Shell or script"),
]


def tell_otherwise(apps: Any, _schema_editor: Any) -> None:
    """The check of before knows no changes of the API."""
    for model, _name in CHECKS:
        rows = apps.get_model("rpc", model)._default_manager
        rows.filter(origin="api").update(origin="shell")


def origin_field() -> Any:
    return models.CharField(
        choices=CHOICES,
        default=devices.history.context.current_origin,
        editable=False,
        max_length=16,
        verbose_name="from",
    )


class Migration(migrations.Migration):
    dependencies = [("rpc", "0007_batches_by_index")]

    operations = [
        *(migrations.RemoveConstraint(model, name) for model, name in CHECKS),
        *(migrations.AlterField(model, "origin", origin_field()) for model, _name in CHECKS),
        migrations.AlterField(
            "sessionending",
            "origin",
            models.CharField(choices=CHOICES, editable=False, max_length=16, verbose_name="from"),
        ),
        *(
            AddWiderCheck(
                model,
                models.CheckConstraint(
                    condition=models.Q(origin__in=["admin", "api", "command", "import", "shell"]),
                    name=name,
                ),
            )
            for model, name in CHECKS
        ),
        migrations.RunPython(migrations.RunPython.noop, tell_otherwise),
    ]
