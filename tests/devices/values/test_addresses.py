"""Addresses and the IDs within them."""

import pytest
from django.core.exceptions import ValidationError

from devices.models import Device
from devices.values.addresses import AddressError, entity_id, is_storable, split, written


@pytest.mark.parametrize(
    ("address", "identifier", "component"),
    [
        ("//api.cesanta.com/cloud", "//api.cesanta.com/cloud", None),
        ("//api.cesanta.com/cloud.dispatcher", "//api.cesanta.com/cloud", "dispatcher"),
        ("//api.cesanta.com", "//api.cesanta.com", None),
        ("//api.cesanta.com/", "//api.cesanta.com/", None),
        ("//api.cesanta.com/a.b/c.d", "//api.cesanta.com/a.b/c", "d"),
        ("//h/site/building", "//h/site/building", None),
        ("//h/dev%2E1.ui", "//h/dev.1", "ui"),
        ("//h/dev%2e1", "//h/dev.1", None),
        ("//h/caf%C3%A9", "//h/café", None),
        ("//h/50%25", "//h/50%", None),
        ("//h/a%2Fb.c", "//h/a/b", "c"),
        ("device_123", "device_123", None),
        ("device.with.dots%2E", "device.with.dots%2E", None),
        ("/single/slash.x", "/single/slash.x", None),
        ("", "", None),
    ],
)
def test_an_address_is_an_id_and_perhaps_a_component(
    address: str, identifier: str, component: str | None
) -> None:
    assert split(address) == (identifier, component)
    assert entity_id(address) == identifier


@pytest.mark.parametrize(
    ("identifier", "address"),
    [
        ("//h/dev.1", "//h/dev%2E1"),
        ("//h/a.b/c.d.e", "//h/a.b/c%2Ed%2Ee"),
        ("//h/50%2E", "//h/50%252E"),
        ("//api.cesanta.com", "//api.cesanta.com"),
        ("device.with.dots%2E", "device.with.dots%2E"),
    ],
)
def test_an_id_is_written_so_that_it_is_read_again(identifier: str, address: str) -> None:
    assert written(identifier) == address
    assert split(address) == (identifier, None)


@pytest.mark.parametrize("address", ["//h/a.b.c", "//h/x/a..b", "//h/%FF", "//h/%C3.ui"])
def test_what_is_no_address_names_nothing(address: str) -> None:
    with pytest.raises(AddressError):
        entity_id(address)


@pytest.mark.parametrize(
    ("text", "storable"),
    [
        ("x" * 255, True),
        ("x" * 256, False),
        ("nul\x00", False),
        ("\ud800", False),
        ("half \udfff", False),
        ("é" * 255, True),
        ("😀", True),
    ],
)
def test_what_no_database_can_hold_is_known_beforehand(text: str, storable: bool) -> None:
    assert is_storable(text) is storable


def test_registering_an_address_with_a_component_names_the_id_to_use(db: None) -> None:
    device = Device(identifier="//api.cesanta.com/cloud.dispatcher")
    with pytest.raises(ValidationError, match=r"use //api\.cesanta\.com/cloud\.") as caught:
        device.full_clean()
    assert list(caught.value.message_dict) == ["identifier"]


@pytest.mark.parametrize("identifier", ["a b", "a\tb", "nul\x00", "//h/a.b.c", "", "\ud800"])
def test_what_cannot_be_an_identifier_is_refused_at_the_field(db: None, identifier: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Device(identifier=identifier).full_clean()
    assert "identifier" in caught.value.message_dict


def test_an_escaped_dot_is_part_of_the_id_and_stays_so_when_edited(db: None) -> None:
    device = Device(identifier="//h/dev%2E1")
    device.full_clean()
    device.save()
    assert device.identifier == "//h/dev.1"
    device.name = "edited"
    device.full_clean()
    assert device.identifier == "//h/dev.1"
