"""Revoking an intermediate said "Revoked" and revoked nothing: its leaves were still let in.

A public report of this kind: https://github.com/open62541/open62541/pull/6692.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
from django.core.management import call_command

from devices.authentication import authenticate
from devices.models import Certificate, CertificateAuthority, Device
from devices.verdicts import Outcome
from tests.support.pki import DAY, NOW, Party, authority, device_certificate, pem

pytestmark = pytest.mark.django_db

ROOT = authority("Root")
BETWEEN = authority("Between", ROOT)
LEAF = device_certificate("sensor-1", BETWEEN)


@pytest.fixture(autouse=True)
def device(make_device: Callable[..., Device]) -> Device:
    CertificateAuthority.objects.register(presented=ROOT.pem, name="Root")
    return make_device("sensor-1")


def ask(*parties: Party) -> Outcome:
    return authenticate("sensor-1", certificate=pem(*parties), now=NOW, record=False).outcome


@pytest.mark.parametrize("revoked", [LEAF, BETWEEN, ROOT], ids=["leaf", "intermediate", "root"])
@pytest.mark.parametrize("shown", [(LEAF, BETWEEN), (LEAF, BETWEEN, ROOT)], ids=len)
def test_whatever_is_revoked_is_refused_with_what_it_issued(
    tmp_path: Path, revoked: Party, shown: tuple[Party, ...]
) -> None:
    assert ask(*shown) is Outcome.VERIFIED
    file = tmp_path / "revoked.pem"
    file.write_text(revoked.pem)
    call_command("revoke_certificate", "sensor-1", file=str(file))
    assert ask(*shown) is Outcome.REVOKED


def test_the_key_of_an_intermediate_is_revoked_with_it(device: Device) -> None:
    Certificate.objects.revoke_presented(
        device=device, presented=BETWEEN.pem, by="ann", key_too=True
    )
    again = authority("Between", ROOT, private_key=BETWEEN.key)
    assert ask(LEAF, again) is Outcome.REVOKED


def test_the_key_of_an_anchor_is_revoked_with_it(device: Device) -> None:
    again = authority("Root", private_key=ROOT.key)
    Certificate.objects.revoke_presented(device=device, presented=again.pem, by="ann", key_too=True)
    assert ask(LEAF, BETWEEN) is Outcome.REVOKED


def test_the_key_of_what_has_expired_is_revoked_with_it(device: Device) -> None:
    before = device_certificate("sensor-1", ROOT, ends=NOW - DAY)
    renewed = device_certificate("sensor-1", ROOT, private_key=before.key)
    assert ask(renewed) is Outcome.VERIFIED
    Certificate.objects.revoke_presented(
        device=device, presented=before.pem, by="ann", key_too=True
    )
    assert ask(renewed) is Outcome.REVOKED


def test_another_path_that_nobody_revoked_still_holds(device: Device) -> None:
    other = authority("Other root")
    CertificateAuthority.objects.register(presented=other.pem, name="Other root")
    crossed = authority("Between", other, private_key=BETWEEN.key)
    Certificate.objects.revoke_presented(device=device, presented=BETWEEN.pem, by="ann")
    assert ask(LEAF, BETWEEN, crossed) is Outcome.VERIFIED


@pytest.mark.parametrize("key_too", [False, True])
def test_a_revoked_stranger_beside_the_path_does_no_harm(device: Device, key_too: bool) -> None:
    stranger = authority("Stranger")
    Certificate.objects.revoke_presented(
        device=device, presented=stranger.pem, by="ann", key_too=key_too
    )
    assert ask(LEAF, BETWEEN, stranger) is Outcome.VERIFIED
    late = authority("Between", ROOT, ends=NOW - DAY)
    assert ask(LEAF, late, stranger) is Outcome.EXPIRED
