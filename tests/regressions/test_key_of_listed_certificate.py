"""The authority lists a certificate that is pinned by its key: another with that key was let in.

A public report of this kind: https://github.com/mirleft/ocaml-x509/issues/68.
"""

from collections.abc import Callable

import pytest

from devices.authentication import authenticate
from devices.models import Certificate, CertificateAuthority, Device
from devices.models.credentials.certificate import Pin
from devices.verdicts import Outcome
from tests.support.pki import NOW, Party, authority, device_certificate, revocation_list

pytestmark = pytest.mark.django_db

ROOT = authority("Root")
LISTED = device_certificate("lamp", ROOT)
SELF_SIGNED = device_certificate("lamp", private_key=LISTED.key)
RENEWED = device_certificate("lamp", ROOT, private_key=LISTED.key)


@pytest.mark.parametrize("party", [LISTED, SELF_SIGNED, RENEWED])
@pytest.mark.parametrize("holder", ["lamp", "another"])
def test_every_certificate_with_the_key_is_refused(
    make_device: Callable[..., Device], party: Party, holder: str
) -> None:
    make_device("lamp")
    row = Device.objects.get(identifier="lamp") if holder == "lamp" else make_device(holder)
    Certificate.objects.register(device=row, presented=LISTED.pem, pin=Pin.PUBLIC_KEY)
    root = CertificateAuthority.objects.register(presented=ROOT.pem, name="Root")
    asked = authenticate("lamp", certificate=party.pem, now=NOW, record=False)
    assert asked.verified or (holder == "another" and party is SELF_SIGNED)
    root.load_list(revocation_list(ROOT, LISTED), by="ann", now=NOW)
    assert (
        authenticate("lamp", certificate=party.pem, now=NOW, record=False).outcome
        is Outcome.REVOKED_BY_CRL
    )


def test_a_list_that_names_another_certificate_refuses_no_key(
    make_device: Callable[..., Device],
) -> None:
    Certificate.objects.register(
        device=make_device("lamp"), presented=LISTED.pem, pin=Pin.PUBLIC_KEY
    )
    root = CertificateAuthority.objects.register(presented=ROOT.pem, name="Root")
    root.load_list(revocation_list(ROOT, 5), by="ann", now=NOW)
    for party in (LISTED, SELF_SIGNED, RENEWED):
        assert authenticate("lamp", certificate=party.pem, now=NOW, record=False).verified


def test_the_key_of_a_listed_certificate_that_is_pinned_itself_stays_good(
    make_device: Callable[..., Device],
) -> None:
    device = make_device("lamp")
    for party in (LISTED, SELF_SIGNED):
        Certificate.objects.register(device=device, presented=party.pem)
    root = CertificateAuthority.objects.register(presented=ROOT.pem, name="Root")
    root.load_list(revocation_list(ROOT, LISTED), by="ann", now=NOW)
    assert not authenticate("lamp", certificate=LISTED.pem, now=NOW, record=False).verified
    assert authenticate("lamp", certificate=SELF_SIGNED.pem, now=NOW, record=False).verified
