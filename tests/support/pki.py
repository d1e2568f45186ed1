"""A small public key infrastructure for tests: authorities, device certificates, lists."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NOW = datetime.now(UTC).replace(microsecond=0)
DAY = timedelta(days=1)
YEAR = timedelta(days=365)
CLIENT = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
SERVER = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
ANY_PURPOSE = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE])


@dataclass(frozen=True)
class Party:
    """A certificate and the private key of its subject."""

    certificate: x509.Certificate
    key: Any

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.DER)


def pem(*parties: Party) -> str:
    return "".join(party.pem for party in parties)


@cache
def key(of: int | str) -> ec.EllipticCurvePrivateKey:
    """Return one of a few keys: making them anew for every test would take its time."""
    return ec.generate_private_key(ec.SECP256R1())


def name(common_name: str | Sequence[str]) -> x509.Name:
    names = [common_name] if isinstance(common_name, str) else common_name
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, one) for one in names])


def usage(*, sign: bool = True, cert_sign: bool = False, crl_sign: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )


AUTHORITY = usage(cert_sign=True, crl_sign=True)


def issue(
    subject: str | Sequence[str],
    issuer: Party | None = None,
    *,
    private_key: Any = None,
    public_key: Any = None,
    issuer_name: x509.Name | None = None,
    serial: int | None = None,
    begins: datetime = NOW - YEAR,
    ends: datetime = NOW + YEAR,
    constraints: x509.BasicConstraints | None = None,
    extensions: Iterable[x509.ExtensionType | None] = (),
    critical: Iterable[x509.ExtensionType] = (),
    hash_algorithm: Any = None,
    rsa_padding: Any = None,
) -> Party:
    """Make a certificate, self-signed unless an issuer is given."""
    own = private_key or key(str(subject))
    signer = issuer.key if issuer else own
    builder = (
        x509.CertificateBuilder()
        .subject_name(name(subject))
        .issuer_name(issuer_name or (issuer.certificate.subject if issuer else name(subject)))
        .public_key(public_key or own.public_key())
        .serial_number(serial if serial is not None else x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
    )
    if constraints is not None:
        builder = builder.add_extension(constraints, critical=True)
    for extension in extensions:
        if extension is not None:
            builder = builder.add_extension(extension, critical=False)
    for extension in critical:
        builder = builder.add_extension(extension, critical=True)
    if isinstance(signer, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey):
        return Party(builder.sign(signer, None), own)
    algorithm = hash_algorithm or hashes.SHA256()
    return Party(builder.sign(signer, algorithm, rsa_padding=rsa_padding), own)


def authority(
    subject: str = "Root",
    issuer: Party | None = None,
    *,
    path_length: int | None = None,
    extensions: Iterable[x509.ExtensionType | None] = (AUTHORITY,),
    **overrides: Any,
) -> Party:
    """Make a root, or an intermediate below `issuer`."""
    overrides.setdefault("ends", NOW + 10 * YEAR)
    overrides.setdefault("constraints", x509.BasicConstraints(ca=True, path_length=path_length))
    return issue(subject, issuer, extensions=extensions, **overrides)


def device_certificate(
    subject: str | Sequence[str],
    issuer: Party | None = None,
    *,
    uris: Sequence[str] = (),
    dns: Sequence[str] = (),
    extensions: Iterable[x509.ExtensionType | None] = (usage(), CLIENT),
    **overrides: Any,
) -> Party:
    """Make a device's certificate, self-signed unless an issuer is given."""
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(uri) for uri in uris]
    names += [x509.DNSName(one) for one in dns]
    alternative = x509.SubjectAlternativeName(names) if names else None
    return issue(subject, issuer, extensions=[*extensions, alternative], **overrides)


def chain_below(root: Party, length: int) -> list[Party]:
    """Return intermediates, each issued by the one before; the first by the root."""
    made: list[Party] = []
    for number in range(length):
        made.append(authority(f"Intermediate {number + 1}", made[-1] if made else root))
    return made


def revocation_list(
    issuer: Party,
    *revoked: Party | int,
    number: int | None = 1,
    made: datetime = NOW - DAY,
    renewed_by: datetime = NOW + DAY,
    extensions: Iterable[tuple[x509.ExtensionType, bool]] = (),
    entry_extensions: Iterable[tuple[x509.ExtensionType, bool]] = (),
    issuer_name: x509.Name | None = None,
    der: bool = False,
) -> bytes:
    """Make a revocation list that names certificates or serial numbers."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer_name or issuer.certificate.subject)
        .last_update(made)
        .next_update(renewed_by)
    )
    if number is not None:
        builder = builder.add_extension(x509.CRLNumber(number), critical=False)
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    for one in revoked:
        serial = one if isinstance(one, int) else one.certificate.serial_number
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(made)
        for extension, critical in entry_extensions:
            entry = entry.add_extension(extension, critical=critical)
        builder = builder.add_revoked_certificate(entry.build())
    encoding = serialization.Encoding.DER if der else serialization.Encoding.PEM
    return builder.sign(issuer.key, hashes.SHA256()).public_bytes(encoding)
