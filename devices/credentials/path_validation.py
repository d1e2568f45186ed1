"""Find the path from a certificate to a trust anchor. (docs/certificates.md)

Path building and validation (RFC 5280, section 6) are `cryptography`'s, whose search is bounded by
128 signature checks. What leads to no anchor raises `Refused`, which says why.
"""

from collections.abc import Sequence
from datetime import UTC, datetime

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import (
    Criticality,
    ExtensionPolicy,
    Policy,
    PolicyBuilder,
    Store,
    VerificationError,
)
from django.utils.translation import gettext as _

from devices.credentials.x509 import (
    MAX_ISSUERS,
    Presented,
    Refused,
    check_key,
    check_strength,
    check_validity,
    fingerprint,
    issuer_of,
    parsing,
    shown,
)
from devices.verdicts import Outcome

MAX_SUBTREES = 64  # name constraints of one issuer


def _issuer_usage(
    _policy: Policy, _certificate: x509.Certificate, extension: x509.KeyUsage | None
) -> None:
    if extension is not None and not extension.key_cert_sign:
        raise ValueError(_("the key usage of an issuer lacks certificate signing"))


def _issuer_purposes(
    _policy: Policy, _certificate: x509.Certificate, extension: x509.ExtendedKeyUsage | None
) -> None:
    if extension is not None and not {
        ExtendedKeyUsageOID.CLIENT_AUTH,
        ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,
    }.intersection(extension):
        raise ValueError(_("the extended key usage of an issuer lacks client authentication"))


def _issuer_name_constraints(
    _policy: Policy, _certificate: x509.Certificate, extension: x509.NameConstraints | None
) -> None:
    if extension is None:
        return
    subtrees = [*(extension.permitted_subtrees or ()), *(extension.excluded_subtrees or ())]
    if len(subtrees) > MAX_SUBTREES:
        raise ValueError(_("an issuer has too many name constraints"))


ISSUER_POLICY = (
    ExtensionPolicy.permit_all()
    .require_present(x509.BasicConstraints, Criticality.AGNOSTIC, None)
    .may_be_present(x509.KeyUsage, Criticality.AGNOSTIC, _issuer_usage)
    .may_be_present(x509.ExtendedKeyUsage, Criticality.AGNOSTIC, _issuer_purposes)
    .may_be_present(x509.NameConstraints, Criticality.AGNOSTIC, _issuer_name_constraints)
)
# Unknown critical extensions are refused by either policy; `check_client` has judged the rest.
LEAF_POLICY = ExtensionPolicy.permit_all().require_not_present(x509.NameConstraints)


def find_path(
    presented: Presented, anchors: Sequence[x509.Certificate], now: datetime
) -> list[x509.Certificate]:
    """Return the valid path from the leaf to one of the anchors, both included.

    The certificates in between may have been presented in any order.
    """
    trusted = [anchor for anchor in anchors if anchor != presented.leaf]
    if not trusted:
        issuer = issuer_of(presented.leaf)
        raise Refused(Outcome.UNTRUSTED_ISSUER, _("issued by %(issuer)s") % {"issuer": issuer})
    others = [certificate for certificate in presented.others if _may_issue(certificate)]
    verifier = (
        PolicyBuilder()
        .store(Store(trusted))
        .time(now.astimezone(UTC))
        .max_chain_depth(MAX_ISSUERS)
        .extension_policies(ca_policy=ISSUER_POLICY, ee_policy=LEAF_POLICY)
        .build_client_verifier()
    )
    with parsing(_("the path")):
        try:
            return verifier.verify(presented.leaf, others).chain
        except VerificationError as error:
            _explain([*presented.others, *trusted], presented.leaf, now)
            raise Refused(Outcome.UNTRUSTED_ISSUER, _reason(error)) from None


def _may_issue(certificate: x509.Certificate) -> bool:
    """Whether a search may try the key; what it costs to try one is bounded this way."""
    try:
        check_key(certificate, of_issuer=True)
    except Refused:
        return False
    return True


def _explain(candidates: Sequence[x509.Certificate], leaf: x509.Certificate, now: datetime) -> None:
    """Refuse with the fault of an issuer above the leaf, where that is what breaks the path.

    Only a reason is sought here: that there is no path is settled.
    """
    waiting, seen = [leaf], {fingerprint(leaf)}
    while waiting:
        issuer = waiting.pop().issuer
        for candidate in candidates:
            if candidate.subject == issuer and fingerprint(candidate) not in seen:
                seen.add(fingerprint(candidate))
                waiting.append(candidate)
                check_key(candidate, of_issuer=True)
                check_validity(candidate, now)
                if candidate.subject != candidate.issuer:
                    check_strength(candidate)


def _reason(error: VerificationError) -> str:
    """Return the library's words for staff, without what it says of its own workings."""
    text = str(error)
    for noise in (
        "validation failed: ",
        "candidates exhausted: ",
        "fatal error: ",
        "Python extension validator failed: ValueError: ",
    ):
        text = text.replace(noise, "")
    text = text.partition(": AlgorithmIdentifier")[0]  # its fields, as the library keeps them
    return shown(text.partition(" (encountered")[0], 200)


def name_constrained(path: Sequence[x509.Certificate]) -> x509.Certificate | None:
    """Return the first issuer in the path that may speak for some names only."""
    with parsing(_("the extensions")):
        for certificate in path[1:]:
            if any(isinstance(one.value, x509.NameConstraints) for one in certificate.extensions):
                return certificate
    return None
