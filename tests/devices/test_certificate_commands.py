"""The commands that keep certificates, trust anchors and revocation lists."""

import base64
import io
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command

from devices.authentication import authenticate
from devices.credentials import x509
from devices.models import Certificate, CertificateAuthority, Device, RevocationList
from devices.models.credentials.certificate import Pin
from devices.verdicts import Outcome
from tests.support.commands import answer, run
from tests.support.pki import (
    DAY,
    NOW,
    YEAR,
    Party,
    authority,
    device_certificate,
    revocation_list,
)

pytestmark = [pytest.mark.django_db, pytest.mark.once(on="sqlite")]

ROOT = authority("Root", serial=0xFEED)
LEAF = device_certificate("sensor-1", ROOT, serial=0xABC)


@pytest.fixture(autouse=True)
def device(make_device: Callable[..., Device]) -> Device:
    return make_device("sensor-1")


@pytest.fixture
def path(tmp_path: Path) -> Callable[[bytes | Party], str]:
    """Return a way to write a file and get its path."""

    def write(content: bytes | Party) -> str:
        file = tmp_path / "file"
        file.write_bytes(content.pem.encode() if isinstance(content, Party) else content)
        return str(file)

    return write


Write = Callable[[Any], str]


def iso(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def outcome(party: Party = LEAF) -> Outcome:
    return authenticate("sensor-1", certificate=party.pem, now=NOW, record=False).outcome


def test_add_certificate_prints_what_it_read(path: Write) -> None:
    document = answer("add_certificate", "sensor-1", path(LEAF), "--label", "first")
    row = Certificate.objects.get()
    assert document == {
        "identifier": "sensor-1",
        "certificate": row.pk,
        "pin": "certificate",
        "subject": "CN=sensor-1",
        "issuer": "CN=Root",
        "serial": "abc",
        "not_before": iso(NOW - YEAR),
        "not_after": iso(NOW + YEAR),
        "key": "EC secp256r1",
        "fingerprint": x509.fingerprint(LEAF.certificate),
        "public_key_fingerprint": x509.public_key_fingerprint(LEAF.certificate),
    }
    assert row.label == "first"
    assert outcome() is Outcome.VERIFIED
    renewed = device_certificate("other")
    printed, _ = run("add_certificate", "sensor-1", path(renewed), "--pin", "public-key")
    assert "subject                 CN=other" in printed
    assert Certificate.objects.get(subject="CN=other").pin == Pin.PUBLIC_KEY


def test_add_certificate_reads_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(LEAF.pem.encode())))
    call_command("add_certificate", "sensor-1", "-", stdout=io.StringIO())
    assert outcome() is Outcome.VERIFIED


@pytest.mark.parametrize("content", [LEAF.der, base64.b64encode(LEAF.der)])
def test_add_certificate_takes_der(path: Write, content: bytes) -> None:
    run("add_certificate", "sensor-1", path(content))
    assert outcome() is Outcome.VERIFIED


@pytest.mark.parametrize(
    ("identifier", "content", "code", "complaint"),
    [
        ("nobody", LEAF, 1, "no device nobody"),
        ("sensor-1", b"nonsense", 1, "cannot be read"),
        ("sensor-1", b"\xff\xfe\x00", 1, "cannot be read"),
        ("sensor-1", bytes(70_000), 1, "longer than 64 KiB"),
        ("sensor-1", device_certificate("x", ends=NOW - DAY), 1, "expired on"),
    ],
)
def test_add_certificate_refuses_with_a_reason(
    path: Write, identifier: str, content: Any, code: int, complaint: str
) -> None:
    _, said = run("add_certificate", identifier, path(content), code=code)
    assert complaint in said
    assert not Certificate.objects.exists()


def test_a_file_that_is_not_there_is_bad_usage(tmp_path: Path) -> None:
    _, said = run("add_certificate", "sensor-1", str(tmp_path / "nothing"), code=2)
    assert "No such file" in said


def test_add_trust_anchor_then_load_crl(path: Write) -> None:
    printed, _ = run("add_trust_anchor", "Factory", path(ROOT), "--crl-policy", "require")
    assert "CN=Root" in printed
    assert "nobody until load_crl" in printed
    assert outcome() is Outcome.CRL_EXPIRED
    document = answer("load_crl", "Factory", path(revocation_list(ROOT, 5, number=12, der=True)))
    assert document == {
        "anchor": "Factory",
        "number": "12",
        "this_update": iso(NOW - DAY),
        "next_update": iso(NOW + DAY),
        "entries": 1,
    }
    assert outcome() is Outcome.VERIFIED
    run("load_crl", "Factory", path(revocation_list(ROOT, LEAF, number=13)))
    assert outcome() is Outcome.REVOKED_BY_CRL
    _, said = run("load_crl", "Factory", path(revocation_list(ROOT, number=11)), code=1)
    assert "older than the one in force" in said
    _, said = run("load_crl", "Elsewhere", path(b""), code=1)
    assert "no trust anchor named “Elsewhere”" in said


def test_add_trust_anchor_takes_all_it_is_told(path: Write) -> None:
    document = answer(
        "add_trust_anchor", "Factory", path(ROOT), "--name-source", "san-uri",
        "--name-pattern", "urn:{id}", "--identifier-pattern", "//h/{id}", "--disabled",
        "--crl-policy", "warn",
    )  # fmt: skip
    assert document["fingerprint"] == x509.fingerprint(ROOT.certificate)
    assert document["enabled"] is False
    row = CertificateAuthority.objects.get()
    assert (row.name_source, row.name_pattern, row.identifier_pattern, row.crl_policy) == (
        "san-uri",
        "urn:{id}",
        "//h/{id}",
        "warn",
    )


@pytest.mark.parametrize(
    ("content", "options", "complaint"),
    [
        (LEAF, [], "not an authority"),
        (ROOT, ["--name-pattern", "x"], "exactly once"),
        (b"", [], "cannot be read"),
    ],
)
def test_add_trust_anchor_refuses_with_a_reason(
    path: Write, content: Any, options: list[str], complaint: str
) -> None:
    _, said = run("add_trust_anchor", "Factory", path(content), *options, code=1)
    assert complaint in said
    assert not CertificateAuthority.objects.exists()


def test_a_trust_anchor_is_deleted_with_its_list(path: Write) -> None:
    run("add_trust_anchor", "Factory", path(ROOT))
    run("load_crl", "Factory", path(revocation_list(ROOT, 0xDEF)))
    assert outcome() is Outcome.VERIFIED

    document = answer("delete_trust_anchor", "Factory", "--reason", "the factory is closed")

    assert document["deleted"]["devices.revocationlist"] == 1
    assert outcome() is not Outcome.VERIFIED
    for model in (CertificateAuthority, RevocationList):
        last = model.history.latest()
        assert (last.history_type, last.origin) == ("-", "command")
        assert last.history_change_reason == "delete_trust_anchor: the factory is closed"
    run("delete_trust_anchor", "Factory", code=1)


def test_revoke_certificate_revokes_what_an_anchor_vouches_for(path: Write) -> None:
    run("add_trust_anchor", "Factory", path(ROOT))
    assert outcome() is Outcome.VERIFIED
    run("revoke_certificate", "sensor-1", "--file", path(LEAF), "--reason", "stolen")
    assert outcome() is Outcome.REVOKED
    row = Certificate.objects.get()
    assert row.revoked_reason == "stolen"
    assert row.revoked_by.endswith("(command line)")
    assert outcome(device_certificate("sensor-1", ROOT)) is Outcome.VERIFIED
    _, said = run("revoke_certificate", "sensor-1", "--file", path(LEAF), code=1)
    assert "revoked before" in said


def test_revoke_certificate_takes_the_key_along(path: Write) -> None:
    run("add_trust_anchor", "Factory", path(ROOT))
    run("revoke_certificate", "sensor-1", "--file", path(LEAF), "--key-too")
    assert outcome(device_certificate("sensor-1", ROOT)) is Outcome.REVOKED


def test_revoke_certificate_by_number_or_all(path: Write) -> None:
    rows = []
    for number in range(3):
        document = answer("add_certificate", "sensor-1", path(device_certificate(f"c{number}")))
        rows.append(document["certificate"])
    first, *others = rows
    assert answer("revoke_certificate", "sensor-1", "--certificate", str(first))["revoked"] == [
        first
    ]
    assert sorted(answer("revoke_certificate", "sensor-1", "--all")["revoked"]) == others
    _, said = run("revoke_certificate", "sensor-1", "--all", code=1)
    assert "no such live certificate" in said
