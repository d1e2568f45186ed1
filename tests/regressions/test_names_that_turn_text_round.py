"""A name turns round nothing beside it, whatever its letters' direction.

CVE-2021-42574, Trojan Source: with a group named U+202E…, the sentence of a rule that allows
read as one that denies.
"""

import json
from io import StringIO
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.test import Client

from acl.models import Assertion, CommandSet
from devices.models import AttributeDefinition, DeviceGroup
from devices.values.text import isolated
from tests.support.forms import inputs
from tests.support.rules import make_rule

pytestmark = pytest.mark.once(on="sqlite")

TURNED = "sensors\u202e ton yam"
HEBREW = "\u05d7\u05d9\u05d9\u05e9\u05e0\u05d9\u05dd"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("lamp", "lamp"),
        ("Lampe im Büro", "Lampe im Büro"),
        ("灯", "灯"),
        (HEBREW, f"\u2068{HEBREW}\u2069"),
        (TURNED, "sensors\\u202e ton yam"),
        ("a\u2069\u2068b", "a\\u2069\\u2068b"),
    ],
)
def test_name_is_isolated_where_it_must_be(name: str, shown: str) -> None:
    assert isolated(name) == shown


@pytest.mark.parametrize("name", [TURNED, HEBREW])
def test_rule_reads_the_same_beside_any_name(
    name: str, make_device: Any, admin_client: Client
) -> None:
    group = DeviceGroup.objects.create(name="plain")
    DeviceGroup.objects.filter(pk=group.pk).update(name=name)  # as rows from before may be named
    group.refresh_from_db()
    make_device("lamp", groups=[group])
    rule = make_rule(group, "everyone", "/v1/X")
    assert str(rule) == f"Devices in group {isolated(name)} may send /v1/X to everyone"
    assert rule.notation == f"allow {isolated(f'group:{name}')} → everyone: /v1/X"
    pages = [
        f"/admin/acl/commandpermission/{rule.pk}/change/",
        "/admin/acl/commandpermission/",
        "/admin/acl/commandpermission/explain/?source=lamp&destination=lamp&command=/v1/X",
    ]
    for page in pages:
        shown = admin_client.get(page).content.decode()
        sentence = shown[shown.index('class="sentence"') :].partition("</span>")[0]
        assert "\u202e" not in sentence
        assert f"<bdi>{isolated(name).strip(chr(0x2068) + chr(0x2069))}</bdi>" in sentence


def test_names_and_assertions_with_hidden_characters_are_refused(db: None) -> None:
    with pytest.raises(ValidationError):
        CommandSet(name=TURNED).full_clean()
    with pytest.raises(ValidationError):
        Assertion(text=f'nobody outside "group:{TURNED}" may *').full_clean()


def test_attributes_are_shown_and_edited_as_they_are_stored(
    make_device: Any, admin_client: Client
) -> None:
    AttributeDefinition.objects.create(name="site", type="text")
    stored = {"site": "a\u202eb", "no\u2066te": {"x": ["\u202dcd"]}, HEBREW: HEBREW}
    device = make_device("lamp", attributes=stored)
    address = f"/admin/devices/device/{device.pk}/change/"

    page = admin_client.get(address).content.decode()
    form = admin_client.get(f"{address}?edit=1")
    history = admin_client.get(f"/admin/devices/device/{device.pk}/history/").content.decode()
    printed = StringIO()
    call_command("show_device", "lamp", stdout=printed)

    for shown in (page, history, printed.getvalue()):
        assert not {"\u202d", "\u202e", "\u2066"} & {*shown}
        assert "a\\u202eb" in shown
        assert HEBREW in shown
    sent = inputs(form)
    assert json.loads(sent["attributes"]) == {
        name: stored[name] for name in stored if name != "site"
    }
    assert "no\\u2066te" in sent["attributes"]
    admin_client.post(address, sent | {"name": "Lamp"})
    device.refresh_from_db()
    assert (device.name, device.attributes) == ("Lamp", stored)
