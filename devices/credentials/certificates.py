"""Whether a certificate that is presented is a device's.

A certificate presented proves nothing by itself: certificates are public. What is answered here
counts only for a backend that did the TLS handshake with the device. (docs/certificates.md)
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple

from cryptography.x509 import Certificate as X509Certificate
from django.db import DEFAULT_DB_ALIAS
from django.utils.translation import gettext

from devices import addresses
from devices.credentials import path_validation, throttle, x509
from devices.credentials.x509 import NameSource, Presented, Refused
from devices.database.statements import Statement
from devices.models.authority import PLACEHOLDER, CRLPolicy
from devices.models.certificate import Pin
from devices.verdicts import Outcome, Verdict

LISTED = "listed"  # in the place of a pin: a revocation list names the certificate
MAX_NAMED = 4  # entities that a caller's certificate is held against where it names several


# --- The statements of a check --------------------------------------------------------------


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
        expected = name_of(identifier, self.identifier_pattern, self.name_pattern)
        return expected is not None and expected in names

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

    def verdict(self, outcome: Outcome, **more: Any) -> Verdict:
        """Return an outcome about this device."""
        return Verdict(outcome, device=self.device, kind=self.kind, **more)


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
# whose key is pinned (`devices.models.certificate.named_by_list`).
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

    def __init__(
        self, identifiers: Iterable[str], presented: Sequence[Presented], using: str
    ) -> None:
        self.rows: dict[str, list[Registered]] = {}
        self._revoked: set[str] = set()
        self._listed: set[str] = set()
        named = list(filter(addresses.is_storable, set(identifiers)))
        shown = [one for each in presented for one in (each.leaf, *each.others)]
        contents = list(set(map(x509.content_fingerprint, shown)))
        keys = list(set(filter(None, map(_key_of, shown))))
        if not named:
            return
        for row in CERTIFICATES_OF_DEVICES.rows(named, contents, keys, keys, using=using):
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


# --- The check ------------------------------------------------------------------------------


class Issuers:
    """The authorities that may have a say in what is presented, and what they revoked of it.

    Asked for when a verification first needs them, for all that are verified together.
    """

    def __init__(self, presented: Iterable[Presented], using: str) -> None:
        self._using = using
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
        return [Authority(*row) for row in AUTHORITIES.rows(names, using=self._using)]

    @cached_property
    def _revoked(self) -> set[tuple[int, str]]:
        serials = self._readable(x509.serial_of)
        return set(REVOKED_SERIALS.rows(serials, using=self._using))

    def _readable(self, of: Callable[[X509Certificate], str]) -> list[str]:
        """Return a property of each certificate that has it; the others fail their own checks."""
        found = set()
        for certificate in self._certificates:
            with suppress(Refused):
                found.add(of(certificate))
        return list(found)


@dataclass
class Verification:
    """The check of one certificate, presented for one identifier."""

    identifier: str
    presented: Presented
    stored: StoredCertificates
    issuers: Issuers
    now: datetime

    @property
    def rows(self) -> list[Registered]:
        return self.stored.rows.get(self.identifier, [])

    def verdict(self) -> Verdict:
        """Return whether the certificate is the device's; a refusal is a verdict, too."""
        if not self.rows:
            return Verdict(Outcome.UNKNOWN_DEVICE)
        leaf = self.presented.leaf
        row = self._matching()
        certificate = row.certificate if row.pins(leaf) else None
        try:
            found = row.verdict(
                Outcome.VERIFIED, certificate=certificate, valid_until=x509.validity_of(leaf)[1]
            )
        except Refused as refusal:
            return refusal.verdict
        try:
            return replace(found, detail=self._check(row, pinned=certificate is not None))
        except Refused as refusal:
            return replace(found, outcome=refusal.outcome, detail=refusal.detail)

    def _check(self, row: Registered, *, pinned: bool) -> str:
        """Return what staff should know of a certificate that is accepted."""
        leaf = self.presented.leaf
        if not row.enabled:
            raise Refused(Outcome.DISABLED)
        if self.stored.has_revoked(leaf):
            raise Refused(Outcome.REVOKED)
        if self.stored.has_listed_key(leaf):
            raise Refused(Outcome.REVOKED_BY_CRL, gettext("another certificate with its key"))
        x509.check_readable(leaf)
        x509.check_strength(leaf)
        x509.check_validity(leaf, self.now)
        if pinned:
            self._check_lists_on_pinned()
            return ""
        return self._verify_path()

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

    def _verify_path(self) -> str:
        """Return what staff should know of a path that holds; Refused where none does.

        An anchor whose own conditions are not met does not stand in the way of another one.
        """
        leaf = self.presented.leaf
        x509.check_client(leaf)
        known = self.issuers.of([leaf, *self.presented.others])
        revoked = [one for one in self.presented.others if self.stored.has_revoked(one)]
        others = [one for one in self.presented.others if one not in revoked]
        trusted = [one for one in known if one.enabled]
        revoked += [one.certificate for one in trusted if one.revoked]
        anchors = {one.certificate: one for one in trusted if not one.revoked}
        refusal: Refused | None = None
        while True:
            try:
                path = path_validation.find_path(Presented(leaf, others), list(anchors), self.now)
            except Refused as error:
                if revoked and error.outcome is Outcome.UNTRUSTED_ISSUER:
                    error = Refused(Outcome.REVOKED, x509.subject_of(revoked[0]))
                raise refusal or self._name_disabled_anchor(error, known) from None
            anchor = anchors.pop(path[-1])
            try:
                self._check_name(anchor, path)
                return self._check_lists(path, known)
            except Refused as error:
                refusal = refusal or error

    def _name_disabled_anchor(self, error: Refused, known: Sequence[Authority]) -> Refused:
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
        if anchor.name_source != NameSource.DNS and path_validation.is_name_constrained(path):
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


def verify_certificates(
    pairs: Sequence[tuple[str, str]], *, now: datetime, using: str = DEFAULT_DB_ALIAS
) -> list[Verdict]:
    """Verify pairs of identifier and certificate, with as many statements as one of them costs.

    What is presented is a PEM text, the leaf first, its issuers after it in any order; or one
    DER in base64. Two statements where it is pinned or no list is loaded, else three.
    """
    read = [_read(text) for _identifier, text in pairs]
    presented = [one for one in read if isinstance(one, Presented)]
    stored = StoredCertificates((identifier for identifier, _text in pairs), presented, using)
    issuers = Issuers(presented, using)
    return [
        one
        if isinstance(one, Verdict)
        else Verification(identifier, one, stored, issuers, now).verdict()
        for (identifier, _text), one in zip(pairs, read, strict=True)
    ]


def verify_caller_certificate(
    identifier: str, presented: str, *, now: datetime, using: str = DEFAULT_DB_ALIAS
) -> Verdict:
    """Verify the certificate of who calls the endpoints; failures count for the entity.

    What is pinned to it passes whatever was tried before, and so does what this process has
    seen verified. Building a path costs more: after a handful of failures none is built.
    """
    one = _read(presented)
    if isinstance(one, Verdict):
        return one
    stored = StoredCertificates([identifier], [one], using)
    verification = Verification(identifier, one, stored, Issuers([one], using), now)
    counted = f"certificate of {identifier}"
    if any(row.pins(one.leaf) for row in verification.rows) or throttle.remembered.recalls(
        counted, presented
    ):
        return verification.verdict()
    guess = throttle.Guess(identifier, ["certificate"], as_caller=True)
    if not guess.take():
        return Verdict(Outcome.THROTTLED, guess.refusal)
    verdict = verification.verdict()
    if verdict.verified:
        guess.give_back()
        throttle.remembered.note(counted, presented)
    return verdict


def backends_named(presented: str) -> list[str]:
    """Return the entities that a caller's certificate may be of, to be verified one by one.

    First those that it is pinned to, then whoever the naming rules of trust anchors make of the
    names in it, registered or not.
    """
    try:
        certificates = x509.read(presented)
        leaf = certificates.leaf
        pins = CERTIFICATES_OF_BACKENDS.rows(
            x509.fingerprint(leaf), x509.public_key_fingerprint(leaf), using=DEFAULT_DB_ALIAS
        )
        found = [identifier for (identifier,) in pins]
        for anchor in Issuers([certificates], DEFAULT_DB_ALIAS).of([leaf, *certificates.others]):
            found += anchor.devices_named_in(leaf) if anchor.enabled else []
    except Refused:
        return []
    return list(dict.fromkeys(found))[:MAX_NAMED]


def _read(presented: str) -> Presented | Verdict:
    """Return the certificates of a text that have what every look-up needs, else why not."""
    try:
        certificates = x509.read(presented)
        x509.content_fingerprint(certificates.leaf)
        x509.public_key_fingerprint(certificates.leaf)
    except Refused as refusal:
        return refusal.verdict
    return certificates
