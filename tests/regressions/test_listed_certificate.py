"""A certificate on a loaded revocation list was refused, and shown as usable on five pages.

A public report of this kind: https://github.com/operacle/checkcle/issues/167.
"""

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from devices.authentication import authenticate
from devices.models import Certificate, CertificateAuthority, CredentialState, Device
from devices.models.credentials.certificate import Pin
from devices.models.credentials.state import (
    credential_state,
    has_credential,
    has_usable_credential,
    lacks_credential,
    next_expiry,
)
from devices.verdicts import Outcome
from tests.support.commands import run
from tests.support.pki import DAY, NOW, Party, authority, device_certificate, key, revocation_list

pytestmark = pytest.mark.django_db

ROOT = authority("Root")


def anchor() -> CertificateAuthority:
    return CertificateAuthority.objects.register(presented=ROOT.pem, name="Root")


def pinned(device: Device, party: Party, pin: str = Pin.CERTIFICATE) -> Certificate:
    return Certificate.objects.register(device=device, presented=party.pem, pin=pin)


@pytest.fixture(params=["anchor first", "certificate first"])
def listed(request: pytest.FixtureRequest, make_device: Callable[..., Device]) -> Certificate:
    party, device = device_certificate("lamp", ROOT), make_device("lamp")
    if request.param == "anchor first":
        root, row = anchor(), pinned(device, party)
    else:
        row, root = pinned(device, party), anchor()
    assert row.state_at(NOW) is Outcome.VERIFIED
    root.load_list(revocation_list(ROOT, party), by="ann", now=NOW)
    return Certificate.objects.get()


def test_states_and_counts_know_of_the_list(listed: Certificate) -> None:
    now = timezone.now()
    assert listed.state_at(now) is Outcome.REVOKED_BY_CRL
    assert Certificate.objects.with_list_state().get().state_at(now) is Outcome.REVOKED_BY_CRL
    rows = Certificate.objects.all()
    for none in (rows.usable_at(now), rows.live_at(now), rows.unrevoked(), rows.expired_at(now)):
        assert not none.exists()
    assert rows.revoked().get() == listed
    devices = Device.objects.annotate(state=credential_state(now), ends=next_expiry(now))
    assert devices.values_list("state", "ends").get() == (CredentialState.NONE, None)
    later = now + timedelta(days=10_000)
    assert not devices.filter(has_usable_credential(now)).exists()
    assert not devices.filter(has_credential("ending_before", later, now=now)).exists()
    assert devices.filter(lacks_credential("usable_at", now)).exists()
    assert devices.filter(lacks_credential("unrevoked")).exists()
    assert Device.objects.for_export().get().live_certificates == 0  # type: ignore[attr-defined]


def test_expiring_leaves_listed_certificates_out(listed: Certificate) -> None:
    assert "lamp" not in run("expiring", "--within", "20000d")[0]


@pytest.mark.once(on="sqlite")
@pytest.mark.parametrize(
    "address",
    [
        "admin:devices_certificate_changelist",
        "admin:devices_certificate_change",
        "admin:devices_device_change",
        "admin:devices_device_changelist",
    ],
)
def test_no_page_calls_a_listed_certificate_usable(
    admin_client: Client, listed: Certificate, address: str
) -> None:
    row = listed if "certificate" in address else listed.device
    args = [row.pk] if row and address.endswith("_change") else []
    page = admin_client.get(reverse(address, args=args)).content.decode()
    assert "lamp" in page
    assert '<span class="badge badge-good">usable</span>' not in page
    assert "badge-bad" in page


@pytest.mark.parametrize("choice", ["live", "expiring", "expired"])
def test_filters_find_a_listed_certificate_among_the_revoked(
    admin_client: Client, listed: Certificate, choice: str
) -> None:
    page = reverse("admin:devices_certificate_changelist")
    assert not admin_client.get(page, {"state": choice}).context["cl"].result_count
    assert admin_client.get(page, {"state": "revoked"}).context["cl"].result_count == 1


@pytest.mark.once(on="sqlite")
@pytest.mark.parametrize("pin", Pin)
@pytest.mark.parametrize("revoked", ["by nobody", "by staff", "by a list", "by a namesake"])
def test_the_page_says_what_the_verdict_says(
    make_device: Callable[..., Device], pin: Pin, revoked: str
) -> None:
    party, root, namesake = (
        device_certificate("lamp", ROOT),
        anchor(),
        authority("Root", private_key=key("another")),
    )
    row = pinned(make_device("lamp"), party, pin)
    if revoked == "by staff":
        row.revoke(by="ann")
    if revoked == "by a list":
        root.load_list(revocation_list(ROOT, party), by="ann", now=NOW)
    if revoked == "by a namesake":
        other = CertificateAuthority.objects.register(presented=namesake.pem, name="Namesake")
        other.load_list(revocation_list(namesake, party), by="ann", now=NOW)
    shown = Certificate.objects.get().state_at(NOW)
    assert authenticate("lamp", certificate=party.pem, now=NOW, record=False).outcome is shown
    usable = Certificate.objects.usable_at(NOW).exists()
    assert usable is (shown is Outcome.VERIFIED) is (revoked in {"by nobody", "by a namesake"})


def test_an_expired_entry_stays_where_its_key_is_pinned(
    make_device: Callable[..., Device],
) -> None:
    party = device_certificate("lamp", ROOT, ends=NOW - 2 * DAY)
    root, row = anchor(), pinned(make_device("lamp"), party, Pin.PUBLIC_KEY)
    for serials in ([party], []):  # an authority leaves out what has expired
        root.load_list(revocation_list(ROOT, *serials), by="ann", now=NOW)
    assert Certificate.objects.get(pk=row.pk).state_at(NOW) is Outcome.REVOKED_BY_CRL
