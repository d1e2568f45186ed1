"""Trying credentials in the admin: the verdict, and what it leaves behind."""

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.cache import cache
from django.test import Client

from devices import history, trying
from devices.authentication import authenticate
from devices.database import last_used
from devices.models import Certificate, Device, PreSharedKey
from tests.support.pki import device_certificate
from tests.support.staff import browser_of, staff

pytestmark = pytest.mark.once(on="sqlite")

TRY = "/admin/devices/device/try-credential/"
CHOSEN = "a-chosen-secret-99"


@pytest.fixture
def lamp(make_device: Any) -> Device:
    device: Device = make_device("lamp")
    return device


def tries_of(device: Device) -> list[str]:
    rows = history.history_of(Device).objects.filter(id=device.pk).order_by("history_id")
    return [row.history_change_reason for row in rows if row.history_change_reason]


def test_a_right_secret_is_admitted_without_evidence(admin_client: Client, lamp: Device) -> None:
    key, secret = PreSharedKey.objects.issue(device=lamp, label="factory")
    response = admin_client.post(TRY, {"device": "lamp", "secret": secret})
    page = response.content.decode()
    assert "<strong>Admitted</strong>" in page
    assert f'<a href="/admin/devices/presharedkey/{key.pk}/change/">' in page
    assert secret not in page
    assert "no-store" in response["Cache-Control"]
    assert tries_of(lamp) == ["tried secret: verified"]
    last_used.worker.flush()
    lamp.refresh_from_db()
    assert lamp.last_seen is None


def test_a_wrong_secret_is_refused_and_recorded_without_it(
    admin_client: Client, lamp: Device
) -> None:
    PreSharedKey.objects.issue(device=lamp)
    page = admin_client.post(TRY, {"device": "lamp", "secret": "wrong-and-recognisable"})
    assert "<strong>Refused</strong>" in page.content.decode()
    assert "the secret is wrong" in page.content.decode()
    assert "wrong-and-recognisable" not in page.content.decode()
    change = history.history_of(Device).objects.latest("history_id")
    assert (change.history_user_id, change.origin) == ("admin", "admin")
    assert change.history_change_reason == "tried secret: wrong-secret"


def test_a_mistake_in_the_form_gives_nothing_back(admin_client: Client, lamp: Device) -> None:
    sent = {"device": "lam", "secret": "typed-secret", "certificate": "-----BEGIN PRIVATE KEY-----"}
    page = admin_client.post(TRY, sent).content.decode()
    assert "No device “lam” is registered." in page
    assert "typed-secret" not in page
    assert "BEGIN PRIVATE KEY" not in page
    page = admin_client.post(TRY, {"device": "lamp"}).content.decode()
    assert "Fill in a secret, a certificate, or both." in page
    assert tries_of(lamp) == []


def test_an_address_with_the_link_fills_in_the_device_and_tries_nothing(
    admin_client: Client, lamp: Device
) -> None:
    page = admin_client.get(TRY, {"device": "lamp", "secret": "x"}).content.decode()
    assert 'value="lamp"' in page
    assert "verdict" not in page
    assert tries_of(lamp) == []
    device = admin_client.get(f"/admin/devices/device/{lamp.pk}/change/").content.decode()
    assert f'href="{TRY}?device=lamp"' in device


def test_tries_are_bounded_for_each_member_of_staff_and_never_count_against_the_device(
    admin_client: Client, lamp: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    PreSharedKey.objects.register(device=lamp, secret=CHOSEN)
    monkeypatch.setattr(trying, "MAX_FAILURES", 7)
    outcomes = [
        admin_client.post(TRY, {"device": "lamp", "secret": f"wrong-{number}"}).content.decode()
        for number in range(8)
    ]
    assert ["Refused" in page for page in outcomes] == [True] * 7 + [False]
    assert "Too many of your tries have failed" in outcomes[7]
    assert len(tries_of(lamp)) == 7
    assert authenticate("lamp", secret=CHOSEN).verified
    other = browser_of(User.objects.create_superuser("other"))
    assert "Admitted" in other.post(TRY, {"device": "lamp", "secret": CHOSEN}).content.decode()


def test_right_secrets_may_be_tried_any_number_of_times(
    admin_client: Client, lamp: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    _key, secret = PreSharedKey.objects.issue(device=lamp)
    monkeypatch.setattr(trying, "MAX_FAILURES", 1)
    for _number in range(3):
        page = admin_client.post(TRY, {"device": "lamp", "secret": secret}).content.decode()
        assert "Admitted" in page


def test_nothing_is_tried_while_failures_cannot_be_counted(
    admin_client: Client, lamp: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_args: Any, **_kwargs: Any) -> bool:
        raise OSError

    monkeypatch.setattr(cache, "add", fail)
    page = admin_client.post(TRY, {"device": "lamp", "secret": "x" * 20}).content.decode()
    assert "Too many of your tries have failed" in page


def test_a_certificate_is_tried(admin_client: Client, lamp: Device) -> None:
    pem = device_certificate("lamp").pem
    certificate = Certificate.objects.register(device=lamp, presented=pem)
    page = admin_client.post(TRY, {"device": "lamp", "certificate": pem}).content.decode()
    assert "<strong>Admitted</strong>" in page
    assert f'<a href="/admin/devices/certificate/{certificate.pk}/change/">' in page
    assert "BEGIN CERTIFICATE" not in page
    assert tries_of(lamp)[-1] == "tried certificate: verified"


@pytest.mark.parametrize(
    ("permissions", "status"),
    [(["view_device", "view_presharedkey"], 403), (["view_device", "try_credential"], 200)],
)
def test_only_those_who_may_try(permissions: list[str], status: int, lamp: Device) -> None:
    client = browser_of(staff(*permissions))
    assert client.get(TRY).status_code == status
    shown = client.get(f"/admin/devices/device/{lamp.pk}/change/").content.decode()
    assert (TRY in shown) == (status == 200)


def test_suggestions_are_identifiers_for_those_who_may_see_devices(
    admin_client: Client, make_device: Any
) -> None:
    for number in range(30):
        make_device(f"lamp-{number:02}")
    address = "/admin/devices/device/suggestions/"
    found = admin_client.get(address, {"q": "lamp-0"}).json()["found"]
    assert found == [f"lamp-0{number}" for number in range(10)]
    assert len(admin_client.get(address, {"q": "lamp"}).json()["found"]) == 20
    assert admin_client.get(address).json() == {"found": []}
    assert browser_of(staff()).get(address).status_code == 403
