"""Attributes typed wrongly come back as typed; those that were saved wrongly are shown escaped.

`{"x": NaN}` and a number of 5,000 digits ended the form on an error page, and what was typed was
lost. Rows with half of a surrogate pair, from before those were refused, broke pages and exports.

A public report of this kind: https://github.com/encode/django-rest-framework/issues/6895.
"""

import io
import json
from collections.abc import Callable
from typing import Any

import openpyxl
import pytest
from django.test import Client

from devices.models import Device
from devices.transfer.exporting import export_devices
from devices.transfer.formats import Format
from tests.regressions.test_attributes import TEXTS
from tests.support.forms import inputs

pytestmark = pytest.mark.once(on="sqlite")

Factory = Callable[..., Device]


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_what_was_typed_wrongly_is_kept(
    text: str, admin_client: Client, make_device: Factory
) -> None:
    device = make_device(attributes={"before": 1})
    for address in (
        "/admin/devices/device/add/",
        f"/admin/devices/device/{device.pk}/change/?edit=1",
    ):
        sent = inputs(admin_client.get(address)) | {"name": "kept", "attributes": text}
        answer = admin_client.post(address, {"identifier": "lamp", "kind": "device"} | sent)
        assert answer.status_code == 200
        assert answer.context["adminform"].form.errors["attributes"]
        shown = inputs(answer)
        assert (shown["name"], shown["attributes"]) == ("kept", text)
    device.refresh_from_db()
    assert device.attributes == {"before": 1}


def test_half_a_pair_that_was_saved_is_shown_and_exported(
    admin_client: Client, make_device: Factory
) -> None:
    device = make_device("lamp")
    device.attributes = {"x": "\ud800", "y": "ß"}
    device.save()
    assert device.pk
    for page in (
        f"/admin/devices/device/{device.pk}/change/?edit=1",
        f"/admin/devices/device/{device.pk}/history/",
        "/admin/history/",
        "/admin/devices/device/",
    ):
        assert admin_client.get(page).status_code == 200
    page_of = admin_client.get(f"/admin/devices/device/{device.pk}/change/?edit=1")
    assert json.loads(inputs(page_of)["attributes"]) == {"x": "\ud800", "y": "ß"}
    for kind in Format:
        with export_devices(Device.objects.all(), kind).file as file:
            content = file.read()
        if kind == Format.XLSX:
            sheet: Any = openpyxl.load_workbook(io.BytesIO(content)).active
            content = str([cell.value for cell in sheet[2]]).encode()
        assert rb"\ud800" in content.replace(rb"\\", b"\\")


def test_a_form_says_once_what_is_wrong_with_old_attributes(
    admin_client: Client, make_device: Factory
) -> None:
    device = make_device()
    address = f"/admin/devices/device/{device.pk}/change/?edit=1"
    sent = inputs(admin_client.get(address)) | {"attributes": '{"x": NaN}'}
    errors = admin_client.post(address, sent).context["adminform"].form.errors["attributes"]
    assert errors == ["Attributes hold a number that is not finite or too large."]
