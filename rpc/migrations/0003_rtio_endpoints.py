from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("rpc", "0002_rtio_servers_and_routes"),
    ]

    operations = [
        migrations.RemoveConstraint(
            model_name="callrecord",
            name="rpc_call_endpoint_known",
        ),
        migrations.AlterField(
            model_name="callrecord",
            name="endpoint",
            field=models.CharField(
                choices=[
                    ("verifier", "RTIO device verifier"),
                    ("frames", "Cesanta frames"),
                    ("rest", "Cesanta REST form"),
                    ("hub", "RTIO hub configuration"),
                    ("issuer", "RTIO tokens for apps"),
                ],
                max_length=16,
                verbose_name="endpoint",
            ),
        ),
        migrations.AddConstraint(
            model_name="callrecord",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("endpoint__in", ["verifier", "frames", "rest", "hub", "issuer"])
                ),
                name="rpc_call_endpoint_known",
            ),
        ),
    ]
