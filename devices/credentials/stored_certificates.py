"""What is on record of certificates and of who issues them, as a check reads it."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import datetime
from functools import cached_property
from typing import NamedTuple

from cryptography.x509 import Certificate as X509Certificate

from devices.credentials import x509
from devices.credentials.x509 import NameSource, Presented, Refused
from devices.database.statements import Statement
from devices.models.credentials.authority import PLACEHOLDER
from devices.models.credentials.certificate import Pin
from devices.values import addresses
from devices.verdicts import Outcome, Verdict

LISTED = "listed"  # in the place of a pin: a revocation list names the certificate


class Authority(NamedTuple):
    """A trust anchor with the dates of its revocation list, as a check needs them."""

    subject_fingerprint: str
    pk: int
    name: str
    pem: str
    enabled: bool
    public_key_fingerprint: str
    name_source: str
    name_pattern: str
    identifier_pattern: str
    crl_policy: str
    list_pk: int | None
    next_update: datetime | None
    revoked: bool  # by staff, as a certificate

    @property
    def certificate(self) -> X509Certificate:
        return x509.parsed(self.pem)

    def names_device(self, leaf: X509Certificate, identifier: str) -> bool:
        """Whether the certificate bears the name that this anchor gives to the device."""
        source = NameSource(self.name_source)
        names = x509.names_in(leaf, source)
        if source is NameSource.COMMON_NAME and len(names) != 1:
            return False
        return name_of(identifier, self.identifier_pattern, self.name_pattern) in names

    def devices_named_in(self, leaf: X509Certificate) -> list[str]:
        """Return the identifiers that this anchor's rule makes of the names in a certificate."""
        names = x509.names_in(leaf, NameSource(self.name_source))
        made = (name_of(name, self.name_pattern, self.identifier_pattern) for name in names)
        return [identifier for identifier in made if identifier is not None]

    def has_issued_as(self, issuer: X509Certificate) -> bool:
        """Whether this row and the certificate are the same authority: one name, one key."""
        return (
            self.certificate.subject == issuer.subject
            and self.public_key_fingerprint == x509.public_key_fingerprint(issuer)
        )


def name_of(identifier: str, identifier_pattern: str, name_pattern: str) -> str | None:
    """Return the name that a certificate of the device must bear; None where there is none.

    With the patterns exchanged, the identifier that a name stands for.
    """
    before, _place, after = identifier_pattern.partition(PLACEHOLDER)
    own = identifier[len(before) : len(identifier) - len(after)]
    if not own or f"{before}{own}{after}" != identifier:
        return None
    return name_pattern.replace(PLACEHOLDER, own)


AUTHORITIES = Statement(
    """
    SELECT a.subject_fingerprint, a.id, a.name, a.pem, a.enabled, a.public_key_fingerprint,
           a.name_source, a.name_pattern, a.identifier_pattern, a.crl_policy, r.id, r.next_update,
           EXISTS (SELECT 1 FROM devices_certificate c
                    WHERE c.revoked_at IS NOT NULL
                      AND (c.fingerprint = a.fingerprint
                           OR (c.pin = 'public-key'
                               AND c.public_key_fingerprint = a.public_key_fingerprint)))
      FROM devices_certificateauthority a
           LEFT JOIN devices_revocationlist r ON r.authority_id = a.id
     WHERE a.subject_fingerprint {among}
     ORDER BY a.id
    """
)
REVOKED_SERIALS = Statement(
    "SELECT authority_id, serial FROM devices_revokedserial WHERE serial {among}"
)


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

    def verdict(self, certificate: int | None) -> Verdict:
        return Verdict(
            Outcome.VERIFIED, device=self.device, kind=self.kind, certificate=certificate
        )


# The index that holds backends alone bears the condition as it stands here, as a literal.
CERTIFICATES_OF_BACKENDS = Statement(
    """
    SELECT d.identifier
      FROM devices_device d CROSS JOIN devices_certificate c
     WHERE d.kind = 'backend' AND c.device_id = d.id
       AND (c.fingerprint = %s OR (c.pin = 'public-key' AND c.public_key_fingerprint = %s))
     ORDER BY d.identifier
    """
)


# Devices by identifier, each beside its certificates; then what was revoked of what is presented,
# in whichever row, which names no device: by staff, or by the list of who signed a certificate
# whose key is pinned (`devices.models.credentials.certificate.named_by_list`).
CERTIFICATES_OF_DEVICES = Statement(
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
    UNION ALL
    SELECT NULL, NULL, NULL, NULL,
           NULL, 'listed', c.content_fingerprint, c.public_key_fingerprint
      FROM devices_certificate c
     WHERE c.pin = 'public-key' AND c.public_key_fingerprint {among}
       AND EXISTS (SELECT 1
                     FROM devices_certificate_issuers i
                     JOIN devices_revokedserial s ON s.authority_id = i.certificateauthority_id
                    WHERE i.certificate_id = c.id AND s.serial = c.serial)
    """
)


class StoredCertificates:
    """What the registry holds of the devices that are named and of what is presented for them."""

    def __init__(self, identifiers: Iterable[str], presented: Sequence[Presented]) -> None:
        self.rows: dict[str, list[Registered]] = {}
        self._revoked: set[str] = set()
        self._listed: set[str] = set()
        named = list(filter(addresses.is_storable, set(identifiers)))
        shown = [one for each in presented for one in (each.leaf, *each.others)]
        contents = list(set(map(x509.content_fingerprint, shown)))
        keys = list(set(filter(None, map(_key_of, shown))))
        if not named:
            return
        for row in CERTIFICATES_OF_DEVICES.rows(named, contents, keys, keys):
            registered = Registered(*row)
            if registered.identifier is not None:
                self.rows.setdefault(registered.identifier, []).append(registered)
            elif registered.pin == LISTED:
                self._listed.add(registered.public_key_fingerprint)
            else:
                self._revoked.add(registered.fingerprint)
                if registered.pin == Pin.PUBLIC_KEY:
                    self._revoked.add(registered.public_key_fingerprint)

    def has_revoked(self, certificate: X509Certificate) -> bool:
        """Whether staff revoked this very certificate, leaf or issuer, or any with its key."""
        return not self._revoked.isdisjoint(
            (x509.content_fingerprint(certificate), _key_of(certificate))
        )

    def has_listed_key(self, certificate: X509Certificate) -> bool:
        """Whether a list names a certificate whose key is pinned and is this one's, too."""
        return _key_of(certificate) in self._listed


def _key_of(certificate: X509Certificate) -> str | None:
    """Return the fingerprint of the public key; None where that cannot be read."""
    try:
        return x509.public_key_fingerprint(certificate)
    except Refused:
        return None


class Issuers:
    """The authorities that may have a say in what is presented, and what they revoked of it.

    Asked for when a verification first needs them, for all that are verified together.
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

    def list_anchor(self, anchor: X509Certificate) -> bool:
        """Whether the list of an authority that issued an anchor names it."""
        signers = [
            authority
            for authority in self.of([anchor])
            if authority.list_pk
            and not authority.has_issued_as(anchor)
            and x509.is_issued_by(anchor, authority.certificate)
        ]
        serial = x509.serial_of(anchor)
        return any(self.have_revoked((authority.pk, serial)) for authority in signers)

    @cached_property
    def above(self) -> "Issuers":
        """The authorities that may have issued those that vouch and are no roots."""
        keys: dict[str, set[str]] = defaultdict(set)
        for one in self._authorities:
            keys[one.subject_fingerprint].add(one.public_key_fingerprint)
        issued = [
            Presented(certificate, [])
            for one in self._authorities
            if one.enabled
            # Of an issuer with its own name it has another key.
            and (
                (certificate := one.certificate).issuer != certificate.subject
                or len(keys[one.subject_fingerprint]) > 1
            )
        ]
        return Issuers(issued)

    @cached_property
    def _authorities(self) -> list[Authority]:
        names = self._readable(x509.issuer_fingerprint)
        if not names:
            return []
        return [Authority(*row) for row in AUTHORITIES.rows(names)]

    @cached_property
    def _revoked(self) -> set[tuple[int, str]]:
        serials = self._readable(x509.serial_of)
        return set(REVOKED_SERIALS.rows(serials))

    def _readable(self, of: Callable[[X509Certificate], str]) -> list[str]:
        """Return a property of each certificate that has it; the others fail their own checks."""
        found = set()
        for certificate in self._certificates:
            with suppress(Refused):
                found.add(of(certificate))
        return list(found)
