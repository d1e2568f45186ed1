from typing import Any

from django.db import migrations, models

import devices.history.context
from devices.database.constraints import AddWiderCheck

CHECKS = [
    ("historicalapitoken", "authsite_apitoken_history_origin_known"),
    ("historicalserviceaccount", "authsite_serviceaccount_history_origin_known"),
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
        rows = apps.get_model("authsite", model)._default_manager
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
    dependencies = [("authsite", "0006_roles_and_tokens")]

    operations = [
        *(migrations.RemoveConstraint(model, name) for model, name in CHECKS),
        *(migrations.AlterField(model, "origin", origin_field()) for model, _name in CHECKS),
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
