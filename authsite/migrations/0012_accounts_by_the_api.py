from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [
        ("auth", "0012_alter_user_first_name_max_length"),
        ("authsite", "0011_names_of_permissions"),
    ]

    operations = [
        migrations.CreateModel(
            name="Account",
            fields=[],
            options={
                "verbose_name": "account",
                "verbose_name_plural": "accounts",
                "proxy": True,
                "default_permissions": ("view", "add", "change"),
                "indexes": [],
                "constraints": [],
            },
            bases=("auth.user",),
        ),
    ]
