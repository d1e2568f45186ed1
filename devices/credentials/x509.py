"""X.509: reading certificates, and whether one is fit for its use.

Pure functions over `cryptography`; the rows are in `devices.models.credentials.certificate`.
Everything presented is hostile until proven otherwise: what cannot be read or is unfit for the use
raises `Refused`, which says why, and nothing else leaves this module. (docs/certificates.md)
"""

import base64
import binascii
import codecs
import hashlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, SignatureAlgorithmOID
from django.core.exceptions import ValidationError
from django.db import models
from django.utils.translation import gettext as _, gettext_lazy

from devices.values.moments import in_utc
from devices.verdicts import Outcome, Verdict

MAX_TEXT_LENGTH = 64 * 1024  # characters presented: leaf and chain
MAX_ISSUERS = 10  # certificates that may follow the leaf
PEM_KINDS = ("CERTIFICATE", "X509 CERTIFICATE")  # what the library reads as a certificate
MAX_SERIAL_OCTETS = 20  # octets (RFC 5280, 4.1.2.2)
MAX_SHOWN_LENGTH = 1000  # characters of a name that are kept to be looked at
RSA_BITS = (2048, 8192)  # a longer key makes every check expensive, which a stranger could use
MAX_EXPONENT = 2**32  # the same
CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)

HASHES = (hashes.SHA256, hashes.SHA384, hashes.SHA512)
PURE_SIGNATURES = (SignatureAlgorithmOID.ED25519, SignatureAlgorithmOID.ED448)

Extended = x509.Certificate | x509.CertificateRevocationList
Extension = TypeVar("Extension", bound=x509.ExtensionType)

log = logging.getLogger(__name__)


class NameSource(models.TextChoices):
    """Where in a certificate the name stands that its device is known by."""

    URI = "san-uri", gettext_lazy("URI in the subject alternative name")
    DNS = "san-dns", gettext_lazy("DNS name in the subject alternative name")
    COMMON_NAME = "common-name", gettext_lazy("Common name of the subject")


class Refused(Exception):
    """A certificate or list that is not accepted: the outcome, and what it leaves open."""

    def __init__(self, outcome: Outcome, detail: str = "") -> None:
        super().__init__(detail or str(outcome.label))
        self.outcome = outcome
        self.detail = detail

    @property
    def verdict(self) -> Verdict:
        return Verdict(self.outcome, self.detail)

    def as_validation_error(self, said: str = "") -> ValidationError:
        """Return the same refusal for a form or a command, with the outcome's words or others."""
        return ValidationError(
            "%(outcome)s: %(detail)s" if self.detail else "%(outcome)s",
            code=self.outcome.value,
            params={"outcome": said or self.outcome.label, "detail": self.detail},
        )


class Presented(NamedTuple):
    """What was presented: the device's own certificate, and what it brought along."""

    leaf: x509.Certificate
    others: list[x509.Certificate]


@contextmanager
def parsing(what: str) -> Iterator[None]:
    """Turn whatever the parser raises into Refused.

    It decodes lazily, so an attribute of a certificate that was loaded may still raise. A panic
    of its Rust code is a BaseException that is no Exception.
    """
    try:
        yield
    except Refused:
        raise
    except (
        ValueError,
        InvalidSignature,
        UnsupportedAlgorithm,
        x509.InvalidVersion,
        x509.DuplicateExtension,
        x509.UnsupportedGeneralNameType,
    ) as error:
        raise Refused(Outcome.MALFORMED, f"{what}: {shown(str(error), 200)}") from None
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        log.warning("a certificate or a list could not be read", exc_info=True)
        raise Refused(Outcome.MALFORMED, what) from None


# --- Reading --------------------------------------------------------------------------------


def read(presented: str) -> Presented:
    """Return the certificates of a PEM text (the leaf first) or of one DER in base64.

    Bounded before anything is parsed: at most 64 KiB and ten certificates after the leaf.
    """
    if len(presented) > MAX_TEXT_LENGTH:
        raise Refused(
            Outcome.MALFORMED, _("longer than %(most)d KiB") % {"most": MAX_TEXT_LENGTH // 1024}
        )
    if "PRIVATE KEY-----" in presented:
        raise Refused(Outcome.MALFORMED, _("it holds a private key: keep that to the device"))
    if presented.count("-----BEGIN ") > MAX_ISSUERS + 1:
        raise Refused(
            Outcome.MALFORMED,
            _("more than %(most)d certificates follow the first") % {"most": MAX_ISSUERS},
        )
    with parsing(_("not a certificate")):
        if "-----BEGIN " in presented:
            if not any(
                f"-----BEGIN {kind}-----" in presented and f"-----END {kind}-----" in presented
                for kind in PEM_KINDS
            ):
                raise Refused(
                    Outcome.MALFORMED,
                    _(
                        "no whole certificate is in it; in PEM one stands between "
                        "-----BEGIN CERTIFICATE----- and -----END CERTIFICATE-----"
                    ),
                )
            text = presented.encode("ascii", errors="replace")  # beside it stand names as well
            leaf, *others = x509.load_pem_x509_certificates(text)
        else:
            leaf, others = x509.load_der_x509_certificate(_unbase64(presented.encode("ascii"))), []
    return Presented(leaf, others)


@lru_cache(maxsize=256)
def parsed(pem: str) -> x509.Certificate:
    """Return a stored certificate, parsed; an answer is never remembered, only the parsing."""
    return read(pem).leaf


def as_ascii(content: bytes) -> bytes:
    """Return a file's content, of UTF-16 the ASCII that it stands for.

    PowerShell makes UTF-16 of the PEM that a program prints.
    """
    if not content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content
    return content.decode("utf-16", errors="replace").encode()


def text_of(content: bytes) -> str:
    """Return a file's content as `read` takes it; the file may be PEM, DER, or DER in base64."""
    content = as_ascii(content)
    if content.startswith(b"\x30") and not content.isascii() and b"-----BEGIN " not in content:
        return base64.b64encode(content).decode()
    return content.decode("ascii", errors="replace").replace("\ufffd", "?")  # in a comment


def _unbase64(text: bytes) -> bytes:
    try:
        return base64.b64decode(b"".join(text.split()), validate=True)
    except binascii.Error:
        raise Refused(Outcome.MALFORMED, _("neither PEM nor DER in base64")) from None


# --- Describing -----------------------------------------------------------------------------


def shown(text: str, longest: int = MAX_SHOWN_LENGTH) -> str:
    """Return a text from a certificate so that it can be stored, shown and printed safely."""
    text = text if len(text) <= longest else f"{text[: longest - 1]}…"
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )[:longest]


def name_text(name: x509.Name) -> str:
    """Return a distinguished name in the form of RFC 4514."""
    with parsing(_("a name")):
        return shown(name.rfc4514_string())


def subject_of(certificate: x509.Certificate) -> str:
    """Return whose certificate it is, in words."""
    with parsing(_("the subject")):
        return name_text(certificate.subject)


def issuer_of(certificate: x509.Certificate) -> str:
    """Return who signed it, in words."""
    with parsing(_("the issuer")):
        return name_text(certificate.issuer)


def serial_of(certificate: x509.Certificate) -> str:
    """Return the serial number in hexadecimal, without leading zeros."""
    with parsing(_("the serial number")):
        return f"{certificate.serial_number:x}"


def pem_of(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def fingerprint(certificate: x509.Certificate) -> str:
    """Return the SHA-256 of the whole certificate (DER) in hexadecimal."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def content_fingerprint(certificate: x509.Certificate) -> str:
    """Return the SHA-256 of what the issuer signed.

    Anyone can re-write an ECDSA signature into another valid one and so change the fingerprint
    of a certificate; this stays. A revocation hangs on it.
    """
    return _sha256(certificate.tbs_certificate_bytes)


def public_key_fingerprint(certificate: x509.Certificate) -> str:
    """Return the SHA-256 of the public key (SubjectPublicKeyInfo) in hexadecimal."""
    with parsing(_("the public key")):
        key = certificate.public_key()
        return _sha256(
            key.public_bytes(
                serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
            )
        )


def subject_fingerprint(certificate: x509.Certificate) -> str:
    """Return the SHA-256 of the subject's name: what a certificate's issuer is looked up by."""
    with parsing(_("the subject")):
        return _sha256(certificate.subject.public_bytes())


def issuer_fingerprint(certificate: x509.Certificate) -> str:
    """Return the SHA-256 of the issuer's name (DER) in hexadecimal."""
    with parsing(_("the issuer")):
        return _sha256(certificate.issuer.public_bytes())


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def validity_of(certificate: x509.Certificate) -> tuple[datetime, datetime]:
    """Return from when and until when (inclusive) a certificate is valid."""
    with parsing(_("the validity")):
        return certificate.not_valid_before_utc, certificate.not_valid_after_utc


def columns_of(certificate: x509.Certificate) -> dict[str, Any]:
    """Return what a row of a certificate keeps of it, be it a device's or an authority's."""
    not_before, not_after = validity_of(certificate)
    return {
        "pem": pem_of(certificate),
        "fingerprint": fingerprint(certificate),
        "public_key_fingerprint": public_key_fingerprint(certificate),
        "subject": subject_of(certificate),
        "not_before": not_before,
        "not_after": not_after,
    }


def key_text(certificate: x509.Certificate) -> str:
    """Return the kind and size of the public key, in words."""
    with parsing(_("the public key")):
        key = certificate.public_key()
    if isinstance(key, rsa.RSAPublicKey):
        return f"RSA {key.key_size}"
    if isinstance(key, ec.EllipticCurvePublicKey):
        return f"EC {key.curve.name}"
    if isinstance(key, ed25519.Ed25519PublicKey):
        return "Ed25519"
    return "Ed448" if isinstance(key, ed448.Ed448PublicKey) else type(key).__name__


def names_in(certificate: x509.Certificate, source: NameSource) -> list[str]:
    """Return the names that a certificate bears in that place, in its order."""
    with parsing(_("the names")):
        if source is NameSource.COMMON_NAME:
            return [
                attribute.value
                for attribute in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
                if isinstance(attribute.value, str)
            ]
        names = extension(certificate, x509.SubjectAlternativeName)
        kind = x509.DNSName if source is NameSource.DNS else x509.UniformResourceIdentifier
        return [] if names is None else names.get_values_for_type(kind)


def extension(signed: Extended, kind: type[Extension]) -> Extension | None:
    """Return the extension of a kind that a certificate or a list has; called in `parsing`."""
    try:
        return signed.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


# --- Fitness --------------------------------------------------------------------------------


def check_readable(certificate: x509.Certificate) -> None:
    """Refuse what no certificate may hold: a bad serial number, a NUL in a name, twins."""
    with parsing(_("the certificate")):
        serial = certificate.serial_number
        if serial < 0 or serial.bit_length() > MAX_SERIAL_OCTETS * 8:
            raise Refused(
                Outcome.MALFORMED, _("the serial number is negative or longer than 20 octets")
            )
        names = [str(attribute.value) for attribute in certificate.subject]
        certificate.extensions  # noqa: B018 - decoding them finds duplicates and bad ones
    for source in (NameSource.URI, NameSource.DNS):
        names += names_in(certificate, source)
    if any("\x00" in name for name in names):
        raise Refused(Outcome.MALFORMED, _("a name in it holds a NUL character"))


def check_strength(certificate: x509.Certificate) -> None:
    """Refuse a weak signature (MD5, SHA-1) or a weak, outsized or unknown public key."""
    with parsing(_("the signature")):
        if certificate.signature_algorithm_oid not in PURE_SIGNATURES:
            algorithm = certificate.signature_hash_algorithm
            if not isinstance(algorithm, HASHES):
                name = algorithm.name.upper() if algorithm else _("an unknown hash")
                raise Refused(Outcome.UNSUITABLE, _("its signature uses %(hash)s") % {"hash": name})
    check_key(certificate)


def check_key(certificate: x509.Certificate, *, of_issuer: bool = False) -> None:
    """Refuse a key that is too weak, too expensive to check, or of a kind that is not accepted."""
    with parsing(_("the public key")):
        key = certificate.public_key()
        fit = isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, CURVES)
        if isinstance(key, rsa.RSAPublicKey):
            fit = RSA_BITS[0] <= key.key_size <= RSA_BITS[1]
            fit = fit and key.public_numbers().e <= MAX_EXPONENT
        elif isinstance(key, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey):
            fit = not of_issuer
    if not fit:
        raise Refused(
            Outcome.UNSUITABLE,
            _(
                "its key is %(key)s; accepted are RSA of %(least)d to %(most)d bits and EC P-256, "
                "P-384 and P-521, and for a device's own certificate Ed25519 and Ed448"
            )
            % {"key": key_text(certificate), "least": RSA_BITS[0], "most": RSA_BITS[1]},
        )


def check_validity(certificate: x509.Certificate, now: datetime) -> None:
    """Refuse a certificate whose validity has not begun or has ended."""
    not_before, not_after = validity_of(certificate)
    if now < not_before:
        raise Refused(
            Outcome.NOT_YET_VALID,
            _("%(subject)s is valid from %(moment)s")
            % {"subject": subject_of(certificate), "moment": in_utc(not_before)},
        )
    if now > not_after:
        raise Refused(
            Outcome.EXPIRED,
            _("%(subject)s was valid until %(moment)s")
            % {"subject": subject_of(certificate), "moment": in_utc(not_after)},
        )


def check_client(certificate: x509.Certificate) -> None:
    """Refuse a leaf that its issuer did not make for a TLS client.

    Absent usages restrict nothing (RFC 5280, 4.2.1.3 and 4.2.1.12); `anyExtendedKeyUsage` is not
    taken for client authentication.
    """
    with parsing(_("the extensions")):
        constraints = extension(certificate, x509.BasicConstraints)
        usage = extension(certificate, x509.KeyUsage)
        purposes = extension(certificate, x509.ExtendedKeyUsage)
        if constraints is not None and constraints.ca:
            raise Refused(Outcome.UNSUITABLE, _("it is an authority's certificate, not a device's"))
        if usage is not None and not usage.digital_signature:
            raise Refused(Outcome.UNSUITABLE, _("its key usage lacks digital signature"))
        if purposes is not None and ExtendedKeyUsageOID.CLIENT_AUTH not in purposes:
            raise Refused(
                Outcome.UNSUITABLE, _("its extended key usage lacks client authentication")
            )


def check_anchor(certificate: x509.Certificate) -> None:
    """Refuse what cannot be a trust anchor: not an authority, or a key that is not accepted.

    Its own signature is not looked at: trust in an anchor does not rest on it.
    """
    check_readable(certificate)
    check_key(certificate, of_issuer=True)
    with parsing(_("the extensions")):
        constraints = extension(certificate, x509.BasicConstraints)
        usage = extension(certificate, x509.KeyUsage)
        if constraints is None or not constraints.ca:
            raise Refused(
                Outcome.UNSUITABLE,
                _("it is not an authority's certificate (basic constraints: CA)"),
            )
        if usage is not None and not usage.key_cert_sign:
            raise Refused(Outcome.UNSUITABLE, _("its key usage lacks certificate signing"))


def is_issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether the issuer's key signed the certificate."""
    try:
        with parsing(_("the signature")):
            certificate.verify_directly_issued_by(issuer)
    except Refused:
        return False
    return True
