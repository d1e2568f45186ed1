"""A group's name turned a rule's sentence round; an identifier was a letter that nobody sees.

The kind is that of "Trojan Source" (CVE-2021-42574) and of the "invisible backdoor", a variable
that is named U+3164.
"""

from collections.abc import Callable

import pytest
from django.core.exceptions import ValidationError
from django.test import Client

from acl.models import CommandSet
from devices.models import CertificateAuthority, Device, DeviceGroup, PreSharedKey
from tests.support.commands import run
from tests.support.forms import inputs
from tests.support.pki import authority

pytestmark = [pytest.mark.django_db, pytest.mark.once(on="sqlite")]

HIDDEN = {
    "bidi override": "a\u202eb",
    "bidi isolate": "a\u2066b",
    "mark": "\u200fa",
    "zero width space": "a\u200bb",
    "joiner alone": "\u200d",
    "Hangul filler": "\u3164",
    "blank Braille": "\u2800",
    "tag": "a\U000e0041",
    "variation": "a\ufe00",
    "soft hyphen": "a\xadb",
    "line": "a\nb",
    "NUL": "a\x00",
    "surrogate": "a\ud800",
}
SEEN = ["Lampe im Büro", "灯", "می\u200cخواهم", "👩\u200d🔧 ❤\ufe0f", "שלום", "cafe\u0301", ""]  # noqa: RUF001


@pytest.mark.parametrize("text", HIDDEN.values(), ids=HIDDEN)
def test_what_nobody_sees_is_no_name(make_device: Callable[..., Device], text: str) -> None:
    key = PreSharedKey.objects.issue(device=make_device())[0]
    key.label = text
    rows = [
        Device(identifier="lamp", name=text),
        DeviceGroup(name=text),
        CommandSet(name=text),
        CertificateAuthority.objects.prepare(presented=authority("Root").pem, name=text),
        key,
    ]
    for row in rows:
        with pytest.raises(ValidationError) as refusal:
            row.full_clean()
        assert set(refusal.value.message_dict) == {"label" if row is key else "name"}


@pytest.mark.parametrize("text", ["a\u202eb\x00", "a\u202eb\ud800"])
def test_row_is_not_asked_for_a_text_that_no_database_takes(
    make_device: Callable[..., Device], text: str
) -> None:
    device = make_device()
    device.name = text
    with pytest.raises(ValidationError, match="U\\+202E"):
        device.full_clean()


@pytest.mark.parametrize("text", SEEN)
def test_names_in_every_script_are_taken(make_device: Callable[..., Device], text: str) -> None:
    assert make_device(name=text).name == text


@pytest.mark.parametrize("text", HIDDEN.values(), ids=HIDDEN)
def test_what_nobody_sees_is_no_identifier(text: str) -> None:
    with pytest.raises(ValidationError) as refusal:
        Device(identifier=text).full_clean()
    assert set(refusal.value.message_dict) == {"identifier"}


def test_rows_from_before_stay_as_they_are(make_device: Callable[..., Device]) -> None:
    device = make_device()
    Device.objects.filter(pk=device.pk).update(identifier="\u3164", name="a\u202eb")
    device.refresh_from_db()
    device.description = "changed"
    device.full_clean()
    device.name = "b\u202ea"
    with pytest.raises(ValidationError):
        device.full_clean()


def test_a_description_holds_lines_and_no_nul() -> None:
    Device(identifier="lamp", description="two\nlines").full_clean()
    for text in ("\x00", "\ud800"):
        with pytest.raises(ValidationError):
            Device(identifier="lamp", description=text).full_clean()


@pytest.mark.parametrize(
    ("registered", "new"),
    [
        ("lamp", "LAMP"),
        ("Lamp-A", "lamp-a"),
        ("\xf6l", "o\u0308l"),
        ("o\u0308l", "\xf6l"),
        ("lamp", "l\u0430mp"),
        ("l\u0430mp", "lamp"),
        ("//h/\u0410\u0440\u0441-1", "//h/apc-1"),
        ("lamp", "\uff4camp"),
        ("file", "\ufb01le"),
    ],
)
def test_who_registers_a_look_alike_is_warned(
    make_device: Callable[..., Device], registered: str, new: str
) -> None:
    make_device(registered)
    assert registered in Device(identifier=new).identifier_warnings()[-1]
    assert registered in run("add_device", new)[1]


def test_who_registers_a_look_alike_in_the_admin_is_warned(
    make_device: Callable[..., Device], admin_client: Client
) -> None:
    make_device("lamp")
    address = "/admin/devices/device/add/"
    sent = inputs(admin_client.get(address))
    saved = admin_client.post(address, sent | {"identifier": "LAMP"}, follow=True)
    assert "It is easily taken for “lamp”, which is registered." in saved.content.decode()
    assert saved.content.decode().count("RTIO cannot use this identifier") == 1
    assert Device.objects.filter(identifier="LAMP").exists()


def test_mixed_scripts_are_warned_of_and_plain_ones_are_not() -> None:
    assert Device(identifier="\u0430dmin").identifier_warnings()
    for plain in ("lamp", "//h.example/a_1", "\u043b\u0430\u043c\u043f\u0430", "灯-1"):
        assert not Device(identifier=plain).identifier_warnings()
