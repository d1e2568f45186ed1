from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("devices", "0009_try_credential"),
    ]

    operations = [
        migrations.AddField(
            model_name="certificate",
            name="issuers",
            field=models.ManyToManyField(
                editable=False,
                related_name="issued",
                to="devices.certificateauthority",
                verbose_name="issuer",
            ),
        ),
    ]
