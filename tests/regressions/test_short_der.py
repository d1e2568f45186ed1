"""A minimal Ed25519 certificate has 236 bytes: its DER was "not a certificate".

The kind: CWE-1284.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509 as x
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from django.core.management import call_command

from devices.credentials import crl, x509
from devices.models import Certificate, Device
from tests.support.pki import DAY, NOW, authority, device_certificate, name, revocation_list

pytestmark = [pytest.mark.django_db, pytest.mark.once(on="sqlite")]


def minimal(common_name: str) -> bytes:
    """Return the DER of a certificate without extensions."""
    key = Ed25519PrivateKey.generate()
    return (
        x.CertificateBuilder()
        .subject_name(name(common_name))
        .issuer_name(name("i"))
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(NOW - DAY)
        .not_valid_after(NOW + 10_000 * DAY)
        .sign(key, None)
        .public_bytes(Encoding.DER)
    )


@pytest.mark.parametrize("length", [1, 20, 60])
def test_der_of_any_length_is_read(
    make_device: Callable[..., Device], tmp_path: Path, length: int
) -> None:
    der, file = minimal("s" * length), tmp_path / "short.der"
    assert (len(der) < 0x100) is (length < 60)
    file.write_bytes(der)
    make_device("sensor-1")
    call_command("add_certificate", "sensor-1", str(file))
    assert Certificate.objects.get().serial == "7"


def test_text_that_begins_like_der_is_read_as_pem() -> None:
    party = device_certificate("lamp")
    text = f"0 s:CN = J\xfcrgen\n{party.pem}"
    assert x509.read(x509.text_of(text.encode("latin-1"))).leaf == party.certificate


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_pem_is_read_as_windows_writes_it(encoding: str) -> None:
    party = authority("Root")
    mark = "\ufeff" if encoding.startswith("utf-16-") else ""
    content = f"{mark}{party.pem}".replace("\n", "\r\n").encode(encoding)
    assert x509.read(x509.text_of(content)).leaf == party.certificate
    listed = revocation_list(party, 7).decode().replace("\n", "\r\n")
    assert next(crl.entries_of(crl.read_list(f"{mark}{listed}".encode(encoding)))).serial == "7"
