"""Devices by their credentials: conditions and columns of a query, and revocation.

What a trust anchor alone vouches for leaves no row and is not seen here.
"""

from datetime import UTC, datetime
from typing import Any

from django.db import models, transaction
from django.db.models import Case, Exists, OuterRef, Q, Subquery, Value, When
from django.db.models.functions import Coalesce, Least
from django.db.models.lookups import IsNull
from django.utils.translation import gettext_lazy as _

from devices.models.certificate import Certificate, CertificateQuerySet
from devices.models.device import DeviceQuerySet
from devices.models.pre_shared_key import PreSharedKey, PreSharedKeyQuerySet
from devices.models.revocation import revoke_all

END_OF_TIME = datetime.max.replace(tzinfo=UTC)


class CredentialState(models.TextChoices):
    """What a device could show now, as staff need to know it."""

    NONE = "none", _("none")
    EXPIRED = "expired", _("expired")
    UNUSABLE = "unusable", _("not usable now")  # not valid yet, or a pepper is missing
    USABLE = "usable", _("usable")


def _credentials() -> tuple[PreSharedKeyQuerySet, CertificateQuerySet]:
    """Return the keys and the certificates of an outer statement's device."""
    of_device = OuterRef("pk")
    return (
        PreSharedKey.objects.filter(device=of_device).order_by(),
        Certificate.objects.filter(device=of_device).order_by(),
    )


def _has(verb: str, *args: Any, **kwargs: Any) -> Q:
    """Return the condition that a device has a key or a certificate in that state."""
    keys, certificates = (getattr(rows, verb)(*args, **kwargs) for rows in _credentials())
    return Q(Exists(keys)) | Q(Exists(certificates))


def has_usable_credential(now: datetime) -> Q:
    """Return the condition that a key or a certificate admits a device at that moment."""
    # A subquery for its value, not EXISTS: PostgreSQL would read all credentials into a hash
    # before it finds the first page of devices.
    first = (Subquery(rows.usable_at(now).values("pk")[:1]) for rows in _credentials())
    return Q(IsNull(Coalesce(*first), False))


def lacks_usable_credential(now: datetime) -> Q:
    """Return the condition that no key and no certificate admits a device at that moment."""
    return ~_has("usable_at", now)


def lacks_credential() -> Q:
    """Return the condition that a device has no key and no certificate but revoked ones."""
    return ~_has("unrevoked")


def has_unrevoked_credential() -> Q:
    """Return the condition that staff can still revoke a key or a certificate of a device."""
    return _has("filter", revoked_at=None)


def has_expired_credentials_only(now: datetime) -> Q:
    """Return the condition that all that a device has, revoked ones aside, has expired."""
    return _has("expired_at", now) & ~_has("live_at", now)


def has_credential_ending_before(moment: datetime, *, now: datetime) -> Q:
    """Return the condition that a live key or certificate of a device ends before that moment."""
    return _has("ending_before", moment, now=now)


def credential_state(now: datetime) -> Case:
    """Return the expression of a device's CredentialState; sorting by it visits every device."""
    return Case(
        When(_has("usable_at", now), then=Value(CredentialState.USABLE)),
        When(_has("live_at", now), then=Value(CredentialState.UNUSABLE)),
        When(_has("expired_at", now), then=Value(CredentialState.EXPIRED)),
        default=Value(CredentialState.NONE),
        output_field=models.CharField(),
    )


def next_expiry(now: datetime) -> Least:
    """Return the expression of when the first live credential of a device ends."""
    first_key, first_certificate = (
        Subquery(
            rows.ending_before(END_OF_TIME, now=now).order_by("not_after").values("not_after")[:1]
        )
        for rows in _credentials()
    )
    return Least(Coalesce(first_key, first_certificate), Coalesce(first_certificate, first_key))


def revoke_credentials(devices: DeviceQuerySet, *, by: str, reason: str = "") -> tuple[int, int]:
    """Revoke all keys and certificates of the devices; return how many of each."""
    chosen = devices.order_by().values("pk")
    with transaction.atomic():
        return (
            revoke_all(PreSharedKey.objects.filter(device__in=chosen), by=by, reason=reason),
            revoke_all(Certificate.objects.filter(device__in=chosen), by=by, reason=reason),
        )
