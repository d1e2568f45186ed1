from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("devices", "0006_names_and_fingerprints_by_prefix"),
    ]

    operations = [
        migrations.AddIndex(
            model_name="device",
            index=models.Index(
                condition=models.Q(("kind", "backend")),
                fields=["identifier"],
                name="devices_device_backends",
            ),
        ),
    ]
