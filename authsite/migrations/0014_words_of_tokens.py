"""What narrows a token is called a limit; no column changes."""

from django.db import migrations, models


class Migration(migrations.Migration):
    """Call it so."""

    dependencies = [("authsite", "0013_roles_and_accounts")]

    operations = [
        migrations.AlterField(
            model_name=model,
            name="rules",
            field=models.JSONField(blank=True, default=list, verbose_name="limits"),
        )
        for model in ("apitoken", "historicalapitoken")
    ]
