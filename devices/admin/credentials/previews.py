"""What was read of a certificate, an authority or a revocation list, before it is saved."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from devices.admin.base.rendering import NOTHING, SOON, expiry, moment
from devices.credentials import x509
from devices.credentials.x509 import NameSource, Refused
from devices.models import Certificate, CertificateAuthority, RevokedSerial
from devices.models.credentials.authority import ReadList
from devices.models.credentials.certificate import Pin


@dataclass(frozen=True, slots=True)
class Preview:
    """Facts by their name, and what staff should think about before they save."""

    facts: list[tuple[str, Any]]
    warnings: list[str] = field(default_factory=list)


def names_text(row: Certificate) -> SafeString:
    """Return the names in a certificate, one a line."""
    try:
        names = [
            (source.label, x509.shown(name, 300))
            for source in NameSource
            for name in x509.names_in(row.parsed, source)
        ]
    except Refused as refusal:
        return format_html("{}", str(refusal))
    return format_html_join(SafeString("<br>"), "{}: {}", names)


def of_certificate(row: Certificate, now: datetime) -> Preview:
    issuers = row.find_issuers()
    anchors = ", ".join(anchor.name for anchor in issuers if anchor.enabled)
    return Preview(
        [
            (_("Subject"), x509.shown(row.subject)),
            (_("Issuer"), x509.shown(row.issuer)),
            (_("Names"), names_text(row) or NOTHING),
            (_("Serial number"), row.serial),
            (_("Key"), x509.key_text(row.parsed)),
            (_("Valid from"), moment(row.not_before)),
            (_("Valid until"), expiry(row.not_after, now)),
            (_("SHA-256 fingerprint"), format_html("<code>{}</code>", row.fingerprint)),
            (_("Trust anchor"), anchors or _("none vouches for it: only this pin admits it")),
        ],
        _warnings(row, issuers, now),
    )


def _warnings(row: Certificate, issuers: list[CertificateAuthority], now: datetime) -> list[str]:
    warnings = _validity_warnings(row, now)
    same_key = Certificate.objects.filter(public_key_fingerprint=row.public_key_fingerprint)
    if same_key.exclude(device=row.device).exists():
        warnings.append(_("Another device has a certificate with the same key."))
    if RevokedSerial.objects.filter(authority__in=issuers, serial=row.serial).exists():
        warnings.append(_("Its issuer's revocation list names it: it will be refused."))
    if row.pin == Pin.PUBLIC_KEY:
        warnings.append(
            _("Its key is pinned: any certificate with this key is accepted, whatever its dates.")
        )
    return warnings


def _validity_warnings(row: Certificate | CertificateAuthority, now: datetime) -> list[str]:
    if now < row.not_before:
        return [_("It is not valid yet.")]
    if row.not_after < now:
        return [_("It has expired.")]
    return [_("It ends within 30 days.")] if row.not_after < now + SOON else []


def of_anchor(row: CertificateAuthority, now: datetime) -> Preview:
    return Preview(
        [
            (_("Subject"), x509.shown(row.subject)),
            (_("Key"), x509.key_text(row.parsed)),
            (_("Valid from"), moment(row.not_before)),
            (_("Valid until"), expiry(row.not_after, now)),
            (_("SHA-256 fingerprint"), format_html("<code>{}</code>", row.fingerprint)),
        ],
        [
            _("Whoever holds its key can make certificates for every device that it names."),
            *_validity_warnings(row, now),
        ],
    )


def of_list(read: ReadList, anchor: CertificateAuthority, now: datetime) -> Preview:
    """Return what was read of a revocation list, and what it changes."""
    known = set(RevokedSerial.objects.filter(authority=anchor).values_list("serial", flat=True))
    gone = len(known - read.entries.keys())
    warnings = []
    if read.next_update < now:
        warnings.append(_("It is out of date already."))
    if gone:
        warnings.append(_("Certificates that the list in force names are not on it any more."))
    return Preview(
        [
            (_("Trust anchor"), anchor.name),
            (_("Number"), NOTHING if read.number is None else read.number),
            (_("Made"), moment(read.made)),
            (_("Renewed by"), expiry(read.next_update, now)),
            (_("Certificates on it"), f"{len(read.entries):,}"),
            (_("Newly on it"), f"{len(read.entries.keys() - known):,}"),
            (_("No longer on it"), f"{gone:,}"),
        ],
        warnings,
    )
