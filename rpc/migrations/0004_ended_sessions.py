import django.db.models.deletion
import simple_history.models
from django.db import migrations, models

import devices.history.context


class Migration(migrations.Migration):
    dependencies = [
        ("devices", "0009_try_credential"),
        ("rpc", "0003_rtio_endpoints"),
    ]

    operations = [
        migrations.CreateModel(
            name="HistoricalSessionEnding",
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
                    "identifier",
                    models.CharField(editable=False, max_length=255, verbose_name="device"),
                ),
                (
                    "cause",
                    models.CharField(
                        choices=[
                            ("disabled", "the device was disabled"),
                            ("deleted", "the device was deleted"),
                            ("revoked", "its last credential was revoked"),
                            ("rotated", "its keys were rotated at once"),
                            ("asked", "staff asked for it"),
                        ],
                        editable=False,
                        max_length=16,
                        verbose_name="why",
                    ),
                ),
                ("requested_at", models.DateTimeField(editable=False, verbose_name="requested")),
                (
                    "requested_by",
                    models.CharField(blank=True, editable=False, max_length=150, verbose_name="by"),
                ),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("waiting", "not ended yet"),
                            ("ended", "ended"),
                            ("not-connected", "no session left; not known to be connected there"),
                            ("cancelled", "not ended: the device may connect again"),
                            ("given-up", "could not be ended"),
                        ],
                        default="waiting",
                        editable=False,
                        max_length=16,
                        verbose_name="state",
                    ),
                ),
                (
                    "detail",
                    models.CharField(
                        blank=True, editable=False, max_length=255, verbose_name="last problem"
                    ),
                ),
                (
                    "attempts",
                    models.PositiveIntegerField(default=0, editable=False, verbose_name="attempts"),
                ),
                (
                    "intercepted",
                    models.PositiveIntegerField(
                        default=0, editable=False, verbose_name="one-time secrets used by others"
                    ),
                ),
                (
                    "ended_after",
                    models.PositiveIntegerField(
                        editable=False, null=True, verbose_name="ended after (ms)"
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
            ],
            options={
                "verbose_name": "historical ended session",
                "verbose_name_plural": "historical ended sessions",
                "ordering": ("-history_date", "-history_id"),
                "get_latest_by": ("history_date", "history_id"),
            },
            bases=(simple_history.models.HistoricalChanges, models.Model),
        ),
        migrations.CreateModel(
            name="SessionEnding",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "identifier",
                    models.CharField(editable=False, max_length=255, verbose_name="device"),
                ),
                (
                    "cause",
                    models.CharField(
                        choices=[
                            ("disabled", "the device was disabled"),
                            ("deleted", "the device was deleted"),
                            ("revoked", "its last credential was revoked"),
                            ("rotated", "its keys were rotated at once"),
                            ("asked", "staff asked for it"),
                        ],
                        editable=False,
                        max_length=16,
                        verbose_name="why",
                    ),
                ),
                ("requested_at", models.DateTimeField(editable=False, verbose_name="requested")),
                (
                    "requested_by",
                    models.CharField(blank=True, editable=False, max_length=150, verbose_name="by"),
                ),
                (
                    "origin",
                    models.CharField(
                        choices=[
                            ("admin", "Admin"),
                            ("command", "Command"),
                            ("import", "Import"),
                            ("shell", "Shell or script"),
                        ],
                        editable=False,
                        max_length=16,
                        verbose_name="from",
                    ),
                ),
                (
                    "admitted_here",
                    models.BooleanField(
                        default=False,
                        editable=False,
                        help_text="Whether the journal says that this server let the device in last.",
                        verbose_name="last let in here",
                    ),
                ),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("waiting", "not ended yet"),
                            ("ended", "ended"),
                            ("not-connected", "no session left; not known to be connected there"),
                            ("cancelled", "not ended: the device may connect again"),
                            ("given-up", "could not be ended"),
                        ],
                        default="waiting",
                        editable=False,
                        max_length=16,
                        verbose_name="state",
                    ),
                ),
                (
                    "detail",
                    models.CharField(
                        blank=True, editable=False, max_length=255, verbose_name="last problem"
                    ),
                ),
                (
                    "attempts",
                    models.PositiveIntegerField(default=0, editable=False, verbose_name="attempts"),
                ),
                (
                    "intercepted",
                    models.PositiveIntegerField(
                        default=0, editable=False, verbose_name="one-time secrets used by others"
                    ),
                ),
                (
                    "ended_after",
                    models.PositiveIntegerField(
                        editable=False, null=True, verbose_name="ended after (ms)"
                    ),
                ),
                ("due_at", models.DateTimeField(editable=False, verbose_name="next attempt")),
                ("claim", models.UUIDField(editable=False, null=True)),
                ("secret_digest", models.CharField(editable=False, max_length=64, null=True)),
                ("secret_valid_until", models.DateTimeField(editable=False, null=True)),
                ("secret_used_at", models.DateTimeField(editable=False, null=True)),
            ],
            options={
                "verbose_name": "ended session",
                "verbose_name_plural": "ended sessions",
                "ordering": ["-requested_at", "-pk"],
                "permissions": [("end_session", "Can end a device's session")],
                "default_permissions": ("view",),
            },
        ),
        migrations.AddField(
            model_name="historicalsessionending",
            name="device",
            field=models.ForeignKey(
                blank=True,
                db_constraint=False,
                db_index=False,
                editable=False,
                null=True,
                on_delete=django.db.models.deletion.DO_NOTHING,
                related_name="+",
                to="devices.device",
                verbose_name="device",
            ),
        ),
        migrations.AddField(
            model_name="historicalsessionending",
            name="server",
            field=models.ForeignKey(
                blank=True,
                db_constraint=False,
                db_index=False,
                editable=False,
                null=True,
                on_delete=django.db.models.deletion.DO_NOTHING,
                related_name="+",
                to="rpc.rtioserver",
                verbose_name="RTIO server",
            ),
        ),
        migrations.AddField(
            model_name="sessionending",
            name="device",
            field=models.ForeignKey(
                db_constraint=False,
                editable=False,
                null=True,
                on_delete=django.db.models.deletion.DO_NOTHING,
                related_name="+",
                to="devices.device",
                verbose_name="device",
            ),
        ),
        migrations.AddField(
            model_name="sessionending",
            name="server",
            field=models.ForeignKey(
                editable=False,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="endings",
                to="rpc.rtioserver",
                verbose_name="RTIO server",
            ),
        ),
        migrations.AddIndex(
            model_name="historicalsessionending",
            index=models.Index(fields=["id", "history_id"], name="rpc_histori_id_89f8ce_idx"),
        ),
        migrations.AddIndex(
            model_name="historicalsessionending",
            index=models.Index(
                fields=["device", "history_id"], name="rpc_histori_device__381c46_idx"
            ),
        ),
        migrations.AddIndex(
            model_name="historicalsessionending",
            index=models.Index(
                fields=["history_date", "history_id"], name="rpc_histori_history_431515_idx"
            ),
        ),
        migrations.AddIndex(
            model_name="historicalsessionending",
            index=models.Index(
                fields=["history_user_id", "history_date", "history_id"],
                name="rpc_histori_history_99bccb_idx",
            ),
        ),
        migrations.AddConstraint(
            model_name="historicalsessionending",
            constraint=models.CheckConstraint(
                condition=models.Q(("origin__in", ["admin", "command", "import", "shell"])),
                name="rpc_sessionending_history_origin_known",
            ),
        ),
        migrations.AddIndex(
            model_name="sessionending",
            index=models.Index(
                condition=models.Q(("state", "waiting")), fields=["due_at"], name="rpc_ending_due"
            ),
        ),
        migrations.AddIndex(
            model_name="sessionending",
            index=models.Index(fields=["identifier", "-requested_at"], name="rpc_ending_device"),
        ),
        migrations.AddIndex(
            model_name="sessionending",
            index=models.Index(fields=["-requested_at"], name="rpc_ending_time"),
        ),
        migrations.AddConstraint(
            model_name="sessionending",
            constraint=models.UniqueConstraint(
                condition=models.Q(("state", "waiting")),
                fields=("identifier", "server"),
                name="rpc_ending_waits_once",
            ),
        ),
        migrations.AddConstraint(
            model_name="sessionending",
            constraint=models.UniqueConstraint(
                fields=("secret_digest",), name="rpc_ending_secret_unique"
            ),
        ),
        migrations.AddConstraint(
            model_name="sessionending",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("state__in", ["waiting", "ended", "not-connected", "cancelled", "given-up"])
                ),
                name="rpc_ending_state_known",
            ),
        ),
        migrations.AddConstraint(
            model_name="sessionending",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("cause__in", ["disabled", "deleted", "revoked", "rotated", "asked"])
                ),
                name="rpc_ending_cause_known",
            ),
        ),
        migrations.AddConstraint(
            model_name="sessionending",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("secret_digest", None), ("secret_valid_until__isnull", False), _connector="OR"
                ),
                name="rpc_ending_secret_ends",
            ),
        ),
    ]
