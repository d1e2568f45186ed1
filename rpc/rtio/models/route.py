"""Routes of device services: URIs that devices send to, and the URLs that RTIO asks for them."""

import json
import zlib
from typing import Any
from urllib.parse import urlsplit

from django.core.exceptions import ValidationError
from django.core.validators import MinLengthValidator
from django.db import models, transaction
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from devices.database.conflicts import checking_again
from devices.database.turns import take_turn
from devices.history import Recorded, Records

MAX_CONFIG_LENGTH = 2048  # characters of the map of routes; RTIO's page on its hub configuration
MIN_URI_LENGTH, MAX_URI_LENGTH = 3, 128  # characters
# On RTIO's own machine, at the discard port, where nothing listens.
REFUSING_URL = "http://127.0.0.1:9/refused"


def config_text(routes: dict[str, str]) -> str:
    """Return the map of routes as RTIO reads it: compact JSON, keys sorted."""
    return json.dumps(
        {"deviceservicemap": routes}, separators=(",", ":"), sort_keys=True, ensure_ascii=False
    )


def crc32(text: str) -> int:
    """Return the CRC-32 (IEEE) of a text's UTF-8 bytes: what RTIO finds routes by."""
    return zlib.crc32(text.encode())


class DeviceServiceRouteQuerySet(models.QuerySet["DeviceServiceRoute"]):
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
    changes_in_turns = True
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
            take_turn(self._meta.db_table)
            with checking_again():
                self._check_fit()
            super().save(*args, **kwargs)

    def refuse(self) -> None:
        """Point the route at an address that refuses, which RTIO learns within seconds."""
        with transaction.atomic():
            self.hold()
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
