import django.core.validators
import django.db.models.deletion
import simple_history.models
from django.db import migrations, models

import devices.history.context


class Migration(migrations.Migration):
    dependencies = [
        ("devices", "0009_try_credential"),
        ("rpc", "0001_calls"),
    ]

    operations = [
        migrations.CreateModel(
            name="DeviceServiceRoute",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "uri",
                    models.CharField(
                        help_text="What devices name, such as /aa/bb: 3 to 128 characters, exactly.",
                        max_length=128,
                        validators=[django.core.validators.MinLengthValidator(3)],
                        verbose_name="URI",
                    ),
                ),
                (
                    "url",
                    models.CharField(
                        help_text="What RTIO posts to: http://… or https://…",
                        max_length=1024,
                        verbose_name="URL",
                    ),
                ),
                (
                    "enabled",
                    models.BooleanField(
                        default=True,
                        help_text="RTIO only ever sets routes: one that is disabled or deleted works until RTIO restarts.",
                        verbose_name="enabled",
                    ),
                ),
                ("note", models.CharField(blank=True, max_length=255, verbose_name="note")),
                (
                    "crc",
                    models.PositiveBigIntegerField(
                        editable=False, verbose_name="CRC-32 of the URI"
                    ),
                ),
            ],
            options={
                "verbose_name": "device service route",
                "verbose_name_plural": "device service routes",
                "ordering": ["uri"],
            },
        ),
        migrations.CreateModel(
            name="HistoricalDeviceServiceRoute",
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
                    "uri",
                    models.CharField(
                        help_text="What devices name, such as /aa/bb: 3 to 128 characters, exactly.",
                        max_length=128,
                        validators=[django.core.validators.MinLengthValidator(3)],
                        verbose_name="URI",
                    ),
                ),
                (
                    "url",
                    models.CharField(
                        help_text="What RTIO posts to: http://… or https://…",
                        max_length=1024,
                        verbose_name="URL",
                    ),
                ),
                (
                    "enabled",
                    models.BooleanField(
                        default=True,
                        help_text="RTIO only ever sets routes: one that is disabled or deleted works until RTIO restarts.",
                        verbose_name="enabled",
                    ),
                ),
                ("note", models.CharField(blank=True, max_length=255, verbose_name="note")),
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
                "verbose_name": "historical device service route",
                "verbose_name_plural": "historical device service routes",
                "ordering": ("-history_date", "-history_id"),
                "get_latest_by": ("history_date", "history_id"),
            },
            bases=(simple_history.models.HistoricalChanges, models.Model),
        ),
        migrations.CreateModel(
            name="HistoricalRtioServer",
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
                ("name", models.CharField(max_length=100, verbose_name="name")),
                (
                    "host",
                    models.CharField(
                        help_text="The name or IP address of its device port, as this registry reaches it.",
                        max_length=255,
                        verbose_name="host",
                    ),
                ),
                (
                    "port",
                    models.PositiveIntegerField(
                        default=17017,
                        help_text="RTIO's option -deviceaccess.addr.",
                        validators=[
                            django.core.validators.MinValueValidator(1),
                            django.core.validators.MaxValueValidator(65535),
                        ],
                        verbose_name="port",
                    ),
                ),
                (
                    "tls",
                    models.CharField(
                        choices=[
                            ("none", "No TLS, within this machine and private networks only"),
                            ("checked", "TLS, the certificate checked with its authority"),
                            ("pinned", "TLS, with this very certificate"),
                            (
                                "unprotected",
                                "No TLS anywhere: whoever listens on the way can read it",
                            ),
                        ],
                        default="none",
                        help_text="TLS where RTIO runs with -enable.hub.tls, or behind a front that ends it.",
                        max_length=16,
                        verbose_name="encryption",
                    ),
                ),
                (
                    "certificate",
                    models.TextField(
                        blank=True,
                        help_text="In PEM: the server's own, or that of the authority that issued it; without one, the system's authorities are asked.",
                        verbose_name="certificate",
                    ),
                ),
                (
                    "enabled",
                    models.BooleanField(
                        default=True,
                        help_text="Sessions are ended at enabled servers only.",
                        verbose_name="enabled",
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
                "verbose_name": "historical RTIO server",
                "verbose_name_plural": "historical RTIO servers",
                "ordering": ("-history_date", "-history_id"),
                "get_latest_by": ("history_date", "history_id"),
            },
            bases=(simple_history.models.HistoricalChanges, models.Model),
        ),
        migrations.CreateModel(
            name="RtioServer",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("name", models.CharField(max_length=100, verbose_name="name")),
                (
                    "host",
                    models.CharField(
                        help_text="The name or IP address of its device port, as this registry reaches it.",
                        max_length=255,
                        verbose_name="host",
                    ),
                ),
                (
                    "port",
                    models.PositiveIntegerField(
                        default=17017,
                        help_text="RTIO's option -deviceaccess.addr.",
                        validators=[
                            django.core.validators.MinValueValidator(1),
                            django.core.validators.MaxValueValidator(65535),
                        ],
                        verbose_name="port",
                    ),
                ),
                (
                    "tls",
                    models.CharField(
                        choices=[
                            ("none", "No TLS, within this machine and private networks only"),
                            ("checked", "TLS, the certificate checked with its authority"),
                            ("pinned", "TLS, with this very certificate"),
                            (
                                "unprotected",
                                "No TLS anywhere: whoever listens on the way can read it",
                            ),
                        ],
                        default="none",
                        help_text="TLS where RTIO runs with -enable.hub.tls, or behind a front that ends it.",
                        max_length=16,
                        verbose_name="encryption",
                    ),
                ),
                (
                    "certificate",
                    models.TextField(
                        blank=True,
                        help_text="In PEM: the server's own, or that of the authority that issued it; without one, the system's authorities are asked.",
                        verbose_name="certificate",
                    ),
                ),
                (
                    "enabled",
                    models.BooleanField(
                        default=True,
                        help_text="Sessions are ended at enabled servers only.",
                        verbose_name="enabled",
                    ),
                ),
            ],
            options={
                "verbose_name": "RTIO server",
                "verbose_name_plural": "RTIO servers",
                "ordering": ["name"],
            },
        ),
        migrations.AddConstraint(
            model_name="deviceserviceroute",
            constraint=models.UniqueConstraint(
                fields=("uri",),
                name="rpc_route_uri_unique",
                violation_error_message="A route for this URI exists.",
            ),
        ),
        migrations.AddConstraint(
            model_name="deviceserviceroute",
            constraint=models.UniqueConstraint(fields=("crc",), name="rpc_route_crc_unique"),
        ),
        migrations.AddConstraint(
            model_name="deviceserviceroute",
            constraint=models.CheckConstraint(
                condition=models.Q(("uri__startswith", "/")),
                name="rpc_route_uri_begins",
                violation_error_message="A URI begins with a slash.",
            ),
        ),
        migrations.AddConstraint(
            model_name="deviceserviceroute",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("url__startswith", "http://"), ("url__startswith", "https://"), _connector="OR"
                ),
                name="rpc_route_url_begins",
                violation_error_message="A URL begins with http:// or https://.",
            ),
        ),
        migrations.AddIndex(
            model_name="historicaldeviceserviceroute",
            index=models.Index(fields=["id", "history_id"], name="rpc_histori_id_1dbef9_idx"),
        ),
        migrations.AddIndex(
            model_name="historicaldeviceserviceroute",
            index=models.Index(
                fields=["history_date", "history_id"], name="rpc_histori_history_1c4a35_idx"
            ),
        ),
        migrations.AddIndex(
            model_name="historicaldeviceserviceroute",
            index=models.Index(
                fields=["history_user_id", "history_date", "history_id"],
                name="rpc_histori_history_a30ca0_idx",
            ),
        ),
        migrations.AddConstraint(
            model_name="historicaldeviceserviceroute",
            constraint=models.CheckConstraint(
                condition=models.Q(("origin__in", ["admin", "command", "import", "shell"])),
                name="rpc_deviceserviceroute_history_origin_known",
            ),
        ),
        migrations.AddField(
            model_name="historicalrtioserver",
            name="backend",
            field=models.ForeignKey(
                blank=True,
                db_constraint=False,
                db_index=False,
                help_text="The backend whose key the server shows when it calls. The journal then knows which server let a device in, and no other caller can end a session in its name.",
                limit_choices_to={"kind": "backend"},
                null=True,
                on_delete=django.db.models.deletion.DO_NOTHING,
                related_name="+",
                to="devices.device",
                verbose_name="calls as",
            ),
        ),
        migrations.AddField(
            model_name="rtioserver",
            name="backend",
            field=models.ForeignKey(
                blank=True,
                help_text="The backend whose key the server shows when it calls. The journal then knows which server let a device in, and no other caller can end a session in its name.",
                limit_choices_to={"kind": "backend"},
                null=True,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="rtio_servers",
                to="devices.device",
                verbose_name="calls as",
            ),
        ),
        migrations.AddIndex(
            model_name="historicalrtioserver",
            index=models.Index(fields=["id", "history_id"], name="rpc_histori_id_badf12_idx"),
        ),
        migrations.AddIndex(
            model_name="historicalrtioserver",
            index=models.Index(
                fields=["history_date", "history_id"], name="rpc_histori_history_323cce_idx"
            ),
        ),
        migrations.AddIndex(
            model_name="historicalrtioserver",
            index=models.Index(
                fields=["history_user_id", "history_date", "history_id"],
                name="rpc_histori_history_e3e8a1_idx",
            ),
        ),
        migrations.AddConstraint(
            model_name="historicalrtioserver",
            constraint=models.CheckConstraint(
                condition=models.Q(("origin__in", ["admin", "command", "import", "shell"])),
                name="rpc_rtioserver_history_origin_known",
            ),
        ),
        migrations.AddConstraint(
            model_name="rtioserver",
            constraint=models.UniqueConstraint(
                fields=("name",),
                name="rpc_rtioserver_name_unique",
                violation_error_message="An RTIO server of this name exists.",
            ),
        ),
        migrations.AddConstraint(
            model_name="rtioserver",
            constraint=models.UniqueConstraint(
                fields=("host", "port"),
                name="rpc_rtioserver_address_unique",
                violation_error_message="An RTIO server with this host and port exists.",
            ),
        ),
        migrations.AddConstraint(
            model_name="rtioserver",
            constraint=models.UniqueConstraint(
                fields=("backend",),
                name="rpc_rtioserver_backend_unique",
                violation_error_message="Another RTIO server calls as this backend.",
            ),
        ),
        migrations.AddConstraint(
            model_name="rtioserver",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("name", ""), _negated=True), models.Q(("host", ""), _negated=True)
                ),
                name="rpc_rtioserver_named",
            ),
        ),
        migrations.AddConstraint(
            model_name="rtioserver",
            constraint=models.CheckConstraint(
                condition=models.Q(("port__gte", 1), ("port__lte", 65535)),
                name="rpc_rtioserver_port_known",
            ),
        ),
        migrations.AddConstraint(
            model_name="rtioserver",
            constraint=models.CheckConstraint(
                condition=models.Q(("tls__in", ["none", "checked", "pinned", "unprotected"])),
                name="rpc_rtioserver_tls_known",
            ),
        ),
        migrations.AddConstraint(
            model_name="rtioserver",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("tls", "pinned"), _negated=True),
                    models.Q(("certificate", ""), _negated=True),
                    _connector="OR",
                ),
                name="rpc_rtioserver_pin_present",
                violation_error_message="Paste the certificate that the server shows.",
            ),
        ),
    ]
