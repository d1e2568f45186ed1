from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("devices", "0008_keys_issued_once")]

    operations = [
        migrations.AlterModelOptions(
            name="device",
            options={
                "ordering": ["identifier"],
                "permissions": [("try_credential", "Can try a device's credentials")],
                "verbose_name": "device",
                "verbose_name_plural": "devices",
            },
        ),
    ]
