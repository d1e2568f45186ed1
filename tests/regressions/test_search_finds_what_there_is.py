"""The search says how many there are, opens what is named whole, and knows all letters.

"10 hits." stood above a list of 500; SQLite compares letters of English only without case (Django
documents it for `icontains`), so that `öltank` did not find `Öltank`.

A public report of this kind: https://github.com/axllent/mailpit/issues/239.
"""

from collections.abc import Callable

import pytest
from django.db import connection
from django.test import Client

from devices.models import Device, DeviceGroup
from tests.support.staff import browser_of, staff

Factory = Callable[..., Device]
on_sqlite = pytest.mark.skipif(
    connection.vendor != "sqlite", reason="PostgreSQL compares as its database's locale says"
)


def test_the_number_of_hits_is_that_of_the_rows(admin_client: Client, make_device: Factory) -> None:
    for number in range(25):
        make_device(f"pump-{number:02}", name=f"pump {number}")
    make_device(name="pump of another id")
    page = admin_client.get("/admin/search/?q=pump").content.decode()
    assert "26 hits." in page
    assert "Devices (26)" in page


def test_more_than_are_counted_are_told_as_such(
    admin_client: Client, make_device: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("authsite.admin.search", "devices.admin.base.filters"):
        monkeypatch.setattr(f"{module}.MAX_COUNTED", 11)
    for number in range(13):
        make_device(f"pump-{number:02}")
    assert "At least 12 hits." in admin_client.get("/admin/search/?q=pump").content.decode()


@pytest.mark.parametrize("typed", ["0B9C2F6E-3A55-4A0C", " 0b9c2f6e-3a55-4a0c "])
def test_a_whole_identifier_opens_its_device(
    admin_client: Client, make_device: Factory, typed: str
) -> None:
    device = make_device("0b9c2f6e-3a55-4a0c")
    make_device("0b9c2f6e-3a55-4a0c-2")
    answer = admin_client.get("/admin/search/", {"q": typed})
    assert answer.headers["Location"] == f"/admin/devices/device/{device.pk}/change/"


def test_nobody_learns_of_a_device_that_he_may_not_see(make_device: Factory) -> None:
    make_device("0b9c2f6e-3a55-4a0c")
    assert browser_of(staff()).get("/admin/search/?q=0b9c2f6e-3a55-4a0c").status_code == 200


@on_sqlite
@pytest.mark.parametrize(
    ("name", "typed"),
    [
        ("Öltank", "öltank"),
        ("öltank süd", "ÖLTANK SÜD"),
        ("O\u0308ltank", "öltank"),  # decomposed, as macOS writes names of files
        ("ΑΘΗΝΑ", "αθηνα"),
        ("Straße", "STRAßE"),
    ],
)
def test_letters_of_every_language_are_found_without_case(
    admin_client: Client, make_device: Factory, name: str, typed: str
) -> None:
    make_device("a-device", name=name)
    DeviceGroup.objects.create(name=name)
    found = admin_client.get("/admin/search/", {"q": typed}).context["found"]
    assert {kind.title for kind in found if kind.hits} == {"Devices", "Device groups"}
    listed = admin_client.get("/admin/devices/device/", {"q": typed})
    assert listed.context["cl"].result_count == 1
