"""Whom accounts of staff belong to at a provider, in a directory or behind a proxy."""

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("authsite", "0007_history_of_the_api"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="ExternalIdentity",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "source",
                    models.CharField(
                        choices=[
                            ("openid", "OpenID Connect"),
                            ("ldap", "LDAP"),
                            ("proxy", "Trusted proxy"),
                        ],
                        max_length=10,
                        verbose_name="source",
                    ),
                ),
                (
                    "issuer",
                    models.CharField(
                        blank=True,
                        help_text="Of OpenID Connect: the address of the provider.",
                        max_length=255,
                        verbose_name="issuer",
                    ),
                ),
                ("subject", models.CharField(max_length=255, verbose_name="subject")),
                (
                    "last_signed_on_at",
                    models.DateTimeField(blank=True, null=True, verbose_name="last signed on"),
                ),
                (
                    "user",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="external_identity",
                        to=settings.AUTH_USER_MODEL,
                        verbose_name="account",
                    ),
                ),
            ],
            options={
                "verbose_name": "external identity",
                "verbose_name_plural": "external identities",
                "default_permissions": ("view", "delete"),
                "constraints": [
                    models.UniqueConstraint(
                        models.F("source"),
                        models.F("issuer"),
                        models.F("subject"),
                        name="authsite_external_identity_unique",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("source__in", ["openid", "ldap", "proxy"])),
                        name="authsite_external_identity_source_known",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("subject", ""), _negated=True),
                        name="authsite_external_identity_subject_given",
                    ),
                ],
            },
        ),
    ]
