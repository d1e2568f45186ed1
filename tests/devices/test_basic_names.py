"""Backends that HTTP Basic cannot name are told from others where they are registered."""

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from devices.models import Device
from tests.support.commands import run
from tests.support.forms import inputs

pytestmark = [pytest.mark.django_db, pytest.mark.once(on="sqlite")]

WARNING = "a name ends at its first colon"


@pytest.mark.parametrize(
    ("identifier", "kind", "is_warned"),
    [
        ("rtio:one", "backend", True),
        ("rtio-one", "backend", False),
        ("//rtio.example:8443/one", "backend", False),
        ("lamp:one", "device", False),
    ],
)
def test_who_registers_one_is_warned(
    admin_client: Client, identifier: str, kind: str, is_warned: bool
) -> None:
    complaint = run("add_device", identifier, "--kind", kind)[1]
    assert (WARNING in complaint) == is_warned
    Device.objects.all().delete()

    address = reverse("admin:devices_device_add")
    form = inputs(admin_client.get(address)) | {"identifier": identifier, "kind": kind}
    page = admin_client.post(address, form, follow=True)
    assert (WARNING in page.content.decode()) == is_warned
    assert Device.objects.get().identifier == identifier


def test_who_makes_a_device_one_is_warned(
    admin_client: Client, make_device: Callable[..., Device]
) -> None:
    address = reverse("admin:devices_device_change", args=[make_device("rtio:one").pk])
    form: dict[str, Any] = inputs(admin_client.get(address))
    told = [
        WARNING in admin_client.post(address, form | given, follow=True).content.decode()
        for given in ({"name": "one"}, {"kind": "backend"})
    ]
    assert told == [False, True]
