"""Trust anchors: authorities that vouch for devices' certificates, and what they revoked."""

from collections.abc import Iterable
from datetime import datetime
from functools import cached_property
from typing import Any, NamedTuple

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import Certificate as X509Certificate
from django.core.exceptions import ValidationError
from django.db import models, transaction
from django.db.models import F, Q
from django.utils import timezone
from django.utils.translation import gettext, gettext_lazy as _

from devices.credentials import crl, x509
from devices.credentials.crl import RevokedEntry
from devices.credentials.x509 import NameSource, Refused
from devices.database.batches import batched
from devices.database.conflicts import checking_again
from devices.history import Recorded, Records
from devices.history.recording import BATCH_SIZE
from devices.values.moments import in_utc

PLACEHOLDER = "{id}"  # stands in a template for the device's own part of a name


class CRLPolicy(models.TextChoices):
    """What a revocation list that is missing or out of date means."""

    REQUIRE = "require", _("Refuse until a list is loaded, and whenever it is out of date")
    REFUSE = "refuse", _("Refuse when the list that was loaded is out of date")
    WARN = "warn", _("Accept with a warning when the list is out of date")


class ReadList(NamedTuple):
    """What a revocation list says: until when it holds, and whom it names by serial number."""

    pem: str
    fingerprint: str
    next_update: datetime
    made: datetime
    number: int | None
    entries: dict[str, RevokedEntry]


def check_template(text: str) -> None:
    """Refuse a template without exactly one place for the device's part."""
    if text.count(PLACEHOLDER) != 1:
        raise ValidationError(
            _("Write {id} exactly once, where the device's own part of the name stands."),
            code="template",
        )


class CertificateAuthorityQuerySet(models.QuerySet["CertificateAuthority"]):
    def enabled(self) -> "CertificateAuthorityQuerySet":
        """Return those that vouch for anybody at all."""
        return self.filter(enabled=True)

    def ending(self, begin: datetime, end: datetime) -> "CertificateAuthorityQuerySet":
        """Return those that admit nobody from some moment of that time on.

        They end themselves, or their revocation list lapses where that makes them refuse.
        """
        lapses = Q(revocation_list__next_update__gte=begin, revocation_list__next_update__lt=end)
        ends = Q(not_after__gte=begin, not_after__lt=end)
        return self.enabled().filter(ends | (lapses & ~Q(crl_policy=CRLPolicy.WARN)))

    def prepare(self, *, presented: str, **fields: Any) -> "CertificateAuthority":
        """Return the certificate of a text as an anchor that is not saved yet.

        Raises ValidationError where it cannot be read or cannot be an anchor.
        """
        try:
            certificate = x509.read(presented).leaf
            x509.check_anchor(certificate)
            x509.check_validity(certificate, timezone.now())
            return self.model(
                subject_fingerprint=x509.subject_fingerprint(certificate),
                **x509.columns_of(certificate),
                **fields,
            )
        except Refused as refusal:
            raise refusal.as_validation_error() from None

    def register(self, *, presented: str, **fields: Any) -> "CertificateAuthority":
        authority = self.prepare(presented=presented, **fields)
        authority.full_clean()
        authority.save()
        return authority


def link_issued(pairs: Iterable[tuple[Any, "CertificateAuthority"]]) -> None:
    """Link each certificate to the authority beside it, if that one signed it.

    The authorities bear the names of the certificates' issuers.
    """
    link: Any = CertificateAuthority._meta.get_field("issued").through
    links = [
        link(certificate=certificate, certificateauthority=authority)
        for certificate, authority in pairs
        if x509.is_issued_by(certificate.parsed, authority.parsed)
    ]
    link.objects.bulk_create(links, batch_size=BATCH_SIZE, ignore_conflicts=True)


class CertificateAuthority(Recorded):
    """A trust anchor: whose signature makes a certificate a device's, and how it names devices."""

    name = models.CharField(
        _("name"), max_length=100, help_text=_("What staff call this authority.")
    )
    enabled = models.BooleanField(
        _("enabled"),
        default=True,
        help_text=_(
            "Switched off it vouches for nobody from the next request on. Its revocation list "
            "still counts where it is an intermediate below another anchor."
        ),
    )
    name_source = models.CharField(
        _("devices are named by"), max_length=16, choices=NameSource, default=NameSource.COMMON_NAME
    )
    name_pattern = models.CharField(
        _("the name in the certificate"),
        max_length=255,
        default=PLACEHOLDER,
        validators=[check_template],
        help_text=_("A template such as urn:factory:{id}. Compared exactly, case included."),
    )
    identifier_pattern = models.CharField(
        _("the identifier in the registry"),
        max_length=255,
        default=PLACEHOLDER,
        validators=[check_template],
        help_text=_("A template such as //api.example.com/{id}, with the same {id}."),
    )
    crl_policy = models.CharField(
        _("revocation list"),
        max_length=16,
        choices=CRLPolicy,
        default=CRLPolicy.REFUSE,
        help_text=_(
            "What a missing or outdated list means. Certificates on the list are refused always."
        ),
    )
    distribution_point = models.CharField(
        _("distribution point of the whole list"),
        max_length=500,
        blank=True,
        db_default="",
        default="",
        help_text=_(
            "Only where the authority's list names a distribution point, as those of step-ca do: "
            "the address that it names. You say with it that the list of this address has all "
            "certificates that the authority revokes. Lists of other addresses are refused."
        ),
    )
    pem = models.TextField(_("certificate (PEM)"), editable=False)
    fingerprint = models.CharField(_("SHA-256 fingerprint"), max_length=64, editable=False)
    subject_fingerprint = models.CharField(
        _("SHA-256 of the subject"), max_length=64, editable=False, db_index=True
    )
    public_key_fingerprint = models.CharField(
        _("SHA-256 of the public key"), max_length=64, editable=False
    )
    subject = models.TextField(_("subject"), editable=False)
    not_before = models.DateTimeField(_("valid from"), editable=False)
    not_after = models.DateTimeField(_("valid until"), editable=False)
    created = models.DateTimeField(_("created"), auto_now_add=True)

    objects = CertificateAuthorityQuerySet.as_manager()
    history = Records(without=["pem", "created"])
    # What staff say of it; the rest its certificate says.
    written_fields = ("name", "enabled", "name_source", "name_pattern", "identifier_pattern",
                      "crl_policy", "distribution_point")  # fmt: skip

    class Meta:
        ordering = ["name"]
        verbose_name = _("trust anchor")
        verbose_name_plural = _("trust anchors")
        constraints = [
            models.UniqueConstraint(
                fields=["name"],
                name="devices_authority_name_unique",
                violation_error_message=_("A trust anchor of this name exists."),
            ),
            models.UniqueConstraint(
                fields=["fingerprint"],
                name="devices_authority_unique",
                violation_error_message=_("This certificate is a trust anchor already."),
            ),
            models.CheckConstraint(condition=~Q(name=""), name="devices_authority_name_present"),
            models.CheckConstraint(
                condition=Q(name_source__in=NameSource.values),
                name="devices_authority_name_source_known",
            ),
            models.CheckConstraint(
                condition=Q(crl_policy__in=CRLPolicy.values),
                name="devices_authority_crl_policy_known",
            ),
            models.CheckConstraint(
                condition=Q(
                    name_pattern__contains=PLACEHOLDER, identifier_pattern__contains=PLACEHOLDER
                ),
                name="devices_authority_templates_have_a_place",
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Save; to a new authority the registered certificates that it signed are linked."""
        is_new = self._state.adding
        with transaction.atomic():
            super().save(*args, **kwargs)
            if is_new:
                named = self.issued.model.objects.filter(issuer=self.subject)
                link_issued((certificate, self) for certificate in named.iterator())

    @cached_property
    def parsed(self) -> X509Certificate:
        return x509.parsed(self.pem)

    def read_list(self, content: bytes, *, now: datetime | None = None) -> ReadList:
        """Read a revocation list (PEM or DER) that could be put in force.

        Raises ValidationError where it is not this authority's, not complete, or older than the
        one in force: an old list would bring revoked certificates back.
        """
        try:
            revoked = crl.read_list(content)
            read = ReadList(
                pem=revoked.public_bytes(Encoding.PEM).decode("ascii"),
                fingerprint=revoked.fingerprint(SHA256()).hex(),
                next_update=crl.check_list(
                    revoked,
                    self.parsed,
                    now or timezone.now(),
                    distribution_point=self.distribution_point,
                ),
                made=revoked.last_update_utc,
                number=crl.list_number(revoked),
                entries={entry.serial: entry for entry in crl.entries_of(revoked)},
            )
        except Refused as refusal:
            said = gettext("the revocation list is refused")  # outcomes speak of credentials
            raise refusal.as_validation_error(said) from None
        current = RevocationList.objects.filter(authority=self).first()
        if current is not None:
            current.check_succeeded_by(read.made, read.number)
        return read

    def load_list(
        self, content: bytes, *, by: str, now: datetime | None = None
    ) -> "RevocationList":
        """Put a revocation list in force; it replaces the one before as a whole.

        Raises ValidationError as `read_list` does.
        """
        moment = now or timezone.now()
        with transaction.atomic():
            self.hold()
            with checking_again():
                read = self.read_list(content, now=moment)
            self._replace_serials(set(read.entries.values()), made=read.made)
            loaded, _created = RevocationList.objects.update_or_create(
                authority=self,
                defaults={
                    "number": "" if read.number is None else str(read.number),
                    "this_update": read.made,
                    "next_update": read.next_update,
                    "entries": len(read.entries),
                    "loaded_at": moment,
                    "loaded_by": by,
                },
            )
        return loaded

    def _replace_serials(self, wanted: set[RevokedEntry], *, made: datetime) -> None:
        """Write what differs: a daily list of many thousands changes in a few lines.

        An authority leaves out what has expired. Where the key of that is pinned, which never
        expires, the entry stays.
        """
        expired = self.issued.filter(pin="public-key", not_after__lt=made).values("serial")
        rows = RevokedSerial.objects.filter(authority=self).exclude(serial__in=expired)
        known = {RevokedEntry(*row) for row in rows.values_list("serial", "date", "reason")}
        gone = [entry.serial for entry in known - wanted]
        for serials in batched(gone, BATCH_SIZE):
            rows.filter(serial__in=serials).delete()
        RevokedSerial.objects.bulk_create(
            (RevokedSerial(authority=self, **entry._asdict()) for entry in wanted - known),
            batch_size=BATCH_SIZE,
        )


class RevocationList(Recorded):
    """The revocation list of an authority that is in force: what it says of itself."""

    authority = models.OneToOneField(
        CertificateAuthority,
        verbose_name=_("trust anchor"),
        on_delete=models.CASCADE,
        related_name="revocation_list",
    )
    number = models.CharField(_("number"), max_length=60, blank=True, editable=False)
    this_update = models.DateTimeField(_("made"), editable=False)
    next_update = models.DateTimeField(_("renewed by"), editable=False)
    entries = models.PositiveIntegerField(_("certificates on it"), editable=False)
    loaded_at = models.DateTimeField(_("loaded"), editable=False)
    loaded_by = models.CharField(_("loaded by"), max_length=150, blank=True, editable=False)

    history = Records(owner="authority")

    class Meta:
        verbose_name = _("revocation list")
        verbose_name_plural = _("revocation lists")
        constraints = [
            models.CheckConstraint(
                condition=Q(this_update__lte=F("next_update")), name="devices_list_dates_ordered"
            )
        ]

    def __str__(self) -> str:
        return f"{self.authority}, {self.this_update:%Y-%m-%d}"

    def check_succeeded_by(self, this_update: datetime, number: int | None) -> None:
        """Refuse a successor that is older than this list, by its date or by its number."""
        older = this_update < self.this_update
        if number is not None and self.number:
            older = older or number < int(self.number)
        if older:
            raise ValidationError(
                _("The list is older than the one in force (number %(number)s, made %(moment)s)."),
                code="older",
                params={
                    "number": self.number or "—",
                    "moment": in_utc(self.this_update),
                },
            )


class RevokedSerial(models.Model):
    """A certificate that an authority's revocation list names."""

    authority = models.ForeignKey(
        CertificateAuthority,
        verbose_name=_("trust anchor"),
        on_delete=models.CASCADE,
        related_name="revoked_serials",
    )
    serial = models.CharField(_("serial number"), max_length=40)
    date = models.DateTimeField(_("revoked"))
    reason = models.CharField(_("reason"), max_length=32, blank=True)

    class Meta:
        ordering = ["authority", "serial"]
        verbose_name = _("revoked serial number")
        verbose_name_plural = _("revoked serial numbers")
        constraints = [
            models.UniqueConstraint(
                fields=["serial", "authority"], name="devices_revoked_serial_unique"
            )
        ]

    def __str__(self) -> str:
        return self.serial
