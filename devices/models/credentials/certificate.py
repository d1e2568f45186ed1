"""X.509 certificates that staff pinned to devices, or revoked."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cached_property
from typing import Any, Self

from cryptography.x509 import Certificate as X509Certificate
from django.core.exceptions import ValidationError
from django.db import models, transaction
from django.db.models import CASCADE, SET_NULL, Exists, OuterRef, Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from devices.credentials import x509
from devices.credentials.x509 import Refused
from devices.history import ChangeType, Records
from devices.models.credentials.authority import CertificateAuthority, RevokedSerial, link_issued
from devices.models.credentials.revocation import Revocable, RevocableQuerySet
from devices.models.device import Device
from devices.verdicts import Outcome


class Pin(models.TextChoices):
    """What of a registered certificate must come back."""

    CERTIFICATE = "certificate", _("This very certificate")
    PUBLIC_KEY = "public-key", _("Its public key, so that a renewal with the same key is accepted")


def named_by_list() -> Exists:
    """Return the condition that an issuer's revocation list that is in force names a certificate.

    By what the row says of its issuers, whose signatures were checked when it was registered.
    """
    return Exists(
        RevokedSerial.objects.order_by().filter(
            serial=OuterRef("serial"), authority__issued=OuterRef("pk")
        )
    )


class CertificateQuerySet(RevocableQuerySet["Certificate"]):
    """Certificates by their state, and how they are registered and revoked."""

    def live_at(self, now: datetime) -> Self:
        """Return those that admit their device now or later: neither revoked nor expired.

        The key of a pin by public key may come back in a renewed certificate at any time.
        """
        return self.unrevoked().filter(~Q(pin=Pin.CERTIFICATE) | Q(not_after__gte=now))

    def unrevoked(self) -> Self:
        """Return those that neither staff nor a list revoked, expired ones among them."""
        return self.filter(~named_by_list(), revoked_at=None)

    def revoked(self) -> Self:
        return self.filter(Q(revoked_at__isnull=False) | Q(named_by_list()))

    def with_list_state(self) -> "CertificateQuerySet":
        """Add `listed`, which `state_at` would otherwise ask for row by row."""
        return self.annotate(listed=named_by_list())

    def expired_at(self, now: datetime) -> Self:
        """Return those that ended by themselves; the pin of a public key never does."""
        return self.unrevoked().filter(pin=Pin.CERTIFICATE, not_after__lt=now)

    def usable_at(self, now: datetime) -> "CertificateQuerySet":
        return self.live_at(now).filter(~Q(pin=Pin.CERTIFICATE) | Q(not_before__lte=now))

    def ending_before(self, moment: datetime, *, now: datetime) -> "CertificateQuerySet":
        return self.unrevoked().filter(
            pin=Pin.CERTIFICATE, not_after__gte=now, not_after__lt=moment
        )

    def prepare(
        self, *, device: Device | None, presented: str, pin: str = Pin.CERTIFICATE, label: str = ""
    ) -> "Certificate":
        """Return the first certificate of a text as a row that is not saved yet.

        Raises ValidationError where it cannot be read or would never be accepted.
        """
        try:
            certificate = x509.read(presented).leaf
            x509.check_readable(certificate)
            x509.check_strength(certificate)
            return self.model(
                device=device,
                pin=pin,
                label=label,
                content_fingerprint=x509.content_fingerprint(certificate),
                issuer=x509.issuer_of(certificate),
                serial=x509.serial_of(certificate),
                **x509.columns_of(certificate),
            )
        except Refused as refusal:
            raise refusal.as_validation_error() from None

    def register(
        self, *, device: Device, presented: str, pin: str = Pin.CERTIFICATE, label: str = ""
    ) -> "Certificate":
        """Pin a certificate, or its public key, to a device. What follows the first is ignored."""
        certificate = self.prepare(device=device, presented=presented, pin=pin, label=label)
        certificate.full_clean()
        certificate.save()
        return certificate

    def revoke_presented(
        self, *, device: Device, presented: str, by: str, reason: str = "", key_too: bool = False
    ) -> "Certificate":
        """Revoke a certificate of the device, which need not have been registered before.

        So staff refuse at once what a trust anchor vouches for, without waiting for its list.
        """
        with transaction.atomic():
            wanted = self.prepare(device=device, presented=presented)
            row = self.filter(device=device, fingerprint=wanted.fingerprint).first()
            if row is None:
                # A renewal may bear the key of what has expired.
                pin = Pin.PUBLIC_KEY if key_too else Pin.CERTIFICATE
                row = self.register(device=device, presented=presented, pin=pin)
            if not row.revoke(by=by, reason=reason, key_too=key_too):
                raise ValidationError(_("The certificate was revoked before."), code="revoked")
        return row

    def link_issuers(self, certificates: Sequence["Certificate"]) -> None:
        """Write which registered authorities signed the certificates, which are saved."""
        named = CertificateAuthority.objects.filter(
            subject__in={one.issuer for one in certificates}
        )
        anchors: dict[str, list[CertificateAuthority]] = {}
        for anchor in named:
            anchors.setdefault(anchor.subject, []).append(anchor)
        link_issued(
            (certificate, anchor)
            for certificate in certificates
            for anchor in anchors.get(certificate.issuer, ())
        )

    def revoked_like(self, certificate: "Certificate") -> "CertificateQuerySet":
        """Return the revoked rows, of any device, that forbid this certificate for ever."""
        return self.filter(revoked_at__isnull=False).filter(
            Q(content_fingerprint=certificate.content_fingerprint)
            | Q(pin=Pin.PUBLIC_KEY, public_key_fingerprint=certificate.public_key_fingerprint)
        )


def keep_revoked(
    collector: Any,
    field: "models.ForeignKey[Any, Any]",
    sub_objs: "CertificateQuerySet",
    using: str,
) -> None:
    """Delete a device's certificates with it, except the revoked ones: they stay revoked."""
    revoked = sub_objs.filter(revoked_at__isnull=False)
    if revoked:
        SET_NULL(collector, field, revoked, using)
    CASCADE(collector, field, sub_objs.filter(revoked_at=None), using)


class Certificate(Revocable):
    """A certificate that staff pinned to a device, or revoked for ever."""

    device = models.ForeignKey(
        Device,
        verbose_name=_("device"),
        null=True,
        on_delete=keep_revoked,
        related_name="certificates",
    )
    label = models.CharField(
        _("label"), max_length=100, blank=True, help_text=_("What staff call this certificate.")
    )
    pin = models.CharField(_("what is pinned"), max_length=16, choices=Pin, default=Pin.CERTIFICATE)
    pem = models.TextField(_("certificate (PEM)"), editable=False)
    fingerprint = models.CharField(_("SHA-256 fingerprint"), max_length=64, editable=False)
    content_fingerprint = models.CharField(
        _("SHA-256 of what the issuer signed"), max_length=64, editable=False
    )
    public_key_fingerprint = models.CharField(
        _("SHA-256 of the public key"), max_length=64, editable=False
    )
    subject = models.TextField(_("subject"), blank=True, editable=False)
    issuer = models.TextField(_("issuer"), blank=True, editable=False)
    serial = models.CharField(_("serial number"), max_length=40, editable=False)
    not_before = models.DateTimeField(_("valid from"), editable=False)
    not_after = models.DateTimeField(_("valid until"), editable=False)
    issuers = models.ManyToManyField(
        CertificateAuthority, related_name="issued", editable=False, verbose_name=_("issuer")
    )
    created = models.DateTimeField(_("created"), auto_now_add=True)
    last_used = models.DateTimeField(_("last used"), null=True, blank=True, editable=False)

    objects = CertificateQuerySet.as_manager()
    history = Records(without=["pem", "created", "last_used"], owner="device")

    class Meta:
        ordering = ["-pk"]
        verbose_name = _("certificate")
        verbose_name_plural = _("certificates")
        indexes = [
            models.Index(
                fields=["not_after"], condition=Q(revoked_at=None), name="devices_certificate_ends"
            ),
            models.Index(
                fields=["content_fingerprint"],
                condition=Q(revoked_at__isnull=False),
                name="devices_cert_revoked_content",
            ),
            models.Index(
                fields=["public_key_fingerprint"],
                condition=Q(revoked_at__isnull=False),
                name="devices_cert_revoked_key",
            ),
            models.Index(
                fields=["public_key_fingerprint"],
                condition=Q(pin="public-key"),
                name="devices_cert_pinned_key",
            ),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["device", "fingerprint"],
                name="devices_certificate_unique",
                violation_error_message=_("The device has this certificate already."),
            ),
            models.CheckConstraint(
                condition=Q(pin__in=Pin.values), name="devices_certificate_pin_known"
            ),
            models.CheckConstraint(
                condition=Q(device__isnull=False) | Q(revoked_at__isnull=False),
                name="devices_certificate_of_a_device",
            ),
        ]

    def event_verb(self, change_type: ChangeType, before: Mapping[str, Any] | None) -> str:
        """Return the verb: a new certificate was made elsewhere, and is registered here."""
        if change_type is ChangeType.CREATED:
            return "registered"
        return super().event_verb(change_type, before)

    def __str__(self) -> str:
        return self.label or self.subject or f"certificate {self.serial}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Save; a new row is linked to the authorities that signed the certificate."""
        is_new = self._state.adding
        with transaction.atomic():
            super().save(*args, **kwargs)
            if is_new:
                Certificate.objects.link_issuers([self])

    def clean(self) -> None:
        """Refuse what was revoked before, and a pin that nothing can ever match."""
        super().clean()
        if self.pk is not None:
            return
        revoked = Certificate.objects.revoked_like(self).first()
        if revoked is not None:
            raise ValidationError(
                _(
                    "This certificate, or its key, was revoked on %(day)s and stays so. Make a new "
                    "key and a new certificate."
                ),
                code="revoked",
                params={"day": f"{revoked.revoked_at:%Y-%m-%d}"},
            )
        if self.pin == Pin.CERTIFICATE and self.not_after < timezone.now():
            raise ValidationError(
                _("The certificate expired on %(day)s."),
                code="expired",
                params={"day": f"{self.not_after:%Y-%m-%d}"},
            )

    @cached_property
    def parsed(self) -> X509Certificate:
        return x509.parsed(self.pem)

    @cached_property
    def is_listed(self) -> bool:
        """Whether an issuer's revocation list names the certificate (`with_list_state`)."""
        if hasattr(self, "listed"):
            return bool(self.listed)
        return Certificate.objects.filter(named_by_list(), pk=self.pk).exists()

    def state_at(self, now: datetime) -> Outcome:
        """Return VERIFIED where the pin can admit its device at that moment, else why not."""
        if self.revoked_at is not None:
            return Outcome.REVOKED
        if self.is_listed:
            return Outcome.REVOKED_BY_CRL
        if self.pin == Pin.CERTIFICATE and now < self.not_before:
            return Outcome.NOT_YET_VALID
        if self.pin == Pin.CERTIFICATE and now > self.not_after:
            return Outcome.EXPIRED
        return Outcome.VERIFIED

    def revoke(
        self, *, by: str, reason: str = "", now: datetime | None = None, key_too: bool = False
    ) -> bool:
        """Revoke the certificate from its next use on; return False where it was revoked before.

        `key_too`, and the pin of a public key, take every other certificate with that key along;
        that may be added later. The first revocation stands otherwise.
        """
        with transaction.atomic():
            revoked = super().revoke(by=by, reason=reason, now=now)
            if key_too and self.pin != Pin.PUBLIC_KEY:
                self.pin = Pin.PUBLIC_KEY
                self.save(update_fields=["pin"])
                return True
        return revoked
