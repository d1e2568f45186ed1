"""Tokens of the API, service accounts, their history, and the uses of rules with a rate."""

import django.db.models.deletion
import simple_history.models
from django.conf import settings
from django.db import migrations, models

import devices.history.context


class Migration(migrations.Migration):
    dependencies = [
        ("authsite", "0004_rtio_roles"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="ApiToken",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "revoked_at",
                    models.DateTimeField(
                        blank=True, editable=False, null=True, verbose_name="revoked"
                    ),
                ),
                (
                    "revoked_by",
                    models.CharField(
                        blank=True, editable=False, max_length=150, verbose_name="revoked by"
                    ),
                ),
                (
                    "revoked_reason",
                    models.CharField(
                        blank=True,
                        editable=False,
                        max_length=255,
                        verbose_name="reason of the revocation",
                    ),
                ),
                (
                    "name",
                    models.CharField(
                        help_text="Which program holds it, and where; the history shows it.",
                        max_length=100,
                        verbose_name="name",
                    ),
                ),
                (
                    "identifier",
                    models.CharField(
                        editable=False, max_length=16, unique=True, verbose_name="identifier"
                    ),
                ),
                ("digest", models.CharField(editable=False, max_length=64, verbose_name="digest")),
                ("pepper", models.CharField(editable=False, max_length=32, verbose_name="pepper")),
                (
                    "scopes",
                    models.JSONField(
                        help_text="What it may do, as far as its owner may.", verbose_name="scopes"
                    ),
                ),
                (
                    "networks",
                    models.JSONField(
                        blank=True,
                        default=list,
                        help_text="From where it may be used (CIDR); from anywhere if there is none.",
                        verbose_name="networks",
                    ),
                ),
                ("rules", models.JSONField(blank=True, default=list, verbose_name="rules")),
                (
                    "not_after",
                    models.DateTimeField(blank=True, null=True, verbose_name="valid until"),
                ),
                ("created", models.DateTimeField(auto_now_add=True, verbose_name="created")),
                (
                    "last_used",
                    models.DateTimeField(
                        blank=True, editable=False, null=True, verbose_name="last used"
                    ),
                ),
                (
                    "last_used_from",
                    models.GenericIPAddressField(
                        blank=True, editable=False, null=True, verbose_name="last used from"
                    ),
                ),
                (
                    "owner",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="tokens",
                        to=settings.AUTH_USER_MODEL,
                        verbose_name="owner",
                    ),
                ),
            ],
            options={
                "verbose_name": "API token",
                "verbose_name_plural": "API tokens",
                "ordering": ["-pk"],
                "default_permissions": ("view", "add", "change"),
            },
        ),
        migrations.CreateModel(
            name="HistoricalApiToken",
            fields=[
                ("id", models.BigIntegerField(auto_created=True, blank=True, verbose_name="ID")),
                (
                    "origin",
                    models.CharField(
                        choices=[
                            ("admin", "Admin"),
                            ("command", "Command"),
                            ("import", "Import"),
                            ("shell", "Shell or script"),
                        ],
                        default=devices.history.context.current_origin,
                        editable=False,
                        max_length=16,
                        verbose_name="from",
                    ),
                ),
                (
                    "batch",
                    models.UUIDField(
                        default=devices.history.context.current_batch,
                        editable=False,
                        null=True,
                        verbose_name="batch",
                    ),
                ),
                (
                    "request",
                    models.CharField(
                        db_default="",
                        default=devices.history.context.current_request,
                        editable=False,
                        max_length=64,
                        verbose_name="request",
                    ),
                ),
                (
                    "revoked_at",
                    models.DateTimeField(
                        blank=True, editable=False, null=True, verbose_name="revoked"
                    ),
                ),
                (
                    "revoked_by",
                    models.CharField(
                        blank=True, editable=False, max_length=150, verbose_name="revoked by"
                    ),
                ),
                (
                    "revoked_reason",
                    models.CharField(
                        blank=True,
                        editable=False,
                        max_length=255,
                        verbose_name="reason of the revocation",
                    ),
                ),
                (
                    "name",
                    models.CharField(
                        help_text="Which program holds it, and where; the history shows it.",
                        max_length=100,
                        verbose_name="name",
                    ),
                ),
                (
                    "identifier",
                    models.CharField(editable=False, max_length=16, verbose_name="identifier"),
                ),
                (
                    "scopes",
                    models.JSONField(
                        help_text="What it may do, as far as its owner may.", verbose_name="scopes"
                    ),
                ),
                (
                    "networks",
                    models.JSONField(
                        blank=True,
                        default=list,
                        help_text="From where it may be used (CIDR); from anywhere if there is none.",
                        verbose_name="networks",
                    ),
                ),
                ("rules", models.JSONField(blank=True, default=list, verbose_name="rules")),
                (
                    "not_after",
                    models.DateTimeField(blank=True, null=True, verbose_name="valid until"),
                ),
                ("history_change_reason", models.CharField(blank=True, default="", max_length=255)),
                ("history_user_id", models.CharField(blank=True, default="", max_length=150)),
                (
                    "history_id",
                    models.BigAutoField(editable=False, primary_key=True, serialize=False),
                ),
                ("history_date", models.DateTimeField()),
                (
                    "history_type",
                    models.CharField(
                        choices=[("+", "Created"), ("~", "Changed"), ("-", "Deleted")], max_length=1
                    ),
                ),
                (
                    "owner",
                    models.ForeignKey(
                        blank=True,
                        db_constraint=False,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                        verbose_name="owner",
                    ),
                ),
            ],
            options={
                "verbose_name": "historical API token",
                "verbose_name_plural": "historical API tokens",
                "ordering": ("-history_date", "-history_id"),
                "get_latest_by": ("history_date", "history_id"),
            },
            bases=(simple_history.models.HistoricalChanges, models.Model),
        ),
        migrations.CreateModel(
            name="HistoricalServiceAccount",
            fields=[
                ("id", models.BigIntegerField(auto_created=True, blank=True, verbose_name="ID")),
                (
                    "origin",
                    models.CharField(
                        choices=[
                            ("admin", "Admin"),
                            ("command", "Command"),
                            ("import", "Import"),
                            ("shell", "Shell or script"),
                        ],
                        default=devices.history.context.current_origin,
                        editable=False,
                        max_length=16,
                        verbose_name="from",
                    ),
                ),
                (
                    "batch",
                    models.UUIDField(
                        default=devices.history.context.current_batch,
                        editable=False,
                        null=True,
                        verbose_name="batch",
                    ),
                ),
                (
                    "request",
                    models.CharField(
                        db_default="",
                        default=devices.history.context.current_request,
                        editable=False,
                        max_length=64,
                        verbose_name="request",
                    ),
                ),
                (
                    "purpose",
                    models.CharField(
                        blank=True,
                        help_text="What the program does, and where it runs.",
                        max_length=255,
                        verbose_name="purpose",
                    ),
                ),
                ("history_change_reason", models.CharField(blank=True, default="", max_length=255)),
                ("history_user_id", models.CharField(blank=True, default="", max_length=150)),
                (
                    "history_id",
                    models.BigAutoField(editable=False, primary_key=True, serialize=False),
                ),
                ("history_date", models.DateTimeField()),
                (
                    "history_type",
                    models.CharField(
                        choices=[("+", "Created"), ("~", "Changed"), ("-", "Deleted")], max_length=1
                    ),
                ),
                (
                    "answerable",
                    models.ForeignKey(
                        blank=True,
                        db_constraint=False,
                        db_index=False,
                        help_text="While this account is disabled, the service's tokens are refused.",
                        limit_choices_to={"is_active": True, "is_staff": True},
                        null=True,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                        verbose_name="answered for by",
                    ),
                ),
                (
                    "user",
                    models.ForeignKey(
                        blank=True,
                        db_constraint=False,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                        verbose_name="account",
                    ),
                ),
            ],
            options={
                "verbose_name": "historical service account",
                "verbose_name_plural": "historical service accounts",
                "ordering": ("-history_date", "-history_id"),
                "get_latest_by": ("history_date", "history_id"),
            },
            bases=(simple_history.models.HistoricalChanges, models.Model),
        ),
        migrations.CreateModel(
            name="RuleUse",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("rule", models.PositiveSmallIntegerField()),
                ("moment", models.DateTimeField()),
                ("count", models.PositiveIntegerField()),
                (
                    "token",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="uses",
                        to="authsite.apitoken",
                    ),
                ),
            ],
            options={
                "default_permissions": (),
            },
        ),
        migrations.CreateModel(
            name="ServiceAccount",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "purpose",
                    models.CharField(
                        blank=True,
                        help_text="What the program does, and where it runs.",
                        max_length=255,
                        verbose_name="purpose",
                    ),
                ),
                ("created", models.DateTimeField(auto_now_add=True, verbose_name="created")),
                (
                    "answerable",
                    models.ForeignKey(
                        help_text="While this account is disabled, the service's tokens are refused.",
                        limit_choices_to={"is_active": True, "is_staff": True},
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="answers_for",
                        to=settings.AUTH_USER_MODEL,
                        verbose_name="answered for by",
                    ),
                ),
                (
                    "user",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="service_account",
                        to=settings.AUTH_USER_MODEL,
                        verbose_name="account",
                    ),
                ),
            ],
            options={
                "verbose_name": "service account",
                "verbose_name_plural": "service accounts",
                "ordering": ["user__username"],
                "default_permissions": ("view", "add", "change"),
            },
        ),
        migrations.AddConstraint(
            model_name="apitoken",
            constraint=models.UniqueConstraint(
                condition=models.Q(("revoked_at", None)),
                fields=("owner", "name"),
                name="authsite_token_name_unique",
                violation_error_message="The owner has a token of this name: end that one, or choose another name.",
            ),
        ),
        migrations.AddConstraint(
            model_name="apitoken",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("digest", ""), _negated=True),
                    models.Q(("pepper", ""), _negated=True),
                    models.Q(("identifier", ""), _negated=True),
                ),
                name="authsite_token_digest_present",
            ),
        ),
        migrations.AddIndex(
            model_name="historicalapitoken",
            index=models.Index(fields=["id", "history_id"], name="authsite_hi_id_fe25ec_idx"),
        ),
        migrations.AddIndex(
            model_name="historicalapitoken",
            index=models.Index(
                fields=["history_date", "history_id"], name="authsite_hi_history_cf2698_idx"
            ),
        ),
        migrations.AddIndex(
            model_name="historicalapitoken",
            index=models.Index(
                fields=["history_user_id", "history_date", "history_id"],
                name="authsite_hi_history_89fe09_idx",
            ),
        ),
        migrations.AddIndex(
            model_name="historicalapitoken",
            index=models.Index(
                condition=models.Q(("batch__isnull", False)),
                fields=["batch", "history_id"],
                name="authsite_apitoken_batch",
            ),
        ),
        migrations.AddConstraint(
            model_name="historicalapitoken",
            constraint=models.CheckConstraint(
                condition=models.Q(("origin__in", ["admin", "command", "import", "shell"])),
                name="authsite_apitoken_history_origin_known",
            ),
        ),
        migrations.AddIndex(
            model_name="historicalserviceaccount",
            index=models.Index(fields=["id", "history_id"], name="authsite_hi_id_9c85a6_idx"),
        ),
        migrations.AddIndex(
            model_name="historicalserviceaccount",
            index=models.Index(
                fields=["history_date", "history_id"], name="authsite_hi_history_fd450d_idx"
            ),
        ),
        migrations.AddIndex(
            model_name="historicalserviceaccount",
            index=models.Index(
                fields=["history_user_id", "history_date", "history_id"],
                name="authsite_hi_history_55411d_idx",
            ),
        ),
        migrations.AddIndex(
            model_name="historicalserviceaccount",
            index=models.Index(
                condition=models.Q(("batch__isnull", False)),
                fields=["batch", "history_id"],
                name="authsite_serviceaccount_batch",
            ),
        ),
        migrations.AddConstraint(
            model_name="historicalserviceaccount",
            constraint=models.CheckConstraint(
                condition=models.Q(("origin__in", ["admin", "command", "import", "shell"])),
                name="authsite_serviceaccount_history_origin_known",
            ),
        ),
        migrations.AddIndex(
            model_name="ruleuse",
            index=models.Index(fields=["token", "rule", "moment"], name="authsite_rule_use"),
        ),
    ]
