"""Certificate revocation lists (RFC 5280, section 5): reading and checking them."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import NamedTuple

from cryptography import x509
from django.utils.translation import gettext as _

from devices.credentials.x509 import (
    HASHES,
    MAX_SERIAL_OCTETS,
    MAX_TEXT_LENGTH,
    Refused,
    as_ascii,
    extension,
    name_text,
    parsing,
    shown,
)
from devices.values.text import joined
from devices.verdicts import Outcome

MAX_LIST_BYTES = 16 * 1024 * 1024  # bytes of a revocation list
DER_SEQUENCE = b"\x30"  # with which every list in DER begins
CLOCK_SKEW = timedelta(minutes=5)  # a list may come from a clock that is ahead by this much


class RevokedEntry(NamedTuple):
    """One line of a revocation list."""

    serial: str
    date: datetime
    reason: str


def read_list(content: bytes) -> x509.CertificateRevocationList:
    """Return the one revocation list in a PEM or DER file of at most 16 MiB."""
    if len(content) > MAX_LIST_BYTES:
        raise Refused(
            Outcome.MALFORMED, _("longer than %(most)d MiB") % {"most": MAX_LIST_BYTES >> 20}
        )
    content = as_ascii(content)
    if not (content.startswith(DER_SEQUENCE) or b"-----BEGIN " in content[:MAX_TEXT_LENGTH]):
        raise Refused(
            Outcome.MALFORMED,
            _("not a revocation list: neither DER nor PEM, which has -----BEGIN X509 CRL-----"),
        )
    if content.count(b"-----BEGIN X509 CRL-----") > 1:
        raise Refused(
            Outcome.MALFORMED, _("it holds several revocation lists: load each from its own file")
        )
    with parsing(_("not a revocation list")):
        if b"-----BEGIN " in content[:MAX_TEXT_LENGTH]:
            return x509.load_pem_x509_crl(content)
        return x509.load_der_x509_crl(content)


def check_list(
    revoked: x509.CertificateRevocationList,
    issuer: x509.Certificate,
    now: datetime,
    *,
    distribution_point: str = "",
) -> datetime:
    """Return until when a list holds; refuse one that is not the issuer's own, whole and dated.

    Staff say of the list of one distribution point, named by its URI, that it is whole.
    """
    with parsing(_("the revocation list")):
        if revoked.issuer != issuer.subject:
            raise Refused(
                Outcome.UNTRUSTED_ISSUER,
                _("it was issued by %(issuer)s") % {"issuer": name_text(revoked.issuer)},
            )
        if not isinstance(revoked.signature_hash_algorithm, HASHES):
            raise Refused(Outcome.UNSUITABLE, _("its signature uses a weak or unknown hash"))
        if not revoked.is_signature_valid(issuer.public_key()):  # type: ignore[arg-type]
            raise Refused(Outcome.UNTRUSTED_ISSUER, _("its signature is not the trust anchor's"))
        _check_list_extensions(revoked, issuer, distribution_point)
        made, next_update = revoked.last_update_utc, revoked.next_update_utc
        if next_update is None or next_update < made:
            raise Refused(Outcome.MALFORMED, _("it does not say until when it holds"))
        if made > now + CLOCK_SKEW:
            raise Refused(Outcome.NOT_YET_VALID, _("it is dated in the future"))
        return next_update


def _check_list_extensions(
    revoked: x509.CertificateRevocationList, issuer: x509.Certificate, distribution_point: str
) -> None:
    usage = extension(issuer, x509.KeyUsage)
    if usage is not None and not usage.crl_sign:
        raise Refused(Outcome.UNSUITABLE, _("the key usage of the trust anchor lacks CRL signing"))
    for one in revoked.extensions:
        if isinstance(one.value, x509.DeltaCRLIndicator):
            raise Refused(Outcome.UNSUITABLE, _("it is a delta list; load the complete one"))
        if isinstance(one.value, x509.IssuingDistributionPoint):
            _check_scope(one.value, issuer, distribution_point)
        elif one.critical and not isinstance(one.value, x509.CRLNumber):
            raise Refused(
                Outcome.UNSUITABLE,
                _("it has the unknown critical extension %(oid)s") % {"oid": one.oid.dotted_string},
            )


def _check_scope(
    scope: x509.IssuingDistributionPoint, issuer: x509.Certificate, distribution_point: str
) -> None:
    """Refuse a list that leaves out certificates of its issuer, or may (RFC 5280, 5.2.5).

    A list for the certificates of devices alone leaves none out where its issuer, by its path
    length of 0, issues to no authority. A list that names a distribution point may be one of
    several (6.3.3 holds it against what each certificate names): staff must know that point.
    """
    constraints = extension(issuer, x509.BasicConstraints)
    issues_to_authorities = constraints is None or constraints.path_length != 0
    if (
        scope.only_contains_ca_certs
        or scope.only_contains_attribute_certs
        or scope.only_some_reasons
        or scope.indirect_crl
        or (scope.only_contains_user_certs and issues_to_authorities)
    ):
        raise Refused(Outcome.UNSUITABLE, _("it covers only a part of the certificates"))
    if scope.full_name is None and scope.relative_name is None:
        return
    names = [
        one.value
        for one in scope.full_name or ()
        if isinstance(one, x509.UniformResourceIdentifier)
    ]
    if not distribution_point or distribution_point not in names:
        raise Refused(
            Outcome.UNSUITABLE,
            _(
                "it names the distribution point %(names)s, so it may be one of several parts; "
                "where it is whole, enter that address at the trust anchor"
            )
            % {"names": shown(joined(names)) or "—"},
        )


def list_number(revoked: x509.CertificateRevocationList) -> int | None:
    """Return the number that a list bears; later lists have larger ones."""
    with parsing(_("the list's number")):
        number = extension(revoked, x509.CRLNumber)
        if number is not None and not 0 <= number.crl_number < 1 << MAX_SERIAL_OCTETS * 8:
            raise Refused(Outcome.MALFORMED, _("its number is negative or longer than 20 octets"))
        return None if number is None else number.crl_number


def entries_of(revoked: x509.CertificateRevocationList) -> Iterator[RevokedEntry]:
    """Yield what the list revokes; serial numbers that no certificate can have are left out."""
    with parsing(_("an entry of the list")):
        for entry in revoked:
            reason = ""
            for one in entry.extensions:
                if isinstance(one.value, x509.CRLReason):
                    reason = one.value.reason.value
                elif one.critical:
                    text = _("an entry has the critical extension %(oid)s")
                    raise Refused(Outcome.UNSUITABLE, text % {"oid": one.oid.dotted_string})
            if 0 <= entry.serial_number < 1 << MAX_SERIAL_OCTETS * 8:
                yield RevokedEntry(f"{entry.serial_number:x}", entry.revocation_date_utc, reason)
