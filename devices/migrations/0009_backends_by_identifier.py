from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("devices", "0008_try_credential"),
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
