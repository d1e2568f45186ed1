"""An import writes over nothing that it has not seen.

A credential that was revoked between the preview and the import came back, and a device that was
disabled meanwhile could be enabled again, where the numbers of the preview happened to agree.

The kind: CWE-367.
"""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.test import Client
from django.utils import timezone

from devices.models import Certificate, Device, PreSharedKey
from devices.transfer.columns import columns_of
from devices.transfer.formats import Format
from devices.transfer.importing import Import
from devices.transfer.rows import Options
from devices.transfer.tables import read
from tests.devices.admin.test_import_export import sent, token
from tests.support import pki

Factory = Callable[..., Device]
PAGE = "/admin/devices/device/import/"


def prepared(content: str, **options: bool) -> Import:
    run = Import(read(content.encode(), Format.CSV, columns_of), Options(**options))
    run.check()
    assert run.is_sound
    run.prepare()
    return run


CHANGES: dict[str, Callable[[Device], object]] = {
    "disabled": lambda device: Device.objects.filter(pk=device.pk).update(enabled=False),
    "renamed": lambda device: Device.objects.filter(pk=device.pk).update(name="theirs"),
    "deleted": lambda device: device.delete(),
    "moved": lambda device: device.groups.clear(),
    "key revoked": lambda device: device.keys.get().revoke(by="kim"),
    "key ended": lambda device: device.keys.update(not_after=timezone.now() + timedelta(days=1)),
    "key issued": lambda device: PreSharedKey.objects.issue(device=device),
    "certificate revoked": lambda device: device.certificates.get().revoke(by="kim"),
    "pinned otherwise": lambda device: device.certificates.update(pin="public-key"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_changed_since_the_check_is_not_written_over(
    change: str, make_device: Factory, make_group: Any
) -> None:
    device = make_device("lamp", groups=[make_group("yard")])
    PreSharedKey.objects.register(device=device, secret="a chosen secret 1")
    pem = pki.issue("lamp").pem
    Certificate.objects.register(device=device, presented=pem)
    quoted = '"' + pem.replace('"', '""') + '"'
    run = prepared(
        "identifier,name,groups,enabled,secret,certificate\n"
        f"lamp,mine,yard,true,another chosen one,{quoted}\nbell,,,,,\n"
    )
    CHANGES[change](device)
    with pytest.raises(ValidationError, match="rows 2"):
        run.write()
    assert not Device.objects.filter(identifier="bell").exists()
    assert not Device.objects.filter(name="mine").exists()


def test_of_many_changed_rows_the_first_are_named(make_device: Factory) -> None:
    names = [make_device().identifier for _ in range(11)]
    run = prepared("identifier,name\n" + "".join(f"{name},mine\n" for name in names))
    Device.objects.update(name="theirs")
    with pytest.raises(ValidationError, match=r"rows 2, .*, 11, …\."):
        run.write()


def test_a_preview_of_the_same_numbers_is_void(admin_client: Client, make_device: Factory) -> None:
    one, two = make_device("one", name="new"), make_device("two", name="old")
    content = "identifier,name\none,new\ntwo,new\n"
    confirmed = token(sent(admin_client, PAGE, content))
    Device.objects.filter(pk=one.pk).update(name="old")
    Device.objects.filter(pk=two.pk).update(name="new")
    answer = sent(admin_client, PAGE, content, confirmed=confirmed)
    assert "changed since the preview" in answer.content.decode()
    one.refresh_from_db()
    assert one.name == "old"
