"""X.509 certificates of devices, and the question whether one presented is a device's.

A certificate presented proves nothing by itself: certificates are public. What is answered here
counts only for a backend that did the TLS handshake with the device. (docs/certificates.md)
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple

from cryptography.x509 import Certificate as X509Certificate
from django.core.exceptions import ValidationError
from django.db import models, transaction
from django.db.models import Q
from django.db.models.deletion import CASCADE, SET_NULL, Collector
from django.utils import timezone
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from devices import addresses
from devices.credentials import throttle, x509
from devices.credentials.x509 import NameSource, Presented, Refused
from devices.database.statements import WrittenStatement
from devices.history import Records
from devices.models.authority import (
    AUTHORITIES,
    REVOKED_SERIALS,
    Authority,
    CertificateAuthority,
    CRLPolicy,
    certificate_in,
)
from devices.models.device import Device
from devices.models.revocation import Revocable
from devices.verdicts import Outcome, Verdict

MAX_NAMED = 4  # entities that a caller's certificate is held against where it names several


class Pin(models.TextChoices):
    """What of a registered certificate must come back."""

    CERTIFICATE = "certificate", _("This very certificate")
    PUBLIC_KEY = "public-key", _("Its public key, so that a renewal with the same key is accepted")


# --- The statements of a check --------------------------------------------------------------


class Registered(NamedTuple):
    """A device beside one of its certificates, or beside none."""

    identifier: str | None
    device: int
    kind: str
    enabled: bool
    certificate: int | None
    pin: str
    fingerprint: str
    public_key_fingerprint: str

    def pins(self, leaf: X509Certificate) -> bool:
        """Whether this row names the certificate, or its public key."""
        if self.certificate is None:
            return False
        if self.pin == Pin.CERTIFICATE:
            return self.fingerprint == x509.fingerprint(leaf)
        return self.public_key_fingerprint == x509.public_key_fingerprint(leaf)

    def verdict(self, outcome: Outcome, detail: str = "", **more: Any) -> Verdict:
        """Return an outcome about this device."""
        return Verdict(outcome, detail, device=self.device, kind=self.kind, **more)


# The index that holds backends alone bears the condition as it stands here, as a literal.
CERTIFICATES_OF_BACKENDS = WrittenStatement(
    """
    SELECT d.identifier
      FROM devices_device d CROSS JOIN devices_certificate c
     WHERE d.kind = 'backend' AND c.device_id = d.id
       AND (c.fingerprint = %s OR (c.pin = 'public-key' AND c.public_key_fingerprint = %s))
     ORDER BY d.identifier
    """
)


class CertificateAttempt(NamedTuple):
    """A certificate that is presented for an identifier, with the issuers that it brings along."""

    identifier: str
    presented: str


# Devices by identifier, each beside its certificates; then what staff revoked of what is presented,
# in whichever row: such a row names no device.
CERTIFICATES_OF_DEVICES = WrittenStatement(
    """
    SELECT d.identifier, d.id, d.kind, d.enabled,
           c.id, c.pin, c.fingerprint, c.public_key_fingerprint
      FROM devices_device d LEFT JOIN devices_certificate c ON c.device_id = d.id
     WHERE d.identifier {among}
    UNION ALL
    SELECT NULL, NULL, NULL, NULL,
           NULL, c.pin, c.content_fingerprint, c.public_key_fingerprint
      FROM devices_certificate c
     WHERE c.revoked_at IS NOT NULL
       AND (c.content_fingerprint {among}
            OR (c.pin = 'public-key' AND c.public_key_fingerprint {among}))
    """
)


class OnRecord:
    """What the registry holds of the devices that are named and of what is presented for them."""

    def __init__(self, identifiers: Iterable[str], presented: Sequence[Presented]) -> None:
        self.rows: dict[str, list[Registered]] = {}
        self._revoked: set[str] = set()
        named = list(filter(addresses.is_storable, set(identifiers)))
        contents = list({x509.content_fingerprint(one.leaf) for one in presented})
        keys = list({x509.public_key_fingerprint(one.leaf) for one in presented})
        if not named:
            return
        for row in CERTIFICATES_OF_DEVICES.rows(named, contents, keys):
            registered = Registered(*row)
            if registered.identifier is not None:
                self.rows.setdefault(registered.identifier, []).append(registered)
                continue
            self._revoked.add(registered.fingerprint)
            if registered.pin == Pin.PUBLIC_KEY:
                self._revoked.add(registered.public_key_fingerprint)

    def has_revoked(self, presented: Presented) -> bool:
        """Whether staff revoked this very certificate, or any with its key."""
        leaf = presented.leaf
        return not self._revoked.isdisjoint(
            (x509.content_fingerprint(leaf), x509.public_key_fingerprint(leaf))
        )


# --- The question ---------------------------------------------------------------------------


class Issuers:
    """The authorities that may have a say in what is presented, and what they revoked of it.

    Asked for when an examination first needs them, for all that is examined with it.
    """

    def __init__(self, presented: Iterable[Presented]) -> None:
        self._certificates = [
            certificate for one in presented for certificate in (one.leaf, *one.others)
        ]

    def of(self, certificates: Sequence[X509Certificate]) -> list[Authority]:
        """Return the authorities that have the name of an issuer of the certificates."""
        names = set(map(x509.issuer_fingerprint, certificates))
        return [one for one in self._authorities if one.subject_fingerprint in names]

    def have_revoked(self, link: tuple[int, str]) -> bool:
        """Whether an authority, by its primary key, lists a serial number as revoked."""
        return link in self._revoked

    @cached_property
    def _authorities(self) -> list[Authority]:
        names = self._readable(x509.issuer_fingerprint)
        return [Authority(*row) for row in AUTHORITIES.rows(issuers=names)]

    @cached_property
    def _revoked(self) -> set[tuple[int, str]]:
        return set(REVOKED_SERIALS.rows(serials=self._readable(x509.serial_of)))

    def _readable(self, of: Callable[[X509Certificate], str]) -> list[str]:
        """Return a property of each certificate that has it; the others fail their own checks."""
        found = set()
        for certificate in self._certificates:
            with suppress(Refused):
                found.add(of(certificate))
        return list(found)


class Examination:
    """One certificate, presented for one device that is registered."""

    def __init__(
        self,
        identifier: str,
        presented: Presented,
        on_record: OnRecord,
        issuers: Issuers,
        now: datetime,
    ) -> None:
        self.identifier = identifier
        self.presented = presented
        self.rows = on_record.rows.get(identifier, [])
        self.revoked = on_record.has_revoked(presented)
        self.issuers = issuers
        self.now = now

    def verdict(self) -> Verdict:
        """Answer; Refused says why not."""
        leaf = self.presented.leaf
        row = self._matching()
        found = row.verdict(
            Outcome.VERIFIED,
            certificate=row.certificate if row.pins(self.presented.leaf) else None,
            valid_until=x509.validity_of(leaf)[1],
        )
        try:
            return replace(found, detail=self._check(row, pinned=found.certificate is not None))
        except Refused as refusal:
            return replace(found, outcome=refusal.outcome, detail=refusal.detail)

    def _check(self, row: Registered, *, pinned: bool) -> str:
        """Return what staff should know of a certificate that is accepted."""
        leaf = self.presented.leaf
        if not row.enabled:
            raise Refused(Outcome.DISABLED)
        if self.revoked:
            raise Refused(Outcome.REVOKED)
        x509.check_readable(leaf)
        x509.check_strength(leaf)
        x509.check_validity(leaf, self.now)
        if pinned:
            self._check_lists_on_pinned()
            return ""
        return self._vouched()

    def _matching(self) -> Registered:
        """Return the row that pins what was presented, the exact pin first; else any."""
        pinned = [row for row in self.rows if row.pins(self.presented.leaf)]
        exact = [row for row in pinned if row.pin == Pin.CERTIFICATE]
        return (exact or pinned or list(self.rows))[0]

    def _check_lists_on_pinned(self) -> None:
        """Refuse a pinned certificate that its issuer revoked; an old list says nothing here.

        A pin stands in for the path, not for a revocation.
        """
        leaf = self.presented.leaf
        issuers = [
            authority
            for authority in self.issuers.of([leaf])
            if authority.list_pk and x509.is_issued_by(leaf, authority.certificate)
        ]
        self._check_serials([(leaf, authority) for authority in issuers])

    def _vouched(self) -> str:
        """Return what staff should know of a path that holds; Refused where none does.

        An anchor whose own conditions are not met does not stand in the way of another one.
        """
        leaf = self.presented.leaf
        x509.check_client(leaf)
        known = self.issuers.of([leaf, *self.presented.others])
        anchors = {authority.certificate: authority for authority in known if authority.enabled}
        refusal: Refused | None = None
        while True:
            try:
                path = x509.find_path(self.presented, list(anchors), self.now)
            except Refused as error:
                raise refusal or self._plainer(error, known) from None
            anchor = anchors.pop(path[-1])
            try:
                self._check_name(anchor, path)
                return self._check_lists(path, known)
            except Refused as error:
                refusal = refusal or error

    def _plainer(self, error: Refused, known: Sequence[Authority]) -> Refused:
        """Name the switched-off anchor, where there is one and nothing else is wrong."""
        off = [authority.name for authority in known if not authority.enabled]
        if error.outcome is not Outcome.UNTRUSTED_ISSUER or not off:
            return error
        return Refused(
            error.outcome,
            gettext("%(detail)s; the trust anchor “%(name)s” is switched off")
            % {"detail": error.detail, "name": "”, “".join(off)},
        )

    def _check_name(self, anchor: Authority, path: Sequence[X509Certificate]) -> None:
        if anchor.name_source != NameSource.DNS and x509.is_name_constrained(path):
            raise Refused(
                Outcome.UNTRUSTED_ISSUER,
                gettext("an issuer has name constraints, which hold only for DNS names"),
            )
        if not anchor.names_device(self.presented.leaf, self.identifier):
            source = NameSource(anchor.name_source)
            names = x509.names_in(self.presented.leaf, source)[:3]
            raise Refused(
                Outcome.NAME_MISMATCH,
                gettext("“%(anchor)s” goes by the %(source)s, which says %(names)s")
                % {
                    "anchor": anchor.name,
                    "source": str(source.label),
                    "names": x509.shown(", ".join(names), 200) or gettext("nothing"),
                },
            )

    def _check_lists(self, path: Sequence[X509Certificate], known: Sequence[Authority]) -> str:
        """Hold each link of the path against the list of whoever issued it; return warnings."""
        links = [
            (certificate, authority)
            for certificate, issuer in pairwise(path)
            for authority in known
            if authority.has_issued_as(issuer)
        ]
        self._check_serials(links)
        warnings = []
        for authority in dict.fromkeys(authority for _link, authority in links):
            if (warning := self._stale(authority)) is None:
                continue
            if authority.crl_policy != CRLPolicy.WARN:
                raise Refused(Outcome.CRL_EXPIRED, warning)
            warnings.append(warning)
        return "; ".join(warnings)

    def _stale(self, authority: Authority) -> str | None:
        if authority.next_update is None:
            if authority.crl_policy != CRLPolicy.REQUIRE:
                return None
            return gettext("no list of “%(name)s” is loaded") % {"name": authority.name}
        if self.now <= authority.next_update:
            return None
        return gettext("the list of “%(name)s” was due to be renewed by %(moment)s") % {
            "name": authority.name,
            "moment": f"{authority.next_update:%Y-%m-%d %H:%M} UTC",
        }

    def _check_serials(self, links: Sequence[tuple[X509Certificate, Authority]]) -> None:
        """Refuse if a link is on its issuer's list."""
        listed = {
            (authority.pk, x509.serial_of(certificate)): certificate
            for certificate, authority in links
            if authority.list_pk
        }
        if not listed:
            return
        for link, certificate in listed.items():
            if self.issuers.have_revoked(link):
                raise Refused(Outcome.REVOKED_BY_CRL, x509.subject_of(certificate))


class CertificateQuerySet(models.QuerySet["Certificate"]):
    """Certificates, and the question whether one is a device's."""

    def live_at(self, now: datetime) -> "CertificateQuerySet":
        """Return those that admit their device now or later: neither revoked nor expired.

        The key of a pin by public key may come back in a renewed certificate at any time.
        """
        return self.unrevoked().filter(~Q(pin=Pin.CERTIFICATE) | Q(not_after__gte=now))

    def unrevoked(self) -> "CertificateQuerySet":
        """Return those that staff did not revoke, expired ones among them."""
        return self.filter(revoked_at=None)

    def expired_at(self, now: datetime) -> "CertificateQuerySet":
        """Return those that ended by themselves; the pin of a public key never does."""
        return self.unrevoked().filter(pin=Pin.CERTIFICATE, not_after__lt=now)

    def usable_at(self, now: datetime) -> "CertificateQuerySet":
        """Return those that can admit their device at that moment."""
        return self.live_at(now).filter(~Q(pin=Pin.CERTIFICATE) | Q(not_before__lte=now))

    def ending_before(self, moment: datetime, *, now: datetime) -> "CertificateQuerySet":
        """Return the live ones that end before that moment."""
        return self.unrevoked().filter(
            pin=Pin.CERTIFICATE, not_after__gte=now, not_after__lt=moment
        )

    def fingerprinted(self, prefix: str) -> "CertificateQuerySet":
        """Return those whose SHA-256 fingerprint, in lower case, begins so; by an index."""
        return self.filter(fingerprint__startswith=prefix)

    def prepare(
        self,
        *,
        device: Device | None,
        presented: str,
        pin: str = Pin.CERTIFICATE,
        label: str = "",
    ) -> "Certificate":
        """Return the first certificate of a text as a row that is not saved yet.

        Raises ValidationError where it cannot be read or would never be accepted.
        """
        try:
            certificate = x509.read(presented).leaf
            x509.check_readable(certificate)
            x509.check_strength(certificate)
            not_before, not_after = x509.validity_of(certificate)
            return self.model(
                device=device,
                pin=pin,
                label=label,
                pem=x509.pem_of(certificate),
                fingerprint=x509.fingerprint(certificate),
                content_fingerprint=x509.content_fingerprint(certificate),
                public_key_fingerprint=x509.public_key_fingerprint(certificate),
                subject=x509.subject_of(certificate),
                issuer=x509.issuer_of(certificate),
                serial=x509.serial_of(certificate),
                not_before=not_before,
                not_after=not_after,
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
                row = self.register(device=device, presented=presented)
            if not row.revoke(by=by, reason=reason, key_too=key_too):
                raise ValidationError(_("The certificate was revoked before."), code="revoked")
        return row

    def revoked_like(self, certificate: "Certificate") -> "CertificateQuerySet":
        """Return the revoked rows, of any device, that forbid this certificate for ever."""
        return self.filter(revoked_at__isnull=False).filter(
            Q(content_fingerprint=certificate.content_fingerprint)
            | Q(
                pin=Pin.PUBLIC_KEY,
                public_key_fingerprint=certificate.public_key_fingerprint,
            )
        )

    def examine(self, identifier: str, presented: str, *, now: datetime) -> Verdict:
        """Answer whether the certificate presented is one of the device's."""
        return self.examine_many([CertificateAttempt(identifier, presented)], now=now)[0]

    def examine_many(
        self, attempts: Sequence[CertificateAttempt], *, now: datetime
    ) -> list[Verdict]:
        """Answer the attempts in their order, with as many statements as one of them costs.

        What is presented is a PEM text, the leaf first, its issuers after it in any order; or one
        DER in base64. Two statements where it is pinned or no list is loaded, else three.
        """
        read = [_read(attempt.presented) for attempt in attempts]
        presented = [one for one in read if isinstance(one, Presented)]
        on_record = OnRecord((attempt.identifier for attempt in attempts), presented)
        issuers = Issuers(presented)
        return [
            one
            if isinstance(one, Verdict)
            else _judged(Examination(attempt.identifier, one, on_record, issuers, now))
            for attempt, one in zip(attempts, read, strict=True)
        ]

    def examine_caller(self, identifier: str, presented: str, *, now: datetime) -> Verdict:
        """Answer like `examine` for who calls the endpoints; failures count for the entity.

        What is pinned to it passes whatever was tried before, and so does what this process has
        seen verified. Building a path costs more: after a handful of failures nothing else is
        examined.
        """
        one = _read(presented)
        if isinstance(one, Verdict):
            return one
        on_record = OnRecord([identifier], [one])
        examination = Examination(identifier, one, on_record, Issuers([one]), now)
        if any(row.pins(one.leaf) for row in examination.rows):
            return _judged(examination)
        counted = f"certificate of {identifier}"
        if throttle.remembered.recalls(counted, presented):
            return _judged(examination)
        guess = throttle.Guess(identifier, ["certificate"], as_caller=True, hashed=False)
        with guess.attempt() as allowed:
            verdict = _judged(examination) if allowed else Verdict(Outcome.THROTTLED, guess.refusal)
            if verdict.verified:
                guess.succeeded()
                throttle.remembered.note(counted, presented)
        return verdict

    def backends_named(self, presented: str) -> list[str]:
        """Return the entities that a caller's certificate may be of; `examine_caller` says whether.

        First those that it is pinned to, then whoever the naming rules of trust anchors make of the
        names in it, registered or not.
        """
        try:
            certificates = x509.read(presented)
            leaf = certificates.leaf
            pins = CERTIFICATES_OF_BACKENDS.rows(
                x509.fingerprint(leaf), x509.public_key_fingerprint(leaf)
            )
            found = [identifier for (identifier,) in pins]
            for anchor in Issuers([certificates]).of([leaf, *certificates.others]):
                found += anchor.devices_named_in(leaf) if anchor.enabled else []
        except Refused:
            return []
        return list(dict.fromkeys(found))[:MAX_NAMED]


def _judged(examination: Examination) -> Verdict:
    """Return an examination's answer; a refusal is one, too."""
    if not examination.rows:
        return Verdict(Outcome.UNKNOWN_DEVICE)
    try:
        return examination.verdict()
    except Refused as refusal:
        return refusal.verdict


def _read(presented: str) -> Presented | Verdict:
    """Return the certificates of a text that have what every look-up needs, else why not."""
    try:
        certificates = x509.read(presented)
        x509.content_fingerprint(certificates.leaf)
        x509.public_key_fingerprint(certificates.leaf)
    except Refused as refusal:
        return refusal.verdict
    return certificates


# --- The rows -------------------------------------------------------------------------------


def keep_revoked(
    collector: Collector,
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
                fields=["not_after"],
                condition=Q(revoked_at=None),
                name="devices_certificate_ends",
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
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["device", "fingerprint"],
                name="devices_certificate_unique",
                violation_error_message=_("The device has this certificate already."),
            ),
            models.CheckConstraint(
                condition=Q(pin__in=["certificate", "public-key"]),
                name="devices_certificate_pin_known",
            ),
            models.CheckConstraint(
                condition=Q(device__isnull=False) | Q(revoked_at__isnull=False),
                name="devices_certificate_of_a_device",
            ),
        ]

    def __str__(self) -> str:
        return self.label or self.subject or f"certificate {self.serial}"

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
        """The certificate, parsed."""
        return certificate_in(self.pem)

    def issuers(self) -> list[CertificateAuthority]:
        """Return the trust anchors, switched-off ones too, that signed this very certificate."""
        named = CertificateAuthority.objects.filter(
            subject_fingerprint=x509.issuer_fingerprint(self.parsed)
        )
        return [anchor for anchor in named if x509.is_issued_by(self.parsed, anchor.parsed)]

    def state_at(self, now: datetime) -> Outcome:
        """Return VERIFIED where the pin can admit its device at that moment, else why not."""
        if self.revoked_at is not None:
            return Outcome.REVOKED
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
