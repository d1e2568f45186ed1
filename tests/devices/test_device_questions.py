"""Which devices are silent or short of credentials: what lists and pages ask."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from devices.models import Certificate, Device, PreSharedKey
from devices.models.credentials.state import (
    has_credential,
    has_expired_credentials_only,
    has_usable_credential,
    lacks_credential,
)
from tests.support import pki

Factory = Callable[..., Device]
DAY = timedelta(days=1)
NOW = timezone.now()


def key_of(device: Device, **fields: Any) -> PreSharedKey:
    return PreSharedKey.objects.issue(device=device, **fields)[0]


def certificate_of(device: Device, pin: str = "certificate", **dates: Any) -> Certificate:
    certificate = pki.issue(device.identifier)
    row = Certificate.objects.register(device=device, presented=certificate.pem, pin=pin)
    Certificate.objects.filter(pk=row.pk).update(**dates)
    return row


@pytest.fixture
def _fleet(make_device: Factory) -> None:
    """Devices named for what they hold."""
    make_device("nothing")
    key_of(make_device("endless"))
    key_of(make_device("ending"), not_after=NOW + 9 * DAY)
    key_of(make_device("later"), not_before=NOW + DAY)
    key_of(make_device("expired"), not_after=NOW - DAY)
    key_of(make_device("revoked")).revoke(by="ops")
    pepperless = key_of(make_device("pepperless"))
    PreSharedKey.objects.filter(pk=pepperless.pk).update(pepper="lost")
    rotated = make_device("rotated")
    key_of(rotated, not_after=NOW - DAY)
    key_of(rotated)
    certificate_of(make_device("pinned"), not_after=NOW + 99 * DAY)
    certificate_of(make_device("pin-ending"), not_after=NOW + 9 * DAY)
    certificate_of(make_device("pin-expired"), not_after=NOW - DAY)
    certificate_of(make_device("pin-later"), not_before=NOW + DAY, not_after=NOW + 99 * DAY)
    certificate_of(make_device("public-key"), pin="public-key", not_after=NOW - DAY)


USABLE = {"endless", "ending", "rotated", "pinned", "pin-ending", "public-key"}


@pytest.mark.usefixtures("_fleet")
@pytest.mark.parametrize(
    ("devices", "expected"),
    [
        (Device.objects.filter(has_usable_credential(NOW)), USABLE),
        (
            Device.objects.filter(lacks_credential("usable_at", NOW)),
            {"nothing", "later", "expired", "revoked", "pepperless", "pin-expired", "pin-later"},
        ),
        (Device.objects.filter(lacks_credential("unrevoked")), {"nothing", "revoked"}),
        (Device.objects.filter(has_expired_credentials_only(NOW)), {"expired", "pin-expired"}),
        (
            Device.objects.filter(has_credential("ending_before", NOW + 30 * DAY, now=NOW)),
            {"ending", "pin-ending"},
        ),
    ],
    ids=["usable", "none usable", "none", "expired only", "ending"],
)
def test_devices_are_told_apart_by_their_credentials(devices: Any, expected: set[str]) -> None:
    assert set(devices.values_list("identifier", flat=True)) == expected


@pytest.mark.usefixtures("_fleet")
def test_the_questions_say_what_a_check_would() -> None:
    usable = {
        device.identifier
        for device in Device.objects.all()
        if any(
            credential.state_at(NOW) == "verified"
            for credential in (*device.keys.all(), *device.certificates.all())
        )
    }
    assert usable == USABLE
