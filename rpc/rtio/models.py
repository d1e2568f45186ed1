"""RTIO servers, the routes of their device services, and the sessions that are ended at them."""

import json
import re
import zlib
from collections.abc import Mapping
from datetime import datetime, timedelta
from ipaddress import ip_address, ip_network
from typing import Any
from urllib.parse import urlsplit

from cryptography import x509
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinLengthValidator, MinValueValidator
from django.db import models, transaction
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from devices.addresses import MAX_LENGTH
from devices.history import ChangeType, Origin, Recorded, Records
from devices.models import Device

DEVICE_PORT = 17017  # RTIO's own default
MAX_CONFIG_LENGTH = 2048  # characters of the map of routes; RTIO's page on its hub configuration
MIN_URI_LENGTH, MAX_URI_LENGTH = 3, 128  # characters
# On RTIO's own machine, at the discard port, where nothing listens.
REFUSING_URL = "http://127.0.0.1:9/refused"
HOST_NAME = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\Z")
ID_BYTES = 36  # RTIO's device port takes no other length
GIVE_UP_AFTER = timedelta(hours=1)  # of trying to end a session
ATTENTION = timedelta(days=7)  # how long the start page names what could not be ended


# --- Servers --------------------------------------------------------------------------------


class TlsMode(models.TextChoices):
    """How the connection to a server's device port is protected."""

    NONE = "none", _("No TLS, within this machine and private networks only")
    CHECKED = "checked", _("TLS, the certificate checked with its authority")
    PINNED = "pinned", _("TLS, with this very certificate")
    UNPROTECTED = "unprotected", _("No TLS anywhere: whoever listens on the way can read it")


class RtioServerQuerySet(models.QuerySet["RtioServer"]):
    """The RTIO servers that devices connect to."""

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
                x509.load_pem_x509_certificate(self.certificate.encode())
            except ValueError:
                errors["certificate"] = _("This is no certificate in PEM.")
        elif self.tls == TlsMode.PINNED:
            errors["certificate"] = _("Paste the certificate that the server shows.")
        if self.backend is not None and self.backend.kind != Device.Kind.BACKEND:
            errors["backend"] = _("This entity is no backend.")
        if errors:
            raise ValidationError(errors)


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


# --- Routes ---------------------------------------------------------------------------------


def config_text(routes: dict[str, str]) -> str:
    """Return the map of routes as RTIO reads it: compact JSON, keys sorted."""
    return json.dumps(
        {"deviceservicemap": routes}, separators=(",", ":"), sort_keys=True, ensure_ascii=False
    )


def crc32(text: str) -> int:
    """Return the CRC-32 (IEEE) of a text's UTF-8 bytes: what RTIO finds routes by."""
    return zlib.crc32(text.encode())


class DeviceServiceRouteQuerySet(models.QuerySet["DeviceServiceRoute"]):
    """The routes of device services."""

    def enabled(self) -> "DeviceServiceRouteQuerySet":
        """Return the routes that RTIO is told."""
        return self.filter(enabled=True)

    def config(self) -> str:
        """Return what RTIO is told, as text; one statement."""
        return config_text(dict(self.enabled().order_by().values_list("uri", "url")))

    def room_left(self) -> int:
        """Return how many characters the map of these routes has left."""
        return MAX_CONFIG_LENGTH - len(self.config())


class DeviceServiceRoute(Recorded):
    """A URI that devices send to, and the URL of the service that RTIO asks for it."""

    uri = models.CharField(
        _("URI"),
        max_length=MAX_URI_LENGTH,
        validators=[MinLengthValidator(MIN_URI_LENGTH)],
        help_text=_("What devices name, such as /aa/bb: 3 to 128 characters, exactly."),
    )
    url = models.CharField(
        _("URL"), max_length=1024, help_text=_("What RTIO posts to: http://… or https://…")
    )
    enabled = models.BooleanField(
        _("enabled"),
        default=True,
        help_text=_(
            "RTIO only ever sets routes: one that is disabled or deleted works until RTIO restarts."
        ),
    )
    note = models.CharField(_("note"), max_length=255, blank=True)
    crc = models.PositiveBigIntegerField(_("CRC-32 of the URI"), editable=False)

    objects = DeviceServiceRouteQuerySet.as_manager()
    history = Records(without=["crc"])
    restored_fields = ("uri", "url", "enabled", "note")

    class Meta:
        ordering = ["uri"]
        verbose_name = _("device service route")
        verbose_name_plural = _("device service routes")
        constraints = [
            models.UniqueConstraint(
                fields=["uri"],
                name="rpc_route_uri_unique",
                violation_error_message=_("A route for this URI exists."),
            ),
            models.UniqueConstraint(fields=["crc"], name="rpc_route_crc_unique"),
            models.CheckConstraint(
                condition=Q(uri__startswith="/"),
                name="rpc_route_uri_begins",
                violation_error_message=_("A URI begins with a slash."),
            ),
            models.CheckConstraint(
                condition=Q(url__startswith="http://") | Q(url__startswith="https://"),
                name="rpc_route_url_begins",
                violation_error_message=_("A URL begins with http:// or https://."),
            ),
        ]

    def __str__(self) -> str:
        return self.uri

    def clean(self) -> None:
        """Refuse what RTIO cannot use, or would confuse with another route."""
        super().clean()
        errors: dict[str, Any] = {}
        if not self.uri.startswith("/") or not _is_plain(self.uri):
            errors["uri"] = _("A URI begins with a slash and has no spaces.")
        if not _is_http(self.url):
            errors["url"] = _("A URL is such as http://host:port/path, without spaces.")
        if errors:
            raise ValidationError(errors)
        self.crc = crc32(self.uri)
        other = DeviceServiceRoute.objects.filter(crc=self.crc).exclude(pk=self.pk).first()
        if other is not None and other.uri != self.uri:
            raise ValidationError(
                {
                    "uri": _(
                        "RTIO cannot tell this URI from “%(other)s”: both have the CRC-32 %(crc)d."
                    )
                    % {"other": other.uri, "crc": self.crc}
                },
                code="collision",
            )
        self._check_fit()

    def _check_fit(self) -> None:
        if not self.enabled:
            return
        others = DeviceServiceRoute.objects.enabled().exclude(pk=self.pk)
        routes = dict(others.order_by().values_list("uri", "url"))
        before = len(config_text(routes))
        after = len(config_text({**routes, self.uri: self.url}))
        if after > MAX_CONFIG_LENGTH:
            raise ValidationError(
                _(
                    "All routes together have at most %(most)d characters as RTIO reads them: "
                    "%(left)d are left, and this one needs %(needed)d."
                )
                % {
                    "most": MAX_CONFIG_LENGTH,
                    "left": MAX_CONFIG_LENGTH - before,
                    "needed": after - before,
                },
                code="full",
            )

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Save; the room is checked again under a lock, so that no two routes share the last."""
        self.crc = crc32(self.uri)
        if (fields := kwargs.get("update_fields")) is not None:
            kwargs["update_fields"] = {*fields, "crc"}
        with transaction.atomic():
            list(DeviceServiceRoute.objects.select_for_update().order_by("pk").values_list("pk"))
            self._check_fit()
            super().save(*args, **kwargs)

    def refuse(self) -> None:
        """Point the route at an address that refuses, which RTIO learns within seconds."""
        self.url, self.enabled = REFUSING_URL, True
        self.save(update_fields=["url", "enabled"])


def _is_plain(text: str) -> bool:
    return text.isprintable() and not any(char.isspace() for char in text)


def _is_http(url: str) -> bool:
    """Whether a text is a URL of http or https with a host, and a port that can be."""
    if not _is_plain(url) or not url.startswith(("http://", "https://")):
        return False
    try:
        parts = urlsplit(url)
        return bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


# --- Ended sessions -------------------------------------------------------------------------


class Cause(models.TextChoices):
    """Why a session is ended."""

    DISABLED = "disabled", _("the device was disabled")
    DELETED = "deleted", _("the device was deleted")
    REVOKED = "revoked", _("its last credential was revoked")
    ROTATED = "rotated", _("its keys were rotated at once")
    ASKED = "asked", _("staff asked for it")


class EndingState(models.TextChoices):
    """What became of it."""

    WAITING = "waiting", _("not ended yet")
    ENDED = "ended", _("ended")
    NOT_CONNECTED = "not-connected", _("no session left; not known to be connected there")
    CANCELLED = "cancelled", _("not ended: the device may connect again")
    GIVEN_UP = "given-up", _("could not be ended")


class SessionEndingQuerySet(models.QuerySet["SessionEnding"]):
    """Sessions that are being ended, and receipts of those that were."""

    def waiting(self) -> "SessionEndingQuerySet":
        """Return those that are not done."""
        return self.filter(state=EndingState.WAITING)

    def of(self, device: Device) -> "SessionEndingQuerySet":
        """Return those of a device, the newest first."""
        newest = self.filter(identifier=device.identifier).order_by("-requested_at", "-pk")
        return newest.select_related("server")

    def unresolved_at(self, now: datetime) -> "SessionEndingQuerySet":
        """Return those of the last week that staff must look after.

        Given up and not ended since, or with a secret that somebody else used.
        """
        later = SessionEnding.objects.filter(
            identifier=models.OuterRef("identifier"),
            server=models.OuterRef("server"),
            requested_at__gt=models.OuterRef("requested_at"),
            state__in=[EndingState.ENDED, EndingState.NOT_CONNECTED, EndingState.CANCELLED],
        )
        given_up = Q(state=EndingState.GIVEN_UP) & ~models.Exists(later)
        return self.filter(
            given_up | Q(intercepted__gt=0),
            requested_at__gte=now - ATTENTION,
            requested_at__lte=now,
        )

    def done_before(self, moment: datetime) -> "SessionEndingQuerySet":
        """Return the receipts of what was requested before a moment."""
        return self.filter(requested_at__lt=moment).exclude(state=EndingState.WAITING)


class SessionEnding(Recorded):
    """The session of one device, to be ended at one server; once done, the receipt.

    No constraint ties it to its device, which may be deleted: that is when a session is ended, too.
    """

    identifier = models.CharField(_("device"), max_length=MAX_LENGTH, editable=False)
    device = models.ForeignKey(
        Device,
        verbose_name=_("device"),
        null=True,
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        related_name="+",
        editable=False,
    )
    server = models.ForeignKey(
        RtioServer,
        verbose_name=_("RTIO server"),
        on_delete=models.CASCADE,
        related_name="endings",
        editable=False,
    )
    cause = models.CharField(_("why"), max_length=16, choices=Cause, editable=False)
    requested_at = models.DateTimeField(_("requested"), editable=False)
    requested_by = models.CharField(_("by"), max_length=150, blank=True, editable=False)
    origin = models.CharField(_("from"), max_length=16, choices=Origin, editable=False)
    admitted_here = models.BooleanField(
        _("last let in here"),
        default=False,
        editable=False,
        help_text=_("Whether the journal says that this server let the device in last."),
    )
    state = models.CharField(
        _("state"), max_length=16, choices=EndingState, default=EndingState.WAITING, editable=False
    )
    detail = models.CharField(_("last problem"), max_length=255, blank=True, editable=False)
    attempts = models.PositiveIntegerField(_("attempts"), default=0, editable=False)
    intercepted = models.PositiveIntegerField(
        _("one-time secrets used by others"), default=0, editable=False
    )
    ended_after = models.PositiveIntegerField(_("ended after (ms)"), null=True, editable=False)
    due_at = models.DateTimeField(_("next attempt"), editable=False)
    claim = models.UUIDField(null=True, editable=False)
    secret_digest = models.CharField(max_length=64, null=True, editable=False)  # noqa: DJ001 (unique)
    secret_valid_until = models.DateTimeField(null=True, editable=False)
    secret_used_at = models.DateTimeField(null=True, editable=False)

    objects = SessionEndingQuerySet.as_manager()
    history = Records(
        without=[
            "due_at",
            "claim",
            "secret_digest",
            "secret_valid_until",
            "secret_used_at",
            "origin",
            "admitted_here",
        ],
        owner="device",
    )

    class Meta:
        ordering = ["-requested_at", "-pk"]
        verbose_name = _("ended session")
        verbose_name_plural = _("ended sessions")
        default_permissions = ("view",)
        permissions = [("end_session", _("Can end a device's session"))]
        constraints = [
            models.UniqueConstraint(
                fields=["identifier", "server"],
                condition=Q(state="waiting"),
                name="rpc_ending_waits_once",
            ),
            models.UniqueConstraint(fields=["secret_digest"], name="rpc_ending_secret_unique"),
            models.CheckConstraint(
                condition=Q(state__in=EndingState.values), name="rpc_ending_state_known"
            ),
            models.CheckConstraint(
                condition=Q(cause__in=Cause.values), name="rpc_ending_cause_known"
            ),
            models.CheckConstraint(
                condition=Q(secret_digest=None) | Q(secret_valid_until__isnull=False),
                name="rpc_ending_secret_ends",
            ),
        ]
        indexes = [
            models.Index(fields=["due_at"], condition=Q(state="waiting"), name="rpc_ending_due"),
            models.Index(fields=["identifier", "-requested_at"], name="rpc_ending_device"),
            models.Index(fields=["-requested_at"], name="rpc_ending_time"),
        ]

    def __str__(self) -> str:
        return f"{self.identifier} · {self.get_state_display()}"

    def event_verb(self, change_type: ChangeType, before: Mapping[str, Any] | None) -> str:
        """Return what became of the session: only receipts are recorded."""
        return self.state.replace("-", "_")

    @property
    def gives_up_at(self) -> datetime:
        """Return until when it is retried."""
        return self.requested_at + GIVE_UP_AFTER

    def receipt(self) -> str:
        """Return what became of it, in words."""
        if self.state == EndingState.ENDED:
            return str(
                _("ended at %(server)s after %(ms)d ms")
                % {"server": self.server, "ms": self.ended_after or 0}
            )
        text = str(self.get_state_display())
        return f"{text}: {self.detail}" if self.detail else text


def can_be_ended(identifier: str) -> bool:
    """Whether RTIO's device port takes the id: 36 bytes, and no colon, which ends it there."""
    return len(identifier.encode("utf-8", "surrogatepass")) == ID_BYTES and ":" not in identifier
