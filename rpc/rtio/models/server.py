"""RTIO servers: where the device port of each is, and as which backend it calls."""

import re
from ipaddress import ip_address, ip_network
from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from devices.credentials import x509
from devices.history import Recorded, Records
from devices.models import Device

DEVICE_PORT = 17017  # RTIO's own default
HOST_NAME = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\Z")
NEAR = tuple(
    ip_network(network)
    for network in (
        "127.0.0.0/8",
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "169.254.0.0/16",
        "::1/128",
        "fc00::/7",
        "fe80::/10",
    )
)


class TlsMode(models.TextChoices):
    """How the connection to a server's device port is protected."""

    NONE = "none", _("No TLS, within this machine and private networks only")
    CHECKED = "checked", _("TLS, the certificate checked with its authority")
    PINNED = "pinned", _("TLS, with this very certificate")
    UNPROTECTED = "unprotected", _("No TLS anywhere: whoever listens on the way can read it")


class RtioServerQuerySet(models.QuerySet["RtioServer"]):
    def enabled(self) -> "RtioServerQuerySet":
        """Return the servers at which sessions are ended."""
        return self.filter(enabled=True)

    def by_caller(self) -> dict[str, "RtioServer"]:
        """Return the servers by what the journal calls them: their identity, else their address."""
        return {server.caller: server for server in self.select_related("backend").order_by("-pk")}


class RtioServer(Recorded):
    """An RTIO server: where its device port is, and as which backend it calls."""

    name = models.CharField(_("name"), max_length=100)
    host = models.CharField(
        _("host"),
        max_length=255,
        help_text=_("The name or IP address of its device port, as this registry reaches it."),
    )
    port = models.PositiveIntegerField(
        _("port"),
        default=DEVICE_PORT,
        validators=[MinValueValidator(1), MaxValueValidator(65535)],
        help_text=_("RTIO's option -deviceaccess.addr."),
    )
    tls = models.CharField(
        _("encryption"),
        max_length=16,
        choices=TlsMode,
        default=TlsMode.NONE,
        help_text=_("TLS where RTIO runs with -enable.hub.tls, or behind a front that ends it."),
    )
    certificate = models.TextField(
        _("certificate"),
        blank=True,
        help_text=_(
            "In PEM: the server's own, or that of the authority that issued it; without one, the "
            "system's authorities are asked."
        ),
    )
    backend = models.ForeignKey(
        Device,
        verbose_name=_("calls as"),
        null=True,
        blank=True,
        on_delete=models.CASCADE,
        related_name="rtio_servers",
        limit_choices_to={"kind": Device.Kind.BACKEND},
        help_text=_(
            "The backend whose key the server shows when it calls. The journal then knows which "
            "server let a device in, and no other caller can end a session in its name."
        ),
    )
    enabled = models.BooleanField(
        _("enabled"), default=True, help_text=_("Sessions are ended at enabled servers only.")
    )

    objects = RtioServerQuerySet.as_manager()
    history = Records()
    restored_fields = ("name", "host", "port", "tls", "certificate", "enabled")

    class Meta:
        ordering = ["name"]
        verbose_name = _("RTIO server")
        verbose_name_plural = _("RTIO servers")
        constraints = [
            models.UniqueConstraint(
                fields=["name"],
                name="rpc_rtioserver_name_unique",
                violation_error_message=_("An RTIO server of this name exists."),
            ),
            models.UniqueConstraint(
                fields=["host", "port"],
                name="rpc_rtioserver_address_unique",
                violation_error_message=_("An RTIO server with this host and port exists."),
            ),
            models.UniqueConstraint(
                fields=["backend"],
                name="rpc_rtioserver_backend_unique",
                violation_error_message=_("Another RTIO server calls as this backend."),
            ),
            models.CheckConstraint(
                condition=~Q(name="") & ~Q(host=""), name="rpc_rtioserver_named"
            ),
            models.CheckConstraint(
                condition=Q(port__gte=1, port__lte=65535), name="rpc_rtioserver_port_known"
            ),
            models.CheckConstraint(
                condition=Q(tls__in=TlsMode.values), name="rpc_rtioserver_tls_known"
            ),
            models.CheckConstraint(
                condition=~Q(tls=TlsMode.PINNED.value) | ~Q(certificate=""),
                name="rpc_rtioserver_pin_present",
                violation_error_message=_("Paste the certificate that the server shows."),
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def address(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def caller(self) -> str:
        """Return what the journal calls the server where it calls."""
        return self.backend.identifier if self.backend is not None else self.host

    def clean(self) -> None:
        """Refuse an address that is none, a certificate that is none, and plain text abroad."""
        super().clean()
        errors: dict[str, Any] = {}
        self.host = self.host.strip().removeprefix("[").removesuffix("]")
        near = is_near(self.host)
        if near is None and not HOST_NAME.match(self.host):
            errors["host"] = _("This is neither a host name nor an IP address.")
        if near is False and self.tls == TlsMode.NONE:
            errors["tls"] = _(
                "This address is outside private networks: choose TLS, or no TLS anywhere, on "
                "purpose."
            )
        if self.certificate.strip():
            try:
                x509.read(self.certificate)
            except x509.Refused as refusal:
                errors["certificate"] = refusal.as_validation_error()
            # TLS libraries take neither DER in base64 nor other text than ASCII beside a PEM.
            if "-----BEGIN " not in self.certificate or not self.certificate.isascii():
                errors["certificate"] = _("This is no certificate in PEM.")
        elif self.tls == TlsMode.PINNED:
            errors["certificate"] = _("Paste the certificate that the server shows.")
        if self.backend is not None and self.backend.kind != Device.Kind.BACKEND:
            errors["backend"] = _("This entity is no backend.")
        if errors:
            raise ValidationError(errors)


def is_near(host: str) -> bool | None:
    """Whether an IP address is on this machine or in a private network; None where it is none."""
    if host == "localhost":
        return True
    try:
        address = ip_address(host)
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None) or address
    return any(mapped in network for network in NEAR)
