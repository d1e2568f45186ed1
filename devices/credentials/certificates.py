"""Whether a certificate that is presented is a device's.

A certificate presented proves nothing by itself: certificates are public. What is answered here
counts only for a backend that did the TLS handshake with the device. (docs/certificates.md)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from cryptography.x509 import Certificate as X509Certificate
from django.db.models import Q
from django.utils.translation import gettext

from devices.credentials import path_validation, throttle, x509
from devices.credentials.stored_certificates import (
    CERTIFICATES_OF_BACKENDS,
    Authority,
    Issuers,
    Registered,
    StoredCertificates,
)
from devices.credentials.x509 import NameSource, Presented, Refused
from devices.models.credentials.authority import CertificateAuthority, CRLPolicy
from devices.models.credentials.certificate import Certificate, Pin
from devices.values.moments import in_utc
from devices.values.text import joined
from devices.verdicts import Outcome, Verdict

MAX_NAMED = 4  # entities that a caller's certificate is held against where it names several


class UnfitIssuer(Refused):
    """A path does not hold because of one certificate in it; one without that may hold."""

    def __init__(self, outcome: Outcome, detail: str, issuer: X509Certificate) -> None:
        super().__init__(outcome, detail)
        self.issuer = issuer


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
        row = self._matching()
        certificate = row.certificate if row.pins(self.presented.leaf) else None
        found = row.verdict(certificate)
        try:
            return found._replace(detail=self._check(row, pinned=certificate is not None))
        except Refused as refusal:
            return found._replace(outcome=refusal.outcome, detail=refusal.detail)

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
        if self._listed([(leaf, authority) for authority in issuers], self.issuers) is not None:
            raise Refused(Outcome.REVOKED_BY_CRL, x509.subject_of(leaf))

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
        refusal = self._drop_listed(anchors)
        while True:
            try:
                path = path_validation.find_path(Presented(leaf, others), list(anchors), self.now)
            except Refused as error:
                if revoked and error.outcome is Outcome.UNTRUSTED_ISSUER:
                    error = Refused(Outcome.REVOKED, x509.subject_of(revoked[0]))
                raise refusal or self._name_disabled_anchor(error, known) from None
            try:
                self._check_name(anchors[path[-1]], path)
                return self._check_lists(path, known)
            except UnfitIssuer as error:  # another certificate of that issuer may do
                if error.issuer == leaf:
                    raise refusal or error from None
                refusal = refusal or error
                others = [one for one in others if one != error.issuer]
                anchors.pop(error.issuer, None)
            except Refused as error:
                refusal = refusal or error
                del anchors[path[-1]]

    def _drop_listed(self, anchors: dict[X509Certificate, Authority]) -> Refused | None:
        """Take away the anchors that the list of their own issuer names; return why, if any is."""
        refusal = None
        for anchor in list(anchors):
            if self.issuers.above.list_anchor(anchor):
                refusal = refusal or Refused(Outcome.REVOKED_BY_CRL, x509.subject_of(anchor))
                del anchors[anchor]
        return refusal

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
        if anchor.name_source != NameSource.DNS and (
            constrained := path_validation.name_constrained(path)
        ):
            raise UnfitIssuer(
                Outcome.UNTRUSTED_ISSUER,
                gettext("an issuer has name constraints, which hold only for DNS names"),
                constrained,
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
                    "names": x509.shown(joined(names), 200) or gettext("nothing"),
                },
            )

    def _check_lists(self, path: Sequence[X509Certificate], known: Sequence[Authority]) -> str:
        """Hold each link of the path against the list of whoever issued it; return warnings."""
        links = [
            (certificate, issuer, authority)
            for certificate, issuer in pairwise(path)
            for authority in known
            if authority.has_issued_as(issuer)
        ]
        listed = self._listed(
            [(certificate, authority) for certificate, _issuer, authority in links], self.issuers
        )
        if listed is not None:
            raise UnfitIssuer(Outcome.REVOKED_BY_CRL, x509.subject_of(listed), listed)
        warnings = []
        for authority, issuer in {authority: issuer for _link, issuer, authority in links}.items():
            if (warning := self._stale(authority)) is None:
                continue
            if authority.crl_policy != CRLPolicy.WARN:
                raise UnfitIssuer(Outcome.CRL_EXPIRED, warning, issuer)
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
            "moment": in_utc(authority.next_update),
        }

    @staticmethod
    def _listed(
        links: Sequence[tuple[X509Certificate, Authority]], issuers: Issuers
    ) -> X509Certificate | None:
        """Return the first certificate that the list of the authority beside it names."""
        for certificate, authority in links:
            if authority.list_pk and issuers.have_revoked(
                (authority.pk, x509.serial_of(certificate))
            ):
                return certificate
        return None


def verify_certificates(pairs: Sequence[tuple[str, str]], *, now: datetime) -> list[Verdict]:
    """Verify pairs of identifier and certificate, with as many statements as one of them costs.

    What is presented is a PEM text, the leaf first, its issuers after it in any order; or one
    DER in base64. Two statements where it is pinned or no list is loaded, else three; one or two
    more where an anchor is no root.
    """
    read = [_read(text) for _identifier, text in pairs]
    presented = [one for one in read if isinstance(one, Presented)]
    stored = StoredCertificates((identifier for identifier, _text in pairs), presented)
    issuers = Issuers(presented)
    return [
        one
        if isinstance(one, Verdict)
        else Verification(identifier, one, stored, issuers, now).verdict()
        for (identifier, _text), one in zip(pairs, read, strict=True)
    ]


def note_revoked(anchors: Sequence[CertificateAuthority]) -> None:
    """Note in each trust anchor as `refused_as` why its own certificate is refused, or None.

    Staff revoked it or its key, or its issuer's list names it, as a check judges that.
    """
    above = Issuers([Presented(one.parsed, []) for one in anchors])
    keys = {one.public_key_fingerprint for one in anchors}
    revoked = Certificate.objects.filter(
        Q(fingerprint__in=[one.fingerprint for one in anchors])
        | Q(pin=Pin.PUBLIC_KEY, public_key_fingerprint__in=keys),
        revoked_at__isnull=False,
    ).values_list("fingerprint", "pin", "public_key_fingerprint")
    by_staff = {key if pin == Pin.PUBLIC_KEY else own for own, pin, key in revoked}
    for one in anchors:
        found = None
        if not by_staff.isdisjoint((one.fingerprint, one.public_key_fingerprint)):
            found = Outcome.REVOKED
        elif above.list_anchor(one.parsed):
            found = Outcome.REVOKED_BY_CRL
        vars(one)["refused_as"] = found


def verify_caller_certificate(identifier: str, presented: str, *, now: datetime) -> Verdict:
    """Verify the certificate of who calls the endpoints; failures count for the entity.

    What is pinned to it passes whatever was tried before, and so does what this process has
    seen verified. Building a path costs more: after a handful of failures none is built.
    """
    one = _read(presented)
    if isinstance(one, Verdict):
        return one
    stored = StoredCertificates([identifier], [one])
    verification = Verification(identifier, one, stored, Issuers([one]), now)
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
            x509.fingerprint(leaf), x509.public_key_fingerprint(leaf)
        )
        found = [identifier for (identifier,) in pins]
        for anchor in Issuers([certificates]).of([leaf, *certificates.others]):
            found += anchor.devices_named_in(leaf) if anchor.enabled else []
    except Refused:
        return []
    return list(dict.fromkeys(found))[:MAX_NAMED]


def _read(presented: str) -> Presented | Verdict:
    """Return the certificates of a text that have what every look-up needs, else why not."""
    try:
        certificates = x509.read(presented)
        x509.public_key_fingerprint(certificates.leaf)
    except Refused as refusal:
        return refusal.verdict
    return certificates
