"""Revocation lists: what may be loaded, what a loaded one refuses, what an old one means."""

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509 as x
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
from cryptography.hazmat.primitives.hashes import SHA256
from django.core.exceptions import ValidationError
from django.db import connection
from django.test.utils import CaptureQueriesContext

from devices.authentication import authenticate
from devices.models import (
    Certificate,
    CertificateAuthority,
    Device,
    RevocationList,
    RevokedSerial,
)
from devices.models.credentials.authority import CRLPolicy
from devices.models.credentials.certificate import Pin
from devices.verdicts import Outcome, Verdict
from tests.support.pki import (
    DAY,
    NOW,
    Party,
    authority,
    device_certificate,
    key,
    name,
    pem,
    revocation_list,
    usage,
)

pytestmark = pytest.mark.django_db

ID = "sensor-1"
WEAK = Path(__file__).parent / "weak"


@pytest.fixture(autouse=True)
def device(make_device: Callable[..., Device]) -> Device:
    return make_device(ID)


@pytest.fixture
def root() -> Party:
    return authority("Root")


@pytest.fixture
def anchor(root: Party) -> CertificateAuthority:
    return CertificateAuthority.objects.register(presented=root.pem, name="Root")


def ask(*parties: Party, now: Any = NOW) -> Verdict:
    return authenticate(ID, certificate=pem(*parties), now=now, record=False)


def load(anchor: CertificateAuthority, content: bytes) -> RevocationList:
    return anchor.load_list(content, by="ann", now=NOW)


@pytest.mark.parametrize("der", [False, True])
def test_a_listed_certificate_is_refused_at_the_next_request(
    anchor: CertificateAuthority, root: Party, der: bool
) -> None:
    listed, other = device_certificate(ID, root), device_certificate(ID, root)
    assert ask(listed).verified
    loaded = load(anchor, revocation_list(root, listed, 5, 2**158, number=7, der=der))
    assert (loaded.number, loaded.entries, loaded.loaded_by) == ("7", 3, "ann")
    assert (loaded.this_update, loaded.next_update) == (NOW - DAY, NOW + DAY)
    assert str(loaded) == f"Root, {NOW - DAY:%Y-%m-%d}"
    verdict = ask(listed)
    assert verdict.outcome is Outcome.REVOKED_BY_CRL
    assert verdict.detail == "CN=sensor-1"
    assert ask(other).verified


def test_the_reason_of_an_entry_is_kept(anchor: CertificateAuthority, root: Party) -> None:
    reason = x.CRLReason(x.ReasonFlags.key_compromise)
    load(anchor, revocation_list(root, 0xABC, entry_extensions=[(reason, False)]))
    row = RevokedSerial.objects.get()
    assert (str(row), row.date, row.reason) == ("abc", NOW - DAY, "keyCompromise")


def test_a_reason_that_changes_is_written(anchor: CertificateAuthority, root: Party) -> None:
    for number, flag in enumerate((x.ReasonFlags.certificate_hold, x.ReasonFlags.key_compromise)):
        reason = [(x.CRLReason(flag), False)]
        load(anchor, revocation_list(root, 0xABC, 5, number=number, entry_extensions=reason))
    assert set(RevokedSerial.objects.values_list("serial", "reason")) == {
        ("abc", "keyCompromise"),
        ("5", "keyCompromise"),
    }


def test_a_listed_intermediate_is_refused_with_what_is_below(
    anchor: CertificateAuthority, root: Party
) -> None:
    between = authority("Between", root)
    leaf = device_certificate(ID, between)
    assert ask(leaf, between).verified
    load(anchor, revocation_list(root, between))
    verdict = ask(leaf, between)
    assert (verdict.outcome, verdict.detail) == (Outcome.REVOKED_BY_CRL, "CN=Between")


def test_an_anchor_s_list_says_nothing_of_other_authorities_serials(
    anchor: CertificateAuthority, root: Party
) -> None:
    between = authority("Between", root, serial=6)
    leaf = device_certificate(ID, between, serial=5)
    load(anchor, revocation_list(root, 5))
    assert ask(leaf, between).verified


@pytest.mark.parametrize("same", ["name", "key"])
def test_who_shares_only_a_name_or_a_key_with_the_issuer_is_another_authority(
    anchor: CertificateAuthority, root: Party, same: str
) -> None:
    """Its list names other certificates, and that it has none is nobody else's lack."""
    twin = (
        authority("Root", private_key=key("another"))
        if same == "name"
        else authority("Twin", private_key=root.key)
    )
    row = CertificateAuthority.objects.register(
        presented=twin.pem, name="Twin", crl_policy=CRLPolicy.REQUIRE
    )
    leaf = device_certificate(ID, root)
    asked_about = authority("Beside", twin)  # makes the twin one of those that have a say
    assert ask(leaf, asked_about).verified
    load(row, revocation_list(twin, leaf))
    assert ask(leaf, asked_about).verified


@pytest.mark.parametrize("enabled", [True, False])
def test_an_intermediate_that_is_registered_brings_its_own_list(
    anchor: CertificateAuthority, root: Party, enabled: bool
) -> None:
    between = authority("Between", root)
    leaf = device_certificate(ID, between)
    row = CertificateAuthority.objects.register(
        presented=between.pem, name="Between", enabled=enabled
    )
    load(row, revocation_list(between, leaf))
    assert ask(leaf, between).outcome is Outcome.REVOKED_BY_CRL
    reissued = authority("Between", root)  # the same name and key: the same authority
    assert ask(leaf, reissued).outcome is Outcome.REVOKED_BY_CRL
    assert ask(device_certificate(ID, between), between).verified


@pytest.mark.parametrize("pin", Pin)
def test_a_pin_does_not_stand_in_for_a_revocation(
    anchor: CertificateAuthority, root: Party, device: Device, pin: Pin
) -> None:
    leaf = device_certificate("x", root)
    Certificate.objects.register(device=device, presented=leaf.pem, pin=pin)
    load(anchor, revocation_list(root, leaf))
    assert ask(leaf).outcome is Outcome.REVOKED_BY_CRL


def test_a_pinned_certificate_that_only_claims_the_issuer_is_not_on_its_list(
    anchor: CertificateAuthority, root: Party, device: Device, caplog: pytest.LogCaptureFixture
) -> None:
    claims = device_certificate("x", issuer_name=root.certificate.subject, serial=5)
    Certificate.objects.register(device=device, presented=claims.pem)
    load(anchor, revocation_list(root, 5))
    assert ask(claims).verified
    assert not caplog.text  # a signature of somebody else is nothing that could not be read


@pytest.mark.parametrize(
    ("policy", "loaded", "days", "outcome", "detail"),
    [
        (CRLPolicy.REQUIRE, False, 0, Outcome.CRL_EXPIRED, "no list of “Root” is loaded"),
        (CRLPolicy.REQUIRE, True, 0, Outcome.VERIFIED, ""),
        (CRLPolicy.REQUIRE, True, 2, Outcome.CRL_EXPIRED, "due to be renewed by"),
        (CRLPolicy.REFUSE, False, 0, Outcome.VERIFIED, ""),
        (CRLPolicy.REFUSE, True, 0, Outcome.VERIFIED, ""),
        (CRLPolicy.REFUSE, True, 1, Outcome.VERIFIED, ""),  # at its last moment
        (CRLPolicy.REFUSE, True, 2, Outcome.CRL_EXPIRED, "due to be renewed by"),
        (CRLPolicy.WARN, False, 0, Outcome.VERIFIED, ""),
        (CRLPolicy.WARN, True, 0, Outcome.VERIFIED, ""),
        (CRLPolicy.WARN, True, 2, Outcome.VERIFIED, "the list of “Root” was due to be renewed"),
    ],
)
def test_a_missing_or_outdated_list_means_what_the_policy_says(
    *, root: Party, policy: CRLPolicy, loaded: bool, days: int, outcome: Outcome, detail: str
) -> None:
    anchor = CertificateAuthority.objects.register(
        presented=root.pem, name="Root", crl_policy=policy
    )
    if loaded:
        load(anchor, revocation_list(root, 5))
    verdict = ask(device_certificate(ID, root), now=NOW + days * DAY)
    assert verdict.outcome is outcome
    assert detail in verdict.detail
    assert bool(detail) == bool(verdict.detail)


@pytest.mark.parametrize("policy", CRLPolicy)
def test_an_outdated_list_still_refuses_what_it_names(root: Party, policy: CRLPolicy) -> None:
    anchor = CertificateAuthority.objects.register(
        presented=root.pem, name="Root", crl_policy=policy
    )
    leaf = device_certificate(ID, root)
    load(anchor, revocation_list(root, leaf))
    assert ask(leaf, now=NOW + 2 * DAY).outcome is Outcome.REVOKED_BY_CRL


def test_an_outdated_list_does_not_stop_a_pinned_certificate(
    anchor: CertificateAuthority, root: Party, device: Device
) -> None:
    leaf = device_certificate("x", root)
    Certificate.objects.register(device=device, presented=leaf.pem)
    load(anchor, revocation_list(root))
    assert ask(leaf, now=NOW + 2 * DAY).verified


def test_a_newer_list_replaces_the_one_before_as_a_whole(
    anchor: CertificateAuthority, root: Party
) -> None:
    first, second = device_certificate(ID, root), device_certificate(ID, root)
    load(anchor, revocation_list(root, first, number=1))
    load(anchor, revocation_list(root, second, number=2, made=NOW))
    assert ask(first).verified  # a hold that was lifted
    assert ask(second).outcome is Outcome.REVOKED_BY_CRL
    assert RevocationList.objects.get().number == "2"


def test_the_same_list_can_be_loaded_again(anchor: CertificateAuthority, root: Party) -> None:
    content = revocation_list(root, 5, number=3)
    load(anchor, content)
    load(anchor, content)
    assert RevokedSerial.objects.count() == 1


@pytest.mark.parametrize(
    ("older", "why"),
    [
        ({"number": 4, "made": NOW}, "an earlier number"),
        ({"number": 6, "made": NOW - 2 * DAY}, "an earlier date"),
        ({"number": None, "made": NOW - 2 * DAY}, "an earlier date without a number"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_older_list_is_refused(
    anchor: CertificateAuthority, root: Party, older: dict[str, Any], why: str
) -> None:
    leaf = device_certificate(ID, root)
    load(anchor, revocation_list(root, leaf, number=5))
    with pytest.raises(ValidationError, match="older than the one in force"):
        load(anchor, revocation_list(root, **older))
    assert ask(leaf).outcome is Outcome.REVOKED_BY_CRL


DELTA = x.DeltaCRLIndicator(1)
ADDRESS = "https://ca.example.com/1.0/crl"


def scope(*flags: str, address: str | None = None, relative: bool = False) -> list[Any]:
    """Return the extension by which a list says what it covers (RFC 5280, 5.2.5)."""
    relative_name = x.RelativeDistinguishedName(name("part").rdns[0]) if relative else None
    point = x.IssuingDistributionPoint(
        None if address is None else [x.UniformResourceIdentifier(address)],
        relative_name,
        "user" in flags,
        "ca" in flags,
        frozenset([x.ReasonFlags.key_compromise]) if "reasons" in flags else None,
        "indirect" in flags,
        "attribute" in flags,
    )
    return [(point, True)]


UNKNOWN = x.UnrecognizedExtension(x.ObjectIdentifier("1.2.3.4"), b"\x05\x00")
ELSEWHERE = x.CertificateIssuer([x.DirectoryName(name("Elsewhere"))])
STRANGER = authority("Stranger")


@pytest.mark.once(on="sqlite")
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root: revocation_list(STRANGER), "issued by CN=Stranger"),
        (
            lambda root: revocation_list(STRANGER, issuer_name=root.certificate.subject),
            "signature is not the trust anchor's",
        ),
        (lambda root: revocation_list(root, extensions=[(DELTA, True)]), "delta list"),
        (lambda root: revocation_list(root, extensions=scope("user")), "only a part"),
        (lambda root: revocation_list(root, extensions=scope("ca")), "only a part"),
        (
            lambda root: revocation_list(root, extensions=scope("reasons", address=ADDRESS)),
            "only a part",
        ),
        (
            lambda root: revocation_list(root, extensions=scope("indirect", address=ADDRESS)),
            "only a part",
        ),
        (
            lambda root: revocation_list(root, extensions=scope("attribute", address=ADDRESS)),
            "only a part",
        ),
        (
            lambda root: revocation_list(root, extensions=scope(address=f"{ADDRESS}/2")),
            f"distribution point {ADDRESS}/2",
        ),
        (lambda root: revocation_list(root, extensions=scope(relative=True)), "point —"),
        (lambda root: revocation_list(root, extensions=[(UNKNOWN, True)]), "1.2.3.4"),
        (lambda root: revocation_list(root, 5, entry_extensions=[(UNKNOWN, True)]), "1.2.3.4"),
        (lambda root: revocation_list(root, 5, entry_extensions=[(ELSEWHERE, True)]), "2.5.29.29"),
        (lambda root: revocation_list(root, made=NOW + timedelta(hours=1)), "in the future"),
        (lambda root: revocation_list(root, number=2**160), "20 octets"),
        (lambda root: revocation_list(root)[:-60], "not a revocation list"),
        (lambda root: revocation_list(root, der=True)[:-3], "not a revocation list"),
        (lambda root: b"", "not a revocation list"),
        (lambda root: b"\x30" * 100_000, "not a revocation list"),
        (lambda root: bytes(16 * 1024 * 1024 + 1), "longer than 16 MiB"),
        (lambda root: root.pem.encode(), "not a revocation list"),
    ],
)
def test_what_is_not_the_anchor_s_own_complete_list_is_refused(
    anchor: CertificateAuthority, root: Party, make: Callable[[Party], bytes], message: str
) -> None:
    load(anchor, revocation_list(root, 9, number=1))
    CertificateAuthority.objects.update(distribution_point=ADDRESS)
    with pytest.raises(ValidationError, match=message):
        load(anchor, make(root))
    assert RevokedSerial.objects.get().serial == "9"


def test_a_list_of_an_address_without_text_is_none_that_staff_know(
    anchor: CertificateAuthority, root: Party
) -> None:
    with pytest.raises(ValidationError, match="distribution point —"):
        load(anchor, revocation_list(root, extensions=scope(address="")))


@pytest.mark.parametrize(
    ("flags", "address"), [(("user",), ADDRESS), ((), ADDRESS), (("user",), None)]
)
def test_a_list_whose_distribution_point_staff_know_to_be_whole_is_loaded(
    flags: tuple[str, ...], address: str | None
) -> None:
    """step-ca's has an address and is for devices alone, and no certificate names the address."""
    party = authority("Issuing", path_length=0 if flags else None)
    anchor = CertificateAuthority.objects.register(presented=party.pem, name="Issuing")
    leaf = device_certificate(ID, party)
    content = revocation_list(party, leaf, extensions=scope(*flags, address=address))
    if address:
        with pytest.raises(ValidationError, match="enter that address at the trust anchor"):
            load(anchor, content)
        CertificateAuthority.objects.update(distribution_point=address)
    load(anchor, content)
    assert ask(leaf).outcome is Outcome.REVOKED_BY_CRL
    assert ask(device_certificate(ID, party)).verified


def test_extensions_that_are_not_critical_do_no_harm(
    anchor: CertificateAuthority, root: Party
) -> None:
    more = [(UNKNOWN, False)]
    load(anchor, revocation_list(root, 5, extensions=more, entry_extensions=more))
    assert RevokedSerial.objects.count() == 1


def element(tag: int, content: bytes) -> bytes:
    """Return a short element of DER."""
    assert len(content) < 0x80
    return bytes([tag, len(content)]) + content


def moment(at: datetime) -> bytes:
    return element(0x17, f"{at:%y%m%d%H%M%SZ}".encode())


def dated(root: Party, next_update: bytes) -> bytes:
    """Return a list with another next update, signed again: the library makes no such list."""
    made = x.load_pem_x509_crl(revocation_list(root, number=None))
    signed = element(0x30, made.tbs_certlist_bytes[2:].replace(moment(NOW + DAY), next_update))
    algorithm = element(0x30, element(6, bytes.fromhex("2a8648ce3d040302")))
    signature = element(3, b"\x00" + root.key.sign(signed, ECDSA(SHA256())))
    content = signed + algorithm + signature
    return b"\x30\x81" + bytes([len(content)]) + content


@pytest.mark.parametrize("next_update", [b"", moment(NOW - 2 * DAY)], ids=["none", "before"])
def test_a_list_that_does_not_say_until_when_it_holds_is_refused(
    anchor: CertificateAuthority, root: Party, next_update: bytes
) -> None:
    load(anchor, dated(root, moment(NOW + DAY)))
    with pytest.raises(ValidationError, match="until when it holds"):
        load(anchor, dated(root, next_update))


@pytest.mark.parametrize("other", [authority("Root"), authority("Another")])
def test_a_file_with_several_lists_is_refused_whole(
    anchor: CertificateAuthority, root: Party, other: Party
) -> None:
    listed = device_certificate(ID, root)
    several = revocation_list(root, number=1) + revocation_list(other, listed, number=2)
    with pytest.raises(ValidationError, match="several revocation lists"):
        load(anchor, several)
    assert not RevocationList.objects.exists()


def test_a_list_signed_with_sha1_is_refused() -> None:
    anchor = CertificateAuthority.objects.register(
        presented=(WEAK / "root.pem").read_text(), name="weak"
    )
    with pytest.raises(ValidationError, match="weak or unknown hash"):
        anchor.load_list((WEAK / "sha1_crl.pem").read_bytes(), by="ann")


def test_an_anchor_that_may_not_sign_lists_signs_none() -> None:
    party = authority("No lists", extensions=[usage(cert_sign=True)])
    anchor = CertificateAuthority.objects.register(presented=party.pem, name="x")
    with pytest.raises(ValidationError, match="lacks CRL signing"):
        load(anchor, revocation_list(party))
    silent = authority("Silent", extensions=[])
    anchor = CertificateAuthority.objects.register(presented=silent.pem, name="y")
    assert load(anchor, revocation_list(silent)).entries == 0


def test_a_check_with_a_list_costs_three_statements(
    anchor: CertificateAuthority, root: Party
) -> None:
    load(anchor, revocation_list(root, *range(1, 3000)))
    load(anchor, revocation_list(root, *range(1500, 4000), number=2))
    assert RevokedSerial.objects.count() == 2500
    between = authority("Between", root)
    presented = device_certificate(ID, between), between
    assert ask(*presented).verified
    with CaptureQueriesContext(connection) as queries:
        assert ask(*presented).verified
    assert len(queries) == 3


def test_deleting_an_anchor_takes_its_list_along(anchor: CertificateAuthority, root: Party) -> None:
    load(anchor, revocation_list(root, 5))
    anchor.delete()
    assert not RevokedSerial.objects.exists()
    assert not RevocationList.objects.exists()
