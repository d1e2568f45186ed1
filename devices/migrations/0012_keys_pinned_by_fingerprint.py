from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("devices", "0011_link_certificate_issuers"),
    ]

    operations = [
        migrations.AddIndex(
            model_name="certificate",
            index=models.Index(
                condition=models.Q(("pin", "public-key")),
                fields=["public_key_fingerprint"],
                name="devices_cert_pinned_key",
            ),
        ),
    ]
