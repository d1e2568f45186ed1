"""Say of the claim of a delivery that no form edits it; the database changes nothing."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("devices", "0026_kinds_of_attribute_events"),
    ]

    operations = [
        migrations.AlterField(
            model_name="delivery",
            name="claim",
            field=models.UUIDField(editable=False, null=True),
        ),
    ]
