"""Devices by their credentials: conditions and columns of a query, and revocation.

What a trust anchor alone vouches for leaves no row and is not seen here.
"""

from datetime import datetime
from typing import Any

from django.db import models, transaction
from django.db.models import Case, Exists, OuterRef, Q, Subquery, Value, When
from django.db.models.functions import Coalesce, Greatest
from django.db.models.lookups import IsNull
from django.utils.translation import gettext_lazy as _

from devices.credentials import hashing
from devices.models.credentials.certificate import Certificate, CertificateQuerySet, Pin
from devices.models.credentials.pre_shared_key import PreSharedKey, PreSharedKeyQuerySet
from devices.models.device import Device, DeviceQuerySet


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


def has_credential(verb: str, *args: Any, **kwargs: Any) -> Q:
    """Return the condition that a device has a key or a certificate in that state.

    `verb` is what the query sets of both call it: `usable_at`, `live_at`, `unrevoked`,
    `expired_at`, `ending_before`; the others are its arguments.
    """
    keys, certificates = (getattr(rows, verb)(*args, **kwargs) for rows in _credentials())
    return Q(Exists(keys)) | Q(Exists(certificates))


def lacks_credential(verb: str, *args: Any, **kwargs: Any) -> Q:
    """Return the condition that a device has neither a key nor a certificate in that state.

    Not the opposite of a disjunction, though it says the same: PostgreSQL joins what two NOT EXISTS
    ask, and asks each device what it has for their disjunction.
    """
    keys, certificates = (getattr(rows, verb)(*args, **kwargs) for rows in _credentials())
    return Q(~Exists(keys)) & Q(~Exists(certificates))


def holds_one_of(verb: str, *args: Any, **kwargs: Any) -> Q:
    """Return the condition that a device is among the holders of the keys and certificates.

    The same as to ask each device for such a credential, and quicker where these are few: the
    database begins with them.
    """
    keys, certificates = (
        getattr(model.objects.order_by(), verb)(*args, **kwargs).values("device")
        for model in (PreSharedKey, Certificate)
    )
    return Q(pk__in=keys.union(certificates))


def has_usable_credential(now: datetime) -> Q:
    """Return the condition that a key or a certificate admits a device at that moment."""
    # A subquery for its value, not EXISTS: PostgreSQL would read all credentials into a hash
    # before it finds the first page of devices.
    first = (Subquery(rows.usable_at(now).values("pk")[:1]) for rows in _credentials())
    return Q(IsNull(Coalesce(*first), False))


def has_expired_credentials_only(now: datetime) -> Q:
    """Return the condition that all that a device has, revoked ones aside, has expired."""
    return has_credential("expired_at", now) & lacks_credential("live_at", now)


def credential_state(now: datetime) -> Case:
    """Return the expression of a device's CredentialState; sorting by it visits every device."""
    return Case(
        When(has_credential("usable_at", now), then=Value(CredentialState.USABLE)),
        When(has_credential("live_at", now), then=Value(CredentialState.UNUSABLE)),
        When(has_credential("expired_at", now), then=Value(CredentialState.EXPIRED)),
        default=Value(CredentialState.NONE),
        output_field=models.CharField(),
    )


def _lasting(now: datetime) -> tuple[PreSharedKeyQuerySet, CertificateQuerySet]:
    """Return the credentials that admit an outer statement's device now or later."""
    keys, certificates = _credentials()
    return (keys.live_at(now).filter(pepper__in=list(hashing.peppers())), certificates.live_at(now))


def next_expiry(now: datetime) -> Case:
    """Return the expression of when a device's last credential ends, and it is locked out.

    Null where one lasts, where no end is near for want of a credential, and for what only a trust
    anchor vouches for. The old key of a rotation and a revoked one lock nobody out.
    """
    keys, certificates = _lasting(now)
    endless = Q(Exists(keys.filter(not_after=None))) | Q(
        Exists(certificates.exclude(pin=Pin.CERTIFICATE))
    )
    last_key, last_certificate = (
        Subquery(rows.order_by("-not_after").values("not_after")[:1])
        for rows in (keys, certificates)
    )
    return Case(
        When(endless, then=None),
        default=Greatest(
            Coalesce(last_key, last_certificate), Coalesce(last_certificate, last_key)
        ),
    )


def is_locked_out_before(moment: datetime, *, now: datetime) -> Q:
    """Return the condition that a device has a live credential, and none at that moment."""
    return has_credential("ending_before", moment, now=now) & lacks_credential("live_at", moment)


def locking_out(credentials: Any, begin: datetime, end: datetime) -> Any:
    """Return the keys or the certificates whose end locks their device out, from `begin` to `end`.

    As `next_expiry` counts: nothing else that the device holds lasts longer. Devices that are
    disabled are left out. Asked of moments to come, and quick where few credentials end then.
    """
    of_device = OuterRef("device")
    readable = Q(pepper__in=list(hashing.peppers()))
    keys = PreSharedKey.objects.filter(readable, device=of_device)
    certificates = Certificate.objects.filter(device=of_device)
    lasting = Q(not_after__gt=OuterRef("not_after"))
    ends = Q(pin=Pin.CERTIFICATE) if credentials.model is Certificate else readable
    return (
        credentials.unrevoked()
        .filter(ends, not_after__gte=begin, not_after__lt=end)
        # The few that are disabled have an index; to ask each device takes twice as long.
        .exclude(Exists(Device.objects.disabled().filter(pk=of_device).order_by()))
        .exclude(Exists(keys.unrevoked().filter(lasting | Q(not_after=None)).order_by()))
        .exclude(
            Exists(certificates.unrevoked().filter(lasting | ~Q(pin=Pin.CERTIFICATE)).order_by())
        )
    )


def revoke_credentials(devices: DeviceQuerySet, *, by: str, reason: str = "") -> tuple[int, int]:
    """Revoke all keys and certificates of the devices; return how many of each."""
    chosen = devices.order_by().values("pk")
    with transaction.atomic():
        return (
            PreSharedKey.objects.filter(device__in=chosen).revoke(by=by, reason=reason),
            Certificate.objects.filter(device__in=chosen).revoke(by=by, reason=reason),
        )
