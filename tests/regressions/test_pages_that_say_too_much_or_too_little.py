"""Pages offer what their reader may do, say it once, and say at a field what is wrong with it.

Looked at as each role, the admin had menus without an entry, a start page without a word, choices
that are refused, and errors above a form that were about one field of it.

The kind: CWE-446.
"""

from typing import Any

import pytest
from django.test import Client

from devices.models import Device, DeviceGroup, PreSharedKey
from tests.support.staff import browser_of, staff

pytestmark = [pytest.mark.django_db, pytest.mark.once(on="sqlite")]

DEVICES = "/admin/devices/device/"


@pytest.mark.parametrize(("role", "expected"), [("", False), ("Viewer", True)])
def test_a_device_has_no_menu_without_an_entry(make_device: Any, role: str, expected: bool) -> None:
    client = browser_of(staff("view_device", role=role))
    page = client.get(f"{DEVICES}{make_device().pk}/change/").content.decode()
    assert ('<details class="menu"><summary class="button">More</summary>' in page) is expected


def test_the_start_page_says_why_it_is_empty(make_device: Any) -> None:
    make_device()
    client = browser_of(staff())
    for _time in range(2):  # the second time figures are kept, of which it shows none
        page = client.get("/admin/").content.decode()
        assert "Nothing on this page is for your account." in page
        assert "Figures that take long" not in page


@pytest.mark.parametrize(("role", "expected"), [("Operator", False), ("", True)])
def test_an_import_offers_secrets_to_whoever_may_issue_them(role: str, expected: bool) -> None:
    held = ("add_device", "change_device", "view_device", "add_presharedkey")
    client = browser_of(staff(role=role)) if role else browser_of(staff(*held))
    for page in (client.get(f"{DEVICES}import/"), client.post(f"{DEVICES}import/")):
        assert ('name="generate"' in page.content.decode()) is expected
    assert "Choose the file to import." in page.content.decode()


@pytest.mark.parametrize(
    ("address", "sent", "field"),
    [
        (DEVICES, {"identifier": "taken", "kind": "device"}, "identifier"),
        ("/admin/devices/devicegroup/", {"name": "taken"}, "name"),
    ],
)
def test_a_value_that_is_taken_is_told_at_its_field(
    admin_client: Client, make_device: Any, address: str, sent: dict[str, str], field: str
) -> None:
    make_device(identifier="taken")
    DeviceGroup.objects.create(name="taken")
    page = admin_client.post(f"{address}add/", sent)
    form = page.context["adminform"].form
    assert list(form.errors) == [field]
    assert "exists" in form.errors[field][0]


def test_what_may_not_be_deleted_can_be_disabled_instead(make_device: Any) -> None:
    device: Device = make_device()
    PreSharedKey.objects.issue(device=device)
    page = browser_of(staff(role="Operator")).get(f"{DEVICES}{device.pk}/delete/").content.decode()
    assert "Your account may not delete what would go with it: keys." in page
    assert f'href="{DEVICES}{device.pk}/disable/"' in page


def test_how_many_were_selected_is_said_where_it_is_another_number(
    admin_client: Client, make_device: Any
) -> None:
    on, off = make_device(), make_device(enabled=False)
    chosen = {"action": "disable", "_selected_action": [on.pk]}
    assert "selected." not in admin_client.post(DEVICES, chosen).content.decode()
    chosen["_selected_action"] = [on.pk, off.pk]
    assert "2 were selected." in admin_client.post(DEVICES, chosen).content.decode()
