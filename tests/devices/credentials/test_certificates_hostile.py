"""Certificates made to break the reader: refused with a reason, in bounded time, never raised."""

import base64
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509 as x
from cryptography.hazmat.primitives.asymmetric import dsa, rsa, x25519
from hypothesis import HealthCheck, given, settings, strategies as st

from devices.authentication import authenticate
from devices.credentials import crl, x509
from devices.credentials.x509 import NameSource, Refused
from devices.models import Certificate, CertificateAuthority, Device
from devices.models.credentials.certificate import Pin
from devices.verdicts import Outcome, Verdict
from tests.support.pki import (
    NOW,
    Party,
    authority,
    chain_below,
    device_certificate,
    issue,
    key,
    pem,
    revocation_list,
)

pytestmark = pytest.mark.once(on="sqlite")

ID = "sensor-1"
WEAK = Path(__file__).parent / "weak"
BOUND = 0.5  # seconds of CPU that the worst case may take; the machine of the tests is shared

ROOT = authority("Root")
# Where a signature's last bit is 0, DER can leave it out: other bytes, and the same certificate.
LEAF = next(leaf for leaf in iter(lambda: device_certificate(ID, ROOT), None) if leaf.der[-1] & 1)


@pytest.fixture(autouse=True)
def registry(make_device: Callable[..., Device]) -> Device:
    device = make_device(ID)
    CertificateAuthority.objects.register(presented=ROOT.pem, name="Root")
    return device


def ask(presented: str) -> Verdict:
    """Ask within the bound; a machine that is shared may be over it once, not three times."""
    for _ in range(3):
        started = time.thread_time()
        verdict = authenticate(ID, certificate=presented, now=NOW, record=False)
        spent = time.thread_time() - started
        if spent < BOUND:
            return verdict
    raise AssertionError(f"{spent:.3f} s of CPU")


def der_text(der: bytes) -> str:
    return base64.b64encode(der).decode()


def patched(party: Party, old: bytes, new: bytes) -> str:
    """Return a certificate with bytes replaced once, as DER in base64."""
    assert party.der.count(old) >= 1
    assert len(old) == len(new)
    return der_text(party.der.replace(old, new, 1))


def twins() -> str:
    extensions = [
        x.UnrecognizedExtension(x.ObjectIdentifier(oid), b"\x05\x00")
        for oid in ("1.2.3.44", "1.2.3.55")
    ]
    party = device_certificate(ID, ROOT, extensions=extensions)
    return patched(party, b"\x2a\x03\x37", b"\x2a\x03\x2c")


def unknown_key() -> str:
    return patched(LEAF, bytes.fromhex("06072a8648ce3d0201"), bytes.fromhex("06072a8648ce3d0209"))


def off_curve() -> str:
    point = LEAF.key.public_key().public_numbers()
    x_bytes = point.x.to_bytes(32, "big")
    return patched(LEAF, x_bytes, bytes(32))


MALFORMED, UNSUITABLE = Outcome.MALFORMED, Outcome.UNSUITABLE
HOSTILE: list[tuple[str, Callable[[], str], Outcome, str]] = [
    ("empty", lambda: "", MALFORMED, ""),
    ("white space", lambda: " \n\t ", MALFORMED, ""),
    ("not base64", lambda: "%%%", MALFORMED, "neither PEM nor DER"),
    ("base64 of nothing useful", lambda: der_text(b"hello"), MALFORMED, "not a certificate"),
    ("not ASCII", lambda: "сертификат", MALFORMED, "not a certificate"),
    ("lone surrogate", lambda: "\ud800", MALFORMED, "not a certificate"),
    ("NUL", lambda: "\x00", MALFORMED, ""),
    ("1 MB of PEM", lambda: LEAF.pem * 1500, MALFORMED, "longer than 64 KiB"),
    ("10,000 certificates", lambda: LEAF.pem * 10_000, MALFORMED, "longer than 64 KiB"),
    ("1 MB of one certificate", lambda: der_text(bytes(1_000_000)), MALFORMED, "64 KiB"),
    (
        "thousands of empty blocks",
        lambda: "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n" * 1000,
        MALFORMED,
        "more than 10",
    ),
    ("beginnings only", lambda: "-----BEGIN " * 11, MALFORMED, ""),
    ("dashes only", lambda: "-" * 65_536, MALFORMED, ""),
    ("deeply nested DER", lambda: der_text(b"\x30\x80" * 20_000), MALFORMED, ""),
    ("huge length in DER", lambda: der_text(b"\x30\x84\xff\xff\xff\xff"), MALFORMED, ""),
    ("truncated PEM", lambda: LEAF.pem[:200], MALFORMED, "no whole certificate"),
    ("bytes after the DER", lambda: der_text(LEAF.der + b"\x00"), MALFORMED, ""),
    (
        "a private key along with it",
        lambda: LEAF.pem + "-----BEGIN PRIVATE KEY-----\n",
        MALFORMED,
        "private key",
    ),
    ("a list instead", lambda: revocation_list(ROOT).decode(), MALFORMED, "no whole certificate"),
    ("broken intermediate", lambda: LEAF.pem + ROOT.pem.replace("M", "N", 5), MALFORMED, ""),
    ("negative serial", (WEAK / "negative.pem").read_text, MALFORMED, ""),
    ("huge serial", (WEAK / "huge.pem").read_text, MALFORMED, "20 octets"),
    ("duplicated extension", twins, MALFORMED, "the certificate"),
    ("unknown key", unknown_key, MALFORMED, "the public key"),
    ("a key that is no point of its curve", off_curve, MALFORMED, "the public key"),
    (
        "common name with NUL",
        lambda: device_certificate("sensor-1\x00.x", ROOT).pem,
        MALFORMED,
        "NUL",
    ),
    (
        "URI with NUL",
        lambda: device_certificate(ID, ROOT, uris=["urn:a\x00b"]).pem,
        MALFORMED,
        "NUL",
    ),
    (
        "DNS name with NUL",
        lambda: device_certificate(ID, ROOT, dns=["a\x00b"]).pem,
        MALFORMED,
        "NUL",
    ),
    (
        "DSA key",
        lambda: (
            device_certificate(ID, ROOT, public_key=dsa.generate_private_key(1024).public_key()).pem
        ),
        UNSUITABLE,
        "DSA",
    ),
    (
        "X25519 key",
        lambda: (
            device_certificate(
                ID, ROOT, public_key=x25519.X25519PrivateKey.generate().public_key()
            ).pem
        ),
        UNSUITABLE,
        "X25519",
    ),
    ("self-signed", lambda: device_certificate(ID).pem, Outcome.UNTRUSTED_ISSUER, "CN=sensor-1"),
    (
        "self-signed, named like the anchor",
        lambda: device_certificate("Root", private_key=key("mine")).pem,
        Outcome.UNTRUSTED_ISSUER,
        "",
    ),
    (
        "the name of the anchor, another key",
        lambda: pem(
            device_certificate(ID, authority("Root", private_key=key("mine"))),
            authority("Root", private_key=key("mine")),
        ),
        Outcome.UNTRUSTED_ISSUER,
        "",
    ),
]


@pytest.mark.parametrize(
    ("make", "outcome", "says"), [case[1:] for case in HOSTILE], ids=[case[0] for case in HOSTILE]
)
def test_hostile_input_is_refused(make: Callable[[], str], outcome: Outcome, says: str) -> None:
    verdict = ask(make())
    assert verdict.outcome is outcome, verdict
    assert says in verdict.detail
    assert "\x00" not in verdict.detail


def test_an_unreadable_key_is_refused_of_a_device_whose_key_is_pinned(registry: Device) -> None:
    Certificate.objects.register(device=registry, presented=LEAF.pem, pin=Pin.PUBLIC_KEY)
    assert ask(unknown_key()).outcome is MALFORMED


def test_every_truncation_is_refused() -> None:
    for length in range(len(LEAF.der)):
        with pytest.raises(Refused):
            x509.check_readable(x509.read(der_text(LEAF.der[:length])).leaf)


def test_a_negative_serial_is_refused_where_the_library_only_warns() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert "negative" in ask((WEAK / "negative.pem").read_text()).detail


def test_a_self_signed_certificate_cannot_be_its_own_anchor() -> None:
    party = authority(ID)
    CertificateAuthority.objects.register(presented=party.pem, name="itself")
    assert ask(party.pem).outcome is Outcome.UNSUITABLE
    row = CertificateAuthority.objects.get(name="itself")
    leaf = device_certificate("leaf")  # as an older release might have let in
    row.pem, row.subject_fingerprint = leaf.pem, x509.subject_fingerprint(leaf.certificate)
    row.save()
    assert ask(leaf.pem).outcome is Outcome.UNTRUSTED_ISSUER


def loops(private_keys: list[Any]) -> list[Party]:
    """Return ten authorities of one name that all sign each other."""
    parties = [authority("Loop", private_key=one) for one in private_keys]
    return [
        authority(
            "Loop", parties[n % len(parties)], private_key=private_keys[(n + 1) % len(private_keys)]
        )
        for n in range(10)
    ]


@pytest.mark.parametrize(
    "private_keys",
    [
        [key(f"loop {n}") for n in range(5)],
        [key("alone")],
        [rsa.generate_private_key(65537, 4096)],
    ],
    ids=["five keys", "one key", "RSA 4096"],
)
def test_cross_signed_loops_end(private_keys: list[Any]) -> None:
    ring = loops(private_keys)
    assert ask(pem(device_certificate(ID, ring[0]), *ring)).outcome is Outcome.UNTRUSTED_ISSUER
    way_out = authority("Loop", ROOT, private_key=private_keys[-1])
    leaf = device_certificate(ID, way_out)
    assert ask(pem(leaf, way_out, *ring[:9])).outcome in {
        Outcome.VERIFIED,
        Outcome.UNTRUSTED_ISSUER,  # the search is bounded, whatever it might still have found
    }


def test_keys_that_are_dear_to_check_are_refused_unchecked() -> None:
    private = rsa.generate_private_key(65537, 2048).private_numbers()
    public = private.public_numbers
    huge = rsa.RSAPublicNumbers((1 << 2040) + 1, public.n).public_key()
    issuer = authority("Dear", ROOT, public_key=huge)
    leaf = device_certificate(ID, authority("Dear", private_key=key("dear")))
    verdict = ask(pem(leaf, *[issuer] * 10))
    assert verdict.outcome is Outcome.UNSUITABLE


def test_a_thousand_names_and_constraints_stay_cheap() -> None:
    permitted = x.NameConstraints([x.DNSName(f"h{n}.example") for n in range(60)], None)
    between = authority("Between", ROOT, critical=[permitted])
    leaf = device_certificate(ID, between, dns=[f"x.h{n % 60}.example" for n in range(1000)])
    verdict = ask(pem(leaf, *[between] * 2))
    assert verdict.outcome in {Outcome.UNTRUSTED_ISSUER, Outcome.MALFORMED}


def test_terminal_escapes_in_a_name_are_shown_harmlessly() -> None:
    party = issue("a\x1b[31mred\u202e\n")
    assert x509.subject_of(party.certificate) == r"CN=a\x1b[31mred\u202e\n"
    assert len(x509.shown("\n" * 5000)) <= x509.MAX_SHOWN_LENGTH
    assert x509.shown("x" * 1001) == "x" * 999 + "…"


def test_a_panic_of_the_parser_is_a_refusal_and_an_interrupt_is_not(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    panic = type("PanicException", (BaseException,), {})
    for error in (panic("boom"), RuntimeError("boom")):
        monkeypatch.setattr(x, "load_pem_x509_certificates", raising(error))
        assert ask(LEAF.pem).outcome is MALFORMED
        assert "could not be read" in caplog.text
        caplog.clear()
    monkeypatch.setattr(x, "load_pem_x509_certificates", raising(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        ask(LEAF.pem)


def raising(error: BaseException) -> Callable[[bytes], Any]:
    def fail(text: bytes) -> Any:
        raise error

    return fail


CHAIN = [party.der for party in chain_below(ROOT, 2)]
FINDINGS = settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
TYPES = {Outcome(outcome) for outcome in Outcome}


@given(st.lists(st.tuples(st.integers(0, len(LEAF.der) - 1), st.integers(0, 255)), max_size=4))
@FINDINGS
def test_no_mutation_of_a_certificate_raises(mutations: list[tuple[int, int]]) -> None:
    mutated = bytearray(LEAF.der)
    for place, byte in mutations:
        mutated[place] = byte
    verdict = ask(der_text(bytes(mutated)))
    assert verdict.verified is (bytes(mutated) == LEAF.der)


@given(
    st.integers(0, 1),
    st.lists(st.tuples(st.integers(0, 300), st.integers(0, 255)), min_size=1, max_size=4),
)
@FINDINGS
def test_no_mutation_of_an_issuer_raises(which: int, mutations: list[tuple[int, int]]) -> None:
    leaf = device_certificate(ID, chain_below(ROOT, 2)[-1])
    chain = [bytearray(der) for der in CHAIN]
    for place, byte in mutations:
        chain[which][place] = byte
    blocks = [leaf.pem]
    for der in chain:
        body = base64.encodebytes(bytes(der)).decode()
        blocks.append(f"-----BEGIN CERTIFICATE-----\n{body}-----END CERTIFICATE-----\n")
    assert ask("".join(blocks)).outcome in TYPES


@given(st.text(alphabet="-BEGINCRTFAD \n=+/09az\x00é", max_size=300))
@FINDINGS
def test_no_text_raises(text: str) -> None:
    assert not ask(text).verified
    assert not ask(LEAF.pem[:60] + text).verified


@given(st.binary(max_size=300), st.sampled_from(NameSource))
@FINDINGS
def test_no_subject_alternative_name_raises(value: bytes, source: NameSource) -> None:
    names = x.UnrecognizedExtension(x.ObjectIdentifier("2.5.29.17"), value)
    party = issue(ID, ROOT, extensions=[names])
    try:
        x509.check_readable(party.certificate)
        x509.names_in(party.certificate, source)
    except Refused as refusal:
        assert refusal.outcome is MALFORMED  # noqa: PT017
    assert ask(party.pem).outcome in {MALFORMED, Outcome.VERIFIED}


@given(st.lists(st.tuples(st.integers(0, 250), st.integers(0, 255)), min_size=1, max_size=4))
@FINDINGS
def test_no_mutation_of_a_list_is_loaded(mutations: list[tuple[int, int]]) -> None:
    whole = revocation_list(ROOT, 5, der=True)
    mutated = bytearray(whole)
    for place, byte in mutations:
        mutated[place % len(whole)] = byte
    try:
        revoked = crl.read_list(bytes(mutated))
        crl.check_list(revoked, ROOT.certificate, NOW)
    except Refused:
        return
    assert bytes(mutated) == whole
