"""Lists print the ID `//h/a.b` as it is stored; commands took it for the address of `//h/a`.

`disable_device` and `delete_device` of what `list_devices` had printed were about another device.

The kind: CWE-706.
"""

from collections.abc import Callable

import pytest
from django.core.exceptions import ValidationError
from django.test import Client
from django.urls import reverse

from acl.api.questions import QuestionSerializer
from devices.models import Device
from tests.support.commands import answer, run

pytestmark = pytest.mark.django_db

MakeDevice = Callable[..., Device]
WRITTEN = {"//h/a.b": "//h/a%2Eb", "//h/a.b.c": "//h/a%2Eb%2Ec", "//h/a%2Eb": "//h/a%252Eb"}


@pytest.fixture
def devices(make_device: MakeDevice) -> dict[str, Device]:
    made = {identifier: make_device(address) for identifier, address in WRITTEN.items()}
    made["//h/a"] = make_device("//h/a")
    assert {device.identifier for device in made.values()} == set(made)
    return made


def test_what_a_list_prints_is_taken_by_every_command(devices: dict[str, Device]) -> None:
    for device in answer("list_devices")["devices"]:
        assert answer("show_device", device["identifier"])["identifier"] == device["identifier"]

    answer("disable_device", "//h/a.b")
    assert list(Device.objects.disabled().values_list("identifier", flat=True)) == ["//h/a.b"]

    answer("delete_device", "//h/a.b.c", "//h/a%2Eb")
    assert set(Device.objects.values_list("identifier", flat=True)) == {"//h/a", "//h/a.b"}


@pytest.mark.parametrize(
    ("address", "identifier"),
    [
        *((address, identifier) for identifier, address in list(WRITTEN.items())[1:]),
        *(("//h/a", "//h/a"), ("//h/a.ui", "//h/a"), ("//h/%61", "//h/a"), ("//h/%61.x", "//h/a")),
    ],
)
def test_addresses_name_what_they_named(
    devices: dict[str, Device], address: str, identifier: str
) -> None:
    assert Device.objects.at(address) == devices[identifier]


@pytest.mark.parametrize("address", ["//h/b", "//h/a.x.y", "//h/%ff", "a.b", "\x00"])
def test_what_names_nothing_is_refused(devices: dict[str, Device], address: str) -> None:
    with pytest.raises(ValidationError):
        Device.objects.at(address)
    assert "is registered" in run("show_device", address, code=1)[1]


def test_questions_of_staff_are_about_the_id_that_is_shown(
    devices: dict[str, Device], admin_client: Client
) -> None:
    page = admin_client.get(
        reverse("admin:acl_commandpermission_explain"),
        {"source": "//h/a.b", "destination": "//h/a.b.c", "command": "/v1/X"},
    )
    assert page.context["form"].cleaned_data["source"] == "//h/a.b"
    assert page.context["form"].cleaned_data["destination"] == "//h/a.b.c"


def test_questions_over_the_api_are_about_the_id_that_lists_give(
    devices: dict[str, Device],
) -> None:
    asked = {"source": "//h/a.b", "destination": "//h/a.ui", "command": "/v1/X"}
    question = QuestionSerializer(data=asked)
    assert question.is_valid()
    assert question.validated_data == {**asked, "destination": "//h/a"}
