"""Which certificates are a device's: pins, paths to trust anchors, names, staff's revocations."""

import base64
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509 as x
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)
from cryptography.hazmat.primitives.hashes import SHA224
from django.core.exceptions import ValidationError
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone as django_timezone

from devices.authentication import authenticate
from devices.credentials import x509
from devices.credentials.stored_certificates import name_of
from devices.credentials.x509 import NameSource
from devices.database import last_used
from devices.models import Certificate, CertificateAuthority, Device
from devices.models.credentials.certificate import Pin
from devices.verdicts import Outcome, Verdict
from tests.support.pki import (
    ANY_PURPOSE,
    CLIENT,
    DAY,
    NOW,
    SERVER,
    YEAR,
    Party,
    authority,
    chain_below,
    device_certificate,
    issue,
    key,
    pem,
    usage,
)

pytestmark = pytest.mark.django_db

Factory = Callable[..., Device]
ID = "sensor-1"
WEAK = Path(__file__).parent / "weak"  # made with OpenSSL: cryptography does not sign so badly


def trust(party: Party, **fields: Any) -> CertificateAuthority:
    fields.setdefault("name", x509.subject_of(party.certificate))
    return CertificateAuthority.objects.register(presented=party.pem, **fields)


def ask(presented: str, identifier: str = ID, now: datetime = NOW) -> Verdict:
    return authenticate(identifier, certificate=presented, now=now, record=False)


@pytest.fixture
def device(make_device: Factory) -> Device:
    return make_device(ID)


@pytest.fixture
def root() -> Party:
    return authority("Root", private_key=key(-1))


# --- Paths: one row a case ------------------------------------------------------------------


@dataclass(frozen=True)
class Hanging:
    """What hangs below the root, and what comes of it."""

    name: str
    outcome: Outcome
    build: Callable[[Party], list[Party]]
    says: str = ""
    at: datetime = NOW


def below(issuer: Party, **overrides: Any) -> Party:
    return device_certificate(ID, issuer, private_key=key(-2), **overrides)


def through(root: Party, **overrides: Any) -> list[Party]:
    """Return a leaf and its one intermediate, which has the overrides."""
    intermediate = authority("Between", root, **overrides)
    return [below(intermediate), intermediate]


def path_length_exceeded(root: Party) -> list[Party]:
    short = authority("Short", root, path_length=0)
    longer = authority("Longer", short)
    return [below(longer), longer, short]


def constrained(root: Party, *, dns: str = "", permitted: str = "example.org") -> list[Party]:
    only = x.NameConstraints([x.DNSName(permitted)], None)
    intermediate = authority("Between", root, critical=[only])
    return [below(intermediate, dns=[dns] if dns else []), intermediate]


def excluding(names: int) -> x.NameConstraints:
    return x.NameConstraints(None, [x.DNSName(f"h{n}.example") for n in range(names)])


def rsa_key(bits: int) -> rsa.RSAPublicKey:
    """Return a public key of a size; nobody has the private one."""
    return rsa.RSAPublicNumbers(65537, (1 << bits) - 1).public_key()


def dear() -> rsa.RSAPrivateKey:
    """Return a key of 2048 bits whose public exponent has more than 32."""
    made = rsa.generate_private_key(65537, 2048).private_numbers()
    p, q, e = made.p, made.q, 2**32 + 15
    d = pow(e, -1, (p - 1) * (q - 1))
    public = rsa.RSAPublicNumbers(e, p * q)
    coefficients = rsa.rsa_crt_dmp1(d, p), rsa.rsa_crt_dmq1(d, q), rsa.rsa_crt_iqmp(p, q)
    return rsa.RSAPrivateNumbers(p, q, d, *coefficients, public).private_key()


def beside(root: Party, *, ends: datetime = NOW + DAY, **overrides: Any) -> list[Party]:
    """Return a leaf of a stranger, who has the overrides, and an issuer below the root."""
    stranger = authority("Stranger", **overrides)
    return [below(stranger), stranger, authority("Between", root, ends=ends)]


def two_up(root: Party, **overrides: Any) -> list[Party]:
    """Return a leaf, its issuer, and the issuer's, which has the overrides."""
    upper = authority("Upper", root, **overrides)
    lower = authority("Lower", upper)
    return [below(lower), lower, upper]


def leaf_as_issuer(root: Party) -> list[Party]:
    other = below(root)
    return [device_certificate(ID, other), other]


NO_SIGNING = usage(cert_sign=False, crl_sign=True)
UNKNOWN = x.UnrecognizedExtension(x.ObjectIdentifier("1.2.3.4"), b"\x05\x00")
PATHS = [
    Hanging("below the anchor", Outcome.VERIFIED, lambda root: [below(root)]),
    Hanging("chain of three", Outcome.VERIFIED, through),
    Hanging("the anchor itself brought along", Outcome.VERIFIED, lambda r: [*through(r), r]),
    Hanging("no extended key usage", Outcome.VERIFIED, lambda r: [below(r, extensions=[usage()])]),
    Hanging("no usages at all", Outcome.VERIFIED, lambda r: [below(r, extensions=[])]),
    Hanging(
        "says that it is no authority",
        Outcome.VERIFIED,
        lambda r: [below(r, constraints=x.BasicConstraints(ca=False, path_length=None))],
    ),
    Hanging(
        "client and server",
        Outcome.VERIFIED,
        lambda r: [below(r, extensions=[x.ExtendedKeyUsage([*SERVER, *CLIENT])])],
    ),
    Hanging(
        "Ed25519 leaf",
        Outcome.VERIFIED,
        lambda r: [below(r, public_key=ed25519.Ed25519PrivateKey.generate().public_key())],
    ),
    Hanging(
        "Ed448 leaf",
        Outcome.VERIFIED,
        lambda r: [below(r, public_key=ed448.Ed448PrivateKey.generate().public_key())],
    ),
    Hanging("intermediate without usages", Outcome.VERIFIED, lambda r: through(r, extensions=[])),
    Hanging(
        "intermediate for clients",
        Outcome.VERIFIED,
        lambda r: through(r, extensions=[usage(cert_sign=True), CLIENT]),
    ),
    Hanging(
        "intermediate for any purpose",
        Outcome.VERIFIED,
        lambda r: through(r, extensions=[usage(cert_sign=True), ANY_PURPOSE]),
    ),
    Hanging("path length obeyed", Outcome.VERIFIED, lambda r: through(r, path_length=0)),
    Hanging(
        "valid until year 9999",
        Outcome.VERIFIED,
        lambda r: [below(r, ends=datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC))],
    ),
    Hanging(
        "unknown extension that is not critical",
        Outcome.VERIFIED,
        lambda r: [below(r, extensions=[usage(), CLIENT, UNKNOWN])],
    ),
    Hanging(
        "leaf expired",
        Outcome.EXPIRED,
        lambda r: [below(r, ends=NOW - timedelta(seconds=1))],
        "CN=sensor-1 was valid until",
    ),
    Hanging("leaf at its first second", Outcome.VERIFIED, lambda r: [below(r, begins=NOW)]),
    Hanging("leaf at its last second", Outcome.VERIFIED, lambda r: [below(r, ends=NOW)]),
    Hanging("leaf not yet valid", Outcome.NOT_YET_VALID, lambda r: [below(r, begins=NOW + DAY)]),
    Hanging(
        "intermediate expired",
        Outcome.EXPIRED,
        lambda r: through(r, ends=NOW - DAY),
        "CN=Between was valid until",
    ),
    Hanging(
        "intermediate further up expired",
        Outcome.EXPIRED,
        lambda r: two_up(r, ends=NOW - DAY),
        "CN=Upper was valid until",
    ),
    Hanging(
        "intermediate not yet valid",
        Outcome.NOT_YET_VALID,
        lambda r: through(r, begins=NOW + DAY),
        "CN=Between is valid from",
    ),
    Hanging(
        "anchor expired",
        Outcome.EXPIRED,
        lambda r: [below(r, ends=NOW + 20 * YEAR)],
        "CN=Root was valid until",
        at=NOW + 11 * YEAR,
    ),
    Hanging(
        "anchor not yet valid",
        Outcome.NOT_YET_VALID,
        lambda r: [below(r, begins=NOW - 5 * YEAR)],
        "CN=Root is valid from",
        at=NOW - 2 * YEAR,
    ),
    Hanging(
        "intermediate missing", Outcome.UNTRUSTED_ISSUER, lambda r: through(r)[:1], "CN=Between"
    ),
    Hanging("path length exceeded", Outcome.UNTRUSTED_ISSUER, path_length_exceeded, "path length"),
    Hanging("issuer is a leaf", Outcome.UNTRUSTED_ISSUER, leaf_as_issuer, "basicConstraints"),
    Hanging(
        "issuer is no authority",
        Outcome.UNTRUSTED_ISSUER,
        lambda r: through(r, constraints=x.BasicConstraints(ca=False, path_length=None)),
        "basicConstraints.cA",
    ),
    Hanging(
        "issuer may not sign",
        Outcome.UNTRUSTED_ISSUER,
        lambda r: through(r, extensions=[NO_SIGNING]),
        "lacks certificate signing",
    ),
    Hanging(
        "issuer for servers only",
        Outcome.UNTRUSTED_ISSUER,
        lambda r: through(r, extensions=[usage(cert_sign=True), SERVER]),
        "lacks client authentication",
    ),
    Hanging(
        "signed by another key",
        Outcome.UNTRUSTED_ISSUER,
        lambda r: [below(authority("Root", private_key=key(-9)))],
        "signature",
    ),
    Hanging(
        "another anchor's",
        Outcome.UNTRUSTED_ISSUER,
        lambda r: [below(authority("Elsewhere"))],
        "issued by CN=Elsewhere",
    ),
    Hanging(
        "an expired one beside another anchor's",
        Outcome.UNTRUSTED_ISSUER,
        lambda r: beside(r, ends=NOW - DAY),
    ),
    Hanging(
        "an anchor's own weak signature",
        Outcome.UNTRUSTED_ISSUER,
        lambda r: beside(r, hash_algorithm=SHA224()),
    ),
    Hanging("self-signed", Outcome.UNTRUSTED_ISSUER, lambda r: [device_certificate(ID)]),
    Hanging("the anchor itself", Outcome.UNSUITABLE, lambda r: [r], "authority's certificate"),
    Hanging("for servers only", Outcome.UNSUITABLE, lambda r: [below(r, extensions=[SERVER])]),
    Hanging("for any purpose", Outcome.UNSUITABLE, lambda r: [below(r, extensions=[ANY_PURPOSE])]),
    Hanging(
        "may not sign",
        Outcome.UNSUITABLE,
        lambda r: [below(r, extensions=[usage(sign=False), CLIENT])],
        "lacks digital signature",
    ),
    Hanging(
        "unknown critical extension",
        Outcome.UNTRUSTED_ISSUER,
        lambda r: [below(r, critical=[UNKNOWN])],
        "1.2.3.4",
    ),
    Hanging(
        "name constraints on a leaf",
        Outcome.UNTRUSTED_ISSUER,
        lambda r: [below(r, critical=[x.NameConstraints([x.DNSName("a.example")], None)])],
    ),
    Hanging(
        "name constraints under a common name",
        Outcome.UNTRUSTED_ISSUER,
        constrained,
        "name constraints",
    ),
    Hanging(
        "name constraints broken",
        Outcome.UNTRUSTED_ISSUER,
        lambda r: constrained(r, dns="a.example.com"),
        "name constraint",
    ),
    Hanging(
        "too many name constraints",
        Outcome.UNTRUSTED_ISSUER,
        lambda r: through(
            r,
            critical=[x.NameConstraints([x.DNSName(f"h{n}.example") for n in range(65)], None)],
        ),
        "too many name constraints",
    ),
    Hanging(
        "too many excluded names",
        Outcome.UNTRUSTED_ISSUER,
        lambda r: through(r, critical=[excluding(65)]),
        "too many name constraints",
    ),
    Hanging(
        "as many excluded names as are looked at",
        Outcome.UNTRUSTED_ISSUER,
        lambda r: through(r, critical=[excluding(64)]),
        "hold only for DNS names",
    ),
    Hanging(
        "issuer with an Ed25519 key",
        Outcome.UNSUITABLE,
        lambda r: through(r, private_key=ed25519.Ed25519PrivateKey.generate()),
        "Ed25519",
    ),
    Hanging(
        "RSA of 1024 bits",
        Outcome.UNSUITABLE,
        lambda r: [below(r, public_key=rsa.generate_private_key(65537, 1024).public_key())],
        "RSA 1024",
    ),
    Hanging("RSA of 8192 bits", Outcome.VERIFIED, lambda r: [below(r, public_key=rsa_key(8192))]),
    Hanging(
        "RSA of more than 8192 bits",
        Outcome.UNSUITABLE,
        lambda r: [below(r, public_key=rsa_key(8193))],
        "RSA 8193",
    ),
    Hanging(
        "issuer with RSA of 1024 bits",
        Outcome.UNSUITABLE,
        lambda r: through(r, private_key=rsa.generate_private_key(65537, 1024)),
        "RSA 1024",
    ),
    Hanging(
        "issuer with an exponent of more than 32 bits",
        Outcome.UNSUITABLE,
        lambda r: through(r, private_key=dear()),
        "RSA 2048",
    ),
    Hanging(
        "issuer signed with a weak hash",
        Outcome.UNSUITABLE,
        lambda r: through(r, hash_algorithm=SHA224()),
        "SHA224",
    ),
    Hanging(
        "curve without a place here",
        Outcome.UNSUITABLE,
        lambda r: [below(r, public_key=ec.generate_private_key(ec.SECP256K1()).public_key())],
        "secp256k1",
    ),
]


@pytest.mark.once(on="sqlite")
@pytest.mark.parametrize("case", PATHS, ids=lambda case: case.name)
def test_a_path_is_judged(device: Device, root: Party, case: Hanging) -> None:
    trust(root)
    verdict = ask(pem(*case.build(root)), now=case.at)
    assert (verdict.outcome, verdict.device) == (case.outcome, device.pk), verdict
    assert case.says in verdict.detail
    assert "switched off" not in verdict.detail
    assert verdict.certificate is None


@pytest.mark.parametrize(
    ("private_key", "padding_"),
    [
        (ec.generate_private_key(ec.SECP384R1()), None),
        (ec.generate_private_key(ec.SECP521R1()), None),
        (rsa.generate_private_key(65537, 2048), None),
        (rsa.generate_private_key(65537, 2048), "pss"),
    ],
    ids=["P-384", "P-521", "RSA 2048", "RSA 2048 PSS"],
)
def test_authorities_of_every_accepted_kind(
    device: Device, private_key: Any, padding_: str | None
) -> None:
    anchor = authority("Anchor", private_key=private_key)
    trust(anchor)
    pss = padding.PSS(padding.MGF1(x509.HASHES[0]()), 32) if padding_ else None
    assert ask(below(anchor, rsa_padding=pss).pem).verified
    if pss:
        longer = padding.PSS(padding.MGF1(x509.HASHES[0]()), 33)
        refused = ask(below(anchor, rsa_padding=longer).pem)
        assert refused.detail == "Forbidden signature algorithm"


@pytest.mark.once(on="sqlite")
@pytest.mark.parametrize("length", range(1, 11))
def test_up_to_ten_intermediates_in_any_order(device: Device, root: Party, length: int) -> None:
    trust(root)
    intermediates = chain_below(root, length)
    shuffled = random.Random(length).sample(intermediates, length)
    assert ask(pem(below(intermediates[-1]), *shuffled)).verified


def test_an_eleventh_intermediate_is_refused(device: Device, root: Party) -> None:
    trust(root)
    intermediates = chain_below(root, 11)
    verdict = ask(pem(below(intermediates[-1]), *intermediates))
    assert verdict.outcome is Outcome.MALFORMED
    assert "more than 10" in verdict.detail


def test_unrelated_certificates_beside_the_path_do_no_harm(device: Device, root: Party) -> None:
    trust(root)
    expired = authority("Stranger", ends=NOW - DAY)
    unfit = authority("Unfit", private_key=ed25519.Ed25519PrivateKey.generate())
    assert ask(pem(*through(root), expired, unfit)).verified


def test_presented_as_der_in_base64(device: Device, root: Party) -> None:
    trust(root)
    encoded = base64.encodebytes(below(root).der).decode()
    assert ask(encoded).verified


def test_text_around_the_certificates_is_ignored(device: Device, root: Party) -> None:
    trust(root)
    leaf, between = through(root)
    assert ask(f"Bag Attributes\r\n  name\r\n{leaf.pem}subject=/CN=x\n{between.pem}").verified


def test_a_switched_off_anchor_vouches_for_nobody(device: Device, root: Party) -> None:
    anchor = trust(root)
    presented = below(root).pem
    assert ask(presented).verified
    CertificateAuthority.objects.filter(pk=anchor.pk).update(enabled=False)
    verdict = ask(presented)
    assert verdict.outcome is Outcome.UNTRUSTED_ISSUER
    assert "“CN=Root” is switched off" in verdict.detail
    in_use = authority("Root", private_key=key("in use"))
    trust(in_use, name="In use")
    assert "“CN=Root” is switched off" in ask(presented).detail
    late = ask(pem(*through(in_use, ends=NOW - DAY)))
    assert (late.outcome, "switched off" in late.detail) == (Outcome.EXPIRED, False)


def test_the_moment_counts_whatever_its_time_zone(device: Device, root: Party) -> None:
    trust(root)
    intermediate = authority("Between", root, ends=NOW)
    presented = pem(below(intermediate), intermediate)
    east = timezone(timedelta(hours=14))
    assert ask(presented, now=NOW.astimezone(east)).verified
    assert ask(presented, now=(NOW + DAY).astimezone(east)).outcome is Outcome.EXPIRED


def test_unknown_and_disabled_devices(device: Device, root: Party) -> None:
    trust(root)
    presented = below(root).pem
    assert ask(presented, "sensor-2").outcome is Outcome.UNKNOWN_DEVICE
    assert ask(presented, "nul\x00").outcome is Outcome.UNKNOWN_DEVICE
    Device.objects.update(enabled=False)
    assert ask(presented).outcome is Outcome.DISABLED


def test_a_cross_signed_intermediate_leads_to_the_anchor_that_is_trusted(
    device: Device, root: Party
) -> None:
    other = authority("Other root")
    shared = key(-7)
    one = authority("Cross", root, private_key=shared)
    two = authority("Cross", other, private_key=shared)
    trust(other)
    assert ask(pem(below(one), one, two)).verified


def test_an_anchor_that_names_otherwise_does_not_stand_in_the_way_of_one_that_names_right(
    device: Device, root: Party
) -> None:
    other = authority("Other root")
    shared = key(-7)
    one = authority("Cross", root, private_key=shared)
    two = authority("Cross", other, private_key=shared)
    for party, fields in ((root, {"name_source": NameSource.URI}), (other, {})):
        trust(party, **fields)
    assert ask(pem(below(one), one, two)).verified
    assert ask(pem(below(one), two, one)).verified
    refused = ask(pem(device_certificate("sensor-2", one), one, two))
    assert refused.outcome is Outcome.NAME_MISMATCH


# --- Names ----------------------------------------------------------------------------------

CN, URI, DNS = NameSource.COMMON_NAME, NameSource.URI, NameSource.DNS
VERIFIED, MISMATCH = Outcome.VERIFIED, Outcome.NAME_MISMATCH


@pytest.mark.once(on="sqlite")
@pytest.mark.parametrize(
    ("source", "templates", "subject", "alternative", "identifier", "outcome"),
    [
        (CN, (), ID, {}, ID, VERIFIED),
        (CN, (), "sensor-2", {}, ID, MISMATCH),
        (CN, (), "Sensor-1", {}, ID, MISMATCH),
        (CN, (), [ID, "sensor-2"], {}, ID, MISMATCH),
        (CN, (), [], {}, ID, MISMATCH),
        (CN, (), "other", {"uris": [ID], "dns": [ID]}, ID, MISMATCH),
        (CN, (), "ѕensor-1", {}, ID, MISMATCH),  # noqa: RUF001 - a Cyrillic letter, on purpose
        (CN, (), "sensor-１", {}, ID, MISMATCH),  # noqa: RUF001 - a full-width digit
        (CN, (), "caf\u00e9", {}, "cafe\u0301", MISMATCH),
        (CN, (), "caf\u00e9", {}, "caf\u00e9", VERIFIED),
        (CN, (), "sensor-1 ", {}, ID, MISMATCH),
        (CN, ("dev-{id}", "//api.example.com/{id}"), "dev-7", {}, "//api.example.com/7", VERIFIED),
        (CN, ("dev-{id}", "//api.example.com/{id}"), "dev-7", {}, "7", MISMATCH),
        (CN, ("dev-{id}", "//api.example.com/{id}"), "dev-", {}, "//api.example.com/", MISMATCH),
        (CN, ("{id}.dev", "{id}"), "a.dev.dev", {}, "a.dev", VERIFIED),
        (URI, ("urn:dev:{id}", "{id}"), "x", {"uris": ["urn:dev:sensor-1"]}, ID, VERIFIED),
        (URI, ("urn:dev:{id}", "{id}"), "x", {"uris": ["urn:a", "urn:dev:sensor-1"]}, ID, VERIFIED),
        (URI, ("urn:dev:{id}", "{id}"), ID, {"uris": ["urn:dev:sensor-2"]}, ID, MISMATCH),
        (URI, ("urn:dev:{id}", "{id}"), ID, {"dns": ["urn:dev:sensor-1"]}, ID, MISMATCH),
        (URI, (), ID, {}, ID, MISMATCH),
        (DNS, ("{id}.example", "{id}"), "x", {"dns": ["sensor-1.example"]}, ID, VERIFIED),
        (DNS, ("{id}.example", "{id}"), "x", {"dns": ["*.example"]}, ID, MISMATCH),
        (DNS, ("{id}.example", "{id}"), ID, {"dns": ["sensor-1.example.com"]}, ID, MISMATCH),
        (DNS, (), ID, {"uris": [ID]}, ID, MISMATCH),
    ],
)
def test_a_certificate_must_name_its_device_as_the_anchor_says(
    *,
    make_device: Factory,
    root: Party,
    source: NameSource,
    templates: tuple[str, ...],
    subject: Any,
    alternative: dict[str, Any],
    identifier: str,
    outcome: Outcome,
) -> None:
    make_device(identifier)
    patterns = dict(zip(("name_pattern", "identifier_pattern"), templates, strict=False))
    trust(root, name_source=source, **patterns)
    verdict = ask(device_certificate(subject, root, **alternative).pem, identifier)
    assert verdict.outcome is outcome, verdict
    if outcome is MISMATCH:
        assert str(source.label) in verdict.detail


@pytest.mark.parametrize(
    ("subject", "says"), [("sensor-2", "which says sensor-2"), ([], "which says nothing")]
)
def test_a_refusal_says_what_the_certificate_names(
    device: Device, root: Party, subject: Any, says: str
) -> None:
    trust(root)
    assert says in ask(device_certificate(subject, root).pem).detail


@pytest.mark.parametrize("permitted", ["example", "sensor-1.example"])
def test_name_constraints_hold_for_dns_names(device: Device, root: Party, permitted: str) -> None:
    trust(root, name_source=DNS, name_pattern="{id}.example")
    assert ask(pem(*constrained(root, dns="sensor-1.example", permitted=permitted))).verified
    broken = ask(pem(*constrained(root, dns="sensor-1.example", permitted="other.example")))
    assert broken.outcome is Outcome.UNTRUSTED_ISSUER


@pytest.mark.parametrize(
    ("identifier", "identifier_pattern", "name_pattern", "expected"),
    [
        ("a", "{id}", "{id}", "a"),
        ("x-a", "x-{id}", "{id}.y", "a.y"),
        ("aba", "ab{id}ba", "{id}", None),
        ("abba", "ab{id}ba", "{id}", None),
        ("ab{id}ba", "ab{id}ba", "{id}", "{id}"),
        ("other", "x-{id}", "{id}", None),
    ],
)
def test_the_name_is_made_from_the_identifier(
    identifier: str, identifier_pattern: str, name_pattern: str, expected: str | None
) -> None:
    assert name_of(identifier, identifier_pattern, name_pattern) == expected


# --- Pins -----------------------------------------------------------------------------------


def pinned(device: Device, party: Party, pin: str = Pin.CERTIFICATE) -> Certificate:
    return Certificate.objects.register(device=device, presented=party.pem, pin=pin)


@pytest.mark.parametrize(
    "party",
    [
        device_certificate("anything"),
        device_certificate("anything", authority("nobody knows")),
        authority("made by openssl req -x509, which says CA"),
        issue("for servers", extensions=[SERVER]),
        issue("Ed25519", private_key=ed25519.Ed25519PrivateKey.generate()),
        issue("critical", critical=[UNKNOWN]),
    ],
    ids=lambda party: party.certificate.subject.rfc4514_string(),
)
def test_a_pinned_certificate_needs_no_path_and_no_name(device: Device, party: Party) -> None:
    row = pinned(device, party)
    verdict = ask(party.pem)
    assert verdict.verified, verdict
    assert verdict.certificate == row.pk
    assert ask(party.pem, now=NOW + 20 * YEAR).outcome is Outcome.EXPIRED
    assert ask(party.pem, now=NOW - 20 * YEAR).outcome is Outcome.NOT_YET_VALID


def test_a_pinned_certificate_is_no_other_device_s(make_device: Factory) -> None:
    first, second = make_device("first"), make_device("second")
    party = device_certificate("x")
    pinned(first, party)
    assert ask(party.pem, "second").outcome is Outcome.UNTRUSTED_ISSUER
    pinned(second, party)
    assert ask(party.pem, "second").verified


def test_a_pinned_certificate_is_not_its_renewal(device: Device) -> None:
    pinned(device, device_certificate("x", private_key=key(-3)))
    assert not ask(device_certificate("x", private_key=key(-3)).pem).verified


def test_a_pinned_public_key_accepts_a_renewal_within_its_validity(device: Device) -> None:
    old = device_certificate("x", private_key=key(-3), ends=NOW - DAY)
    row = pinned(device, old, Pin.PUBLIC_KEY)
    assert ask(old.pem).outcome is Outcome.EXPIRED
    renewed = device_certificate("x", private_key=key(-3), ends=NOW + DAY)
    verdict = ask(renewed.pem)
    assert verdict.verified
    assert verdict.certificate == row.pk
    later = device_certificate("x", private_key=key(-3), begins=NOW + DAY, ends=NOW + YEAR)
    assert ask(later.pem).outcome is Outcome.NOT_YET_VALID
    other = device_certificate("x", private_key=key(-4))
    assert ask(other.pem).outcome is Outcome.UNTRUSTED_ISSUER


def test_a_pinned_key_counts_beside_the_pin_of_another_certificate(device: Device) -> None:
    pinned(device, device_certificate("other"))
    row = pinned(device, device_certificate("x", private_key=key(-3)), Pin.PUBLIC_KEY)
    assert ask(device_certificate("x", private_key=key(-3)).pem).certificate == row.pk


def test_the_exact_pin_is_the_one_that_is_noted(device: Device) -> None:
    old = device_certificate("x", private_key=key(-3))
    new = device_certificate("x", private_key=key(-3))
    pinned(device, old, Pin.PUBLIC_KEY)
    exact = pinned(device, new)
    assert ask(new.pem).certificate == exact.pk


def test_a_weak_pin_is_never_registered_or_accepted(device: Device) -> None:
    weak = issue("weak", private_key=rsa.generate_private_key(65537, 1024))
    with pytest.raises(ValidationError, match="RSA 1024"):
        pinned(device, weak)
    good = device_certificate("x", private_key=key(-3))
    row = pinned(device, good)
    Certificate.objects.filter(pk=row.pk).update(
        fingerprint=x509.fingerprint(weak.certificate)  # as an older release might have let in
    )
    assert ask(weak.pem).outcome is Outcome.UNSUITABLE


# --- Revoked by staff -----------------------------------------------------------------------


def test_a_revocation_holds_at_the_next_request_and_the_first_one_stands(device: Device) -> None:
    party = device_certificate("x")
    row = pinned(device, party)
    assert ask(party.pem).verified
    assert row.revoke(by="ann", reason="stolen", now=NOW)
    verdict = ask(party.pem)
    assert (verdict.outcome, verdict.certificate) == (Outcome.REVOKED, row.pk)
    again = Certificate.objects.get(pk=row.pk)
    assert not again.revoke(by="bob")
    again.refresh_from_db()
    assert (again.revoked_by, again.revoked_reason, again.revoked_at) == ("ann", "stolen", NOW)


@pytest.mark.parametrize("pin", Pin)
def test_a_revoked_certificate_never_comes_back(
    device: Device, make_device: Factory, root: Party, pin: Pin
) -> None:
    trust(root)
    party = below(root)
    row = pinned(device, party, pin)
    row.revoke(by="ann")
    assert ask(party.pem).outcome is Outcome.REVOKED  # the anchor vouches for it all the same
    other = make_device("another")
    for again in (device, other):
        with pytest.raises(ValidationError, match="stays so"):
            pinned(again, party)
    assert ask(party.pem, "another").outcome is Outcome.REVOKED
    renewed = below(root)
    expected = Outcome.REVOKED if pin is Pin.PUBLIC_KEY else Outcome.VERIFIED
    assert ask(renewed.pem).outcome is expected


def test_the_key_can_be_revoked_after_its_certificate(device: Device, root: Party) -> None:
    trust(root)
    party, renewed = below(root), below(root)
    row = pinned(device, party)
    assert row.revoke(by="ann", now=NOW)
    assert ask(renewed.pem).verified
    assert row.revoke(by="bob", key_too=True)
    assert ask(renewed.pem).outcome is Outcome.REVOKED
    assert (row.revoked_by, row.revoked_at, row.pin) == ("ann", NOW, Pin.PUBLIC_KEY)
    assert not row.revoke(by="bob", key_too=True)


def test_a_revocation_outlives_its_device(
    device: Device, make_device: Factory, root: Party
) -> None:
    trust(root)
    revoked, live = below(root), device_certificate("live")
    pinned(device, revoked).revoke(by="ann")
    pinned(device, live)
    device.delete()
    assert [row.device for row in Certificate.objects.all()] == [None]
    make_device(ID)
    assert ask(revoked.pem).outcome is Outcome.REVOKED


def test_a_rewritten_signature_does_not_undo_a_revocation(device: Device, root: Party) -> None:
    trust(root)
    party = below(root)
    pinned(device, party).revoke(by="ann")
    r, s = decode_dss_signature(party.certificate.signature)
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    twin_signature = encode_dss_signature(r, order - s)
    difference = len(twin_signature) - len(party.certificate.signature)
    twin = resigned(party, twin_signature)
    assert x509.fingerprint(twin) != x509.fingerprint(party.certificate)
    twin.verify_directly_issued_by(root.certificate)
    assert abs(difference) <= 1
    assert ask(x509.pem_of(twin)).outcome is Outcome.REVOKED


def resigned(party: Party, signature: bytes) -> x.Certificate:
    """Return the certificate with another signature in place of its own."""
    content = party.certificate.tbs_certificate_bytes
    algorithm = bytes.fromhex("300a06082a8648ce3d040302")  # ecdsa-with-SHA256
    bits = bytes([3, len(signature) + 1, 0]) + signature
    body = content + algorithm + bits
    return x.load_der_x509_certificate(b"\x30\x82" + len(body).to_bytes(2, "big") + body)


# --- Rows -----------------------------------------------------------------------------------


def test_registering_keeps_what_was_parsed(device: Device, root: Party) -> None:
    party = below(root, serial=0xABC)
    row = Certificate.objects.register(
        device=device, presented=pem(party, root), label="first", pin=Pin.PUBLIC_KEY
    )
    row.refresh_from_db()
    assert row.pem == party.pem
    assert row.fingerprint == x509.fingerprint(party.certificate)
    assert (row.subject, row.issuer, row.serial) == ("CN=sensor-1", "CN=Root", "abc")
    assert (row.not_before, row.not_after) == (NOW - YEAR, NOW + YEAR)
    assert str(row) == "first"
    assert row.parsed == party.certificate


def test_a_certificate_is_registered_once_for_a_device(device: Device) -> None:
    party = device_certificate("x")
    row = pinned(device, party)
    with pytest.raises(ValidationError, match="has this certificate already"):
        pinned(device, party, Pin.PUBLIC_KEY)
    row.pk = None
    row._state.adding = True
    with pytest.raises(IntegrityError), transaction.atomic():
        row.save()


def test_an_expired_certificate_is_not_pinned_but_its_key_is(device: Device) -> None:
    expired = device_certificate("x", ends=NOW - DAY)
    with pytest.raises(ValidationError, match="expired"):
        pinned(device, expired)
    pinned(device, expired, Pin.PUBLIC_KEY)


def test_a_certificate_without_a_device_is_a_revoked_one(device: Device) -> None:
    row = pinned(device, device_certificate("x"))
    with pytest.raises(IntegrityError), transaction.atomic():
        Certificate.objects.filter(pk=row.pk).update(device=None)


@pytest.mark.parametrize(
    ("pin", "shift", "outcome"),
    [
        (Pin.CERTIFICATE, timedelta(), Outcome.VERIFIED),
        (Pin.CERTIFICATE, 2 * YEAR, Outcome.EXPIRED),
        (Pin.CERTIFICATE, -2 * YEAR, Outcome.NOT_YET_VALID),
        (Pin.PUBLIC_KEY, 2 * YEAR, Outcome.VERIFIED),
        (Pin.PUBLIC_KEY, -2 * YEAR, Outcome.VERIFIED),
    ],
)
def test_the_state_of_a_pin(device: Device, pin: Pin, shift: timedelta, outcome: Outcome) -> None:
    row = pinned(device, device_certificate("x"), pin)
    assert row.state_at(NOW + shift) is outcome
    live = Certificate.objects.live_at(NOW + shift).exists()
    assert live is (outcome is not Outcome.EXPIRED)
    row.revoke(by="ann")
    assert row.state_at(NOW) is Outcome.REVOKED
    assert not Certificate.objects.live_at(NOW).exists()


@pytest.mark.parametrize(
    ("party", "message"),
    [
        (device_certificate("x"), "not an authority"),
        (authority("x", constraints=x.BasicConstraints(ca=False, path_length=None)), "authority"),
        (authority("x", extensions=[NO_SIGNING]), "lacks certificate signing"),
        (authority("x", ends=NOW - DAY), "was valid until"),
        (authority("x", private_key=rsa.generate_private_key(65537, 1024)), "RSA 1024"),
        (authority("x", private_key=ed25519.Ed25519PrivateKey.generate()), "Ed25519"),
    ],
)
def test_what_cannot_be_an_anchor_is_not_registered(party: Party, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        trust(party)


@pytest.mark.parametrize("template", ["", "x", "{id}{id}", "{ID}", "{}", "{id}/{id}"])
@pytest.mark.parametrize("field", ["name_pattern", "identifier_pattern"])
def test_a_template_has_one_place(root: Party, field: str, template: str) -> None:
    with pytest.raises(ValidationError):
        trust(root, **{field: template})


def test_an_anchor_is_registered_once(root: Party) -> None:
    assert str(trust(root, name="first")) == "first"
    with pytest.raises(ValidationError, match="is a trust anchor already"):
        trust(root, name="second")
    with pytest.raises(ValidationError, match="of this name exists"):
        trust(authority("Other"), name="first")
    assert CertificateAuthority.objects.filter(enabled=True).count() == 1


@pytest.mark.parametrize(
    ("change", "constraint"),
    [
        ({"name": ""}, "name_present"),
        ({"name_source": "nose"}, "name_source_known"),
        ({"crl_policy": "maybe"}, "crl_policy_known"),
        ({"name_pattern": "x"}, "templates_have_a_place"),
        ({"identifier_pattern": "x"}, "templates_have_a_place"),
    ],
)
def test_the_database_holds_what_an_anchor_must_be(
    root: Party, change: dict[str, str], constraint: str
) -> None:
    anchor = trust(root)
    with (
        pytest.raises(IntegrityError, match=f"devices_authority_{constraint}"),
        transaction.atomic(),
    ):
        CertificateAuthority.objects.filter(pk=anchor.pk).update(**change)


def test_the_database_knows_what_can_be_pinned(device: Device) -> None:
    row = pinned(device, device_certificate("x"))
    with (
        pytest.raises(IntegrityError, match="devices_certificate_pin_known"),
        transaction.atomic(),
    ):
        Certificate.objects.filter(pk=row.pk).update(pin="hope")


# --- Through `authenticate` -----------------------------------------------------------------


def test_authenticate_answers_with_a_certificate_and_notes_its_use(device: Device) -> None:
    party = device_certificate("x")
    row = pinned(device, party)
    verdict = authenticate(ID, certificate=party.pem)
    assert verdict.verified
    assert verdict.kind == "device"
    last_used.worker.flush()
    row.refresh_from_db()
    assert row.last_used is not None
    assert django_timezone.now() - row.last_used < timedelta(minutes=1)


@pytest.mark.parametrize(
    ("path", "statements"),
    [("pinned", 2), ("chain", 2)],
)
def test_a_check_costs_two_statements_whatever_is_registered(
    device: Device, make_device: Factory, root: Party, path: str, statements: int
) -> None:
    trust(root)
    presented = pem(*through(root))
    if path == "pinned":
        Certificate.objects.register(device=device, presented=presented)
    for number in range(5):
        pinned(device, device_certificate(f"other {number}"))
        trust(authority(f"Other {number}"))
    ask(presented)
    with CaptureQueriesContext(connection) as queries:
        assert ask(presented).verified
    assert len(queries) == statements


@pytest.mark.parametrize("name", ["sha1", "md5"])
def test_md5_and_sha1_are_refused_everywhere(make_device: Factory, name: str) -> None:
    device = make_device("weak")
    roots = [(WEAK / f"{one}.pem").read_text() for one in ("root", "rsaroot")]
    for number, text in enumerate(roots):
        CertificateAuthority.objects.register(presented=text, name=str(number))
    presented = (WEAK / f"{name}.pem").read_text()
    verdict = ask(presented, "weak")
    assert verdict.outcome is Outcome.UNSUITABLE
    assert name.upper() in verdict.detail
    with pytest.raises(ValidationError, match=name.upper()):
        Certificate.objects.register(device=device, presented=presented)
