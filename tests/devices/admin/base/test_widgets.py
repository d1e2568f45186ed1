"""Fields that suggest rows take whole names as well, which is the way where no script runs."""

import re
from typing import Any

import pytest
from django.test import Client

from acl.models import CommandPermission
from devices.models import Device, DeviceGroup

pytestmark = pytest.mark.once(on="sqlite")

RULE = {
    "effect": "allow",
    "source_kind": "device",
    "destination_kind": "group",
    "pattern": "/v1/Config.Get",
}


@pytest.fixture(autouse=True)
def _rows(make_device: Any) -> None:
    make_device("lamp-1")
    make_device("lamp-2")
    DeviceGroup.objects.create(name="Berlin, north")
    DeviceGroup.objects.create(name="Shenzhen")


def test_a_rule_names_its_ends(admin_client: Client) -> None:
    sent = {**RULE, "source_device-typed": " lamp-1 ", "destination_group-typed": "Berlin, north"}
    admin_client.post("/admin/acl/commandpermission/add/", sent)
    rule = CommandPermission.objects.get()
    assert str(rule.source_device) == "lamp-1"
    assert str(rule.destination_group) == "Berlin, north"


@pytest.mark.parametrize("typed", ["lamp", "<b>", "7", "\x00", "x" * 500])
def test_what_names_no_row_is_refused_and_stays(admin_client: Client, typed: str) -> None:
    sent = {**RULE, "source_device-typed": typed, "destination_group-typed": "Shenzhen"}
    page = admin_client.post("/admin/acl/commandpermission/add/", sent)
    assert page.status_code == 200
    assert page.context["adminform"].form.errors.keys() == {"source_device"}
    assert not CommandPermission.objects.exists()


def test_devices_join_a_group_by_their_identifiers(admin_client: Client) -> None:
    group = DeviceGroup.objects.get(name="Shenzhen")
    sent = {"devices-typed": "lamp-1\r\n\r\nlamp-2\r\n"}
    admin_client.post(f"/admin/devices/devicegroup/{group.pk}/members/", sent)
    assert {str(device) for device in group.devices.all()} == {"lamp-1", "lamp-2"}


def test_a_device_that_cannot_join_a_group_is_named(admin_client: Client) -> None:
    address = "/admin/devices/devicegroup/{}/members/"
    address = address.format(DeviceGroup.objects.get(name="Shenzhen").pk)
    page = admin_client.post(address, {"devices-typed": "lamp-1\r\nlmap-2\r\nx"}).content.decode()
    for wrong in ("lmap-2", "x"):
        assert f"No device has the identifier “{wrong}”." in page
    assert ">lmap-2\nx</textarea>" in page
    assert re.search("<option[^>]* selected[^>]*>lamp-1", page)  # the line that was right
    assert "Choose the devices" in admin_client.post(address, {}).content.decode()


def test_a_device_keeps_its_groups_beside_those_that_are_typed(admin_client: Client) -> None:
    device = Device.objects.get(identifier="lamp-1")
    berlin = DeviceGroup.objects.get(name="Berlin, north")
    sent = {
        "identifier": "lamp-1",
        "kind": "device",
        "attributes": "{}",
        "groups": [berlin.pk],
        "groups-typed": "Shenzhen",
    }
    answer = admin_client.post(f"/admin/devices/device/{device.pk}/change/?edit=1", sent)
    assert answer.status_code == 302, answer.context["errors"]
    assert device.groups.count() == 2


def test_only_a_page_without_scripts_shows_the_second_field(admin_client: Client) -> None:
    page = admin_client.get("/admin/acl/commandpermission/add/").content.decode()
    assert page.count("<noscript><label") == 5
    assert "the whole identifier:" in page
    assert "the whole name:" in page
