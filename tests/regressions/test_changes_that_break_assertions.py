"""Whatever would break an assertion in the admin asks first, and is nothing until it is confirmed.

An import of devices, of all ways, did not ask, while the documents said that every change does; nor
did the commands that add and import devices. A dry run of `undo` said nothing of the assertions for
which the undo was then refused.

The kind: CWE-693.
"""

import json
import re
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from acl.models import Assertion, CommandPermission, CommandSet
from devices.events.kinds import Kind
from devices.events.models import Event
from devices.history import history_of
from devices.models import Device, DeviceGroup, PreSharedKey
from tests.devices.admin.test_import_export import sent as sent_file, token
from tests.support.commands import run
from tests.support.forms import filled, inputs
from tests.support.rules import make_rule

pytestmark = pytest.mark.once(on="sqlite")

DEVICES, GROUPS = "/admin/devices/device/", "/admin/devices/devicegroup/"
RULES, SETS = "/admin/acl/commandpermission/", "/admin/acl/commandset/"
ASKED = "This breaks an assertion. Nothing is saved yet."


@pytest.fixture
def ids(db: None) -> dict[str, Any]:
    """Let `lamp` read by a rule about its group's parent, and assert that it may."""
    site = DeviceGroup.objects.create(name="site")
    room = DeviceGroup.objects.create(name="room", parent=site)
    other = DeviceGroup.objects.create(name="other")
    lamp = Device.objects.create(identifier="lamp")
    lamp.groups.add(room)
    reading = CommandSet.objects.create(name="reading")
    reading.patterns.create(pattern="/v1/X")
    rule = make_rule(site, command=reading, enabled=False)
    rule.enabled = True
    rule.save()
    Assertion.objects.create(text="lamp may /v1/X itself")
    history: Any = CommandPermission
    first = history.history.earliest()
    return {
        "lamp": lamp.pk,
        "room": room.pk,
        "site": site.pk,
        "other": other.pk,
        "set": reading.pk,
        "rule": rule.pk,
        "first": first.history_id,
    }


CHANGES: dict[str, tuple[str, dict[str, Any]]] = {
    "device moved in its form": (DEVICES + "{lamp}/change/?edit=1", {"groups": ["{other}"]}),
    "device disabled": (DEVICES + "{lamp}/disable/", {}),
    "device deleted": (DEVICES + "{lamp}/delete/", {}),
    "group moved": (GROUPS + "{room}/change/?edit=1", {"parent": ["{other}"]}),
    "group deleted": (GROUPS + "{room}/delete/", {}),
    "rule ended": (
        RULES + "{rule}/change/",
        {"valid_until_0": "2020-01-01", "valid_until_1": "00:00:00"},
    ),
    "rule denies": (RULES + "{rule}/change/", {"effect": "deny"}),
    "denial added": (
        RULES + "add/",
        {
            "effect": "deny",
            "source_kind": "everyone",
            "destination_kind": "everyone",
            "pattern": "/v1/*",
        },
    ),
    "rule deleted": (RULES + "{rule}/delete/", {}),
    "rule restored": (RULES + "{rule}/history/{first}/restore/", {}),
    "pattern changed": (SETS + "{set}/change/", {"patterns-0-pattern": "/v1/Y"}),
    "pattern deleted": (SETS + "{set}/change/", {"patterns-0-DELETE": "on"}),
}
ACTIONS = {
    "disable devices": (DEVICES, "disable", "lamp", {}),
    "take devices from a group": (DEVICES, "leave", "lamp", {"group": "{room}"}),
    "delete devices": (DEVICES, "delete_selected", "lamp", {}),
    "delete groups": (GROUPS, "delete_selected", "room", {}),
    "switch rules off": (RULES, "disable", "rule", {}),
    "delete rules": (RULES, "delete_selected", "rule", {}),
}


def state() -> list[Any]:
    return [
        list(model.objects.order_by("pk").values_list())  # type: ignore[attr-defined]
        for model in (
            Device,
            DeviceGroup,
            Device.groups.through,
            CommandPermission,
            CommandSet.patterns.rel.related_model,
        )
    ]


def is_asked_and_then_done(client: Client, address: str, sent: dict[str, Any]) -> None:
    before = state()
    page = unescape(client.post(address, sent).content.decode())
    assert ASKED in page
    assert re.search("lamp may /v1/X itself: (lamp → lamp: |No device “lamp”)", page)
    assert "successfully" not in page
    assert state() == before
    assert "messagelist" not in client.get(RULES).content.decode()
    page = unescape(client.post(address, {**sent, "_confirmed": "x"}, follow=True).content.decode())
    assert "An assertion does not hold any more: lamp may /v1/X itself" in page
    assert state() != before


@pytest.mark.parametrize("change", CHANGES)
def test_page_asks_before_an_assertion_breaks(
    admin_client: Client, ids: dict[str, Any], change: str
) -> None:
    page, changes = CHANGES[change]
    address = page.format(**ids)
    sent = inputs(admin_client.get(address)) | filled(changes, ids)
    is_asked_and_then_done(admin_client, address, sent)


@pytest.mark.parametrize("action", ACTIONS)
def test_action_asks_before_an_assertion_breaks(
    admin_client: Client, ids: dict[str, Any], action: str
) -> None:
    page, name, row, given = ACTIONS[action]
    sent = {"action": name, "_selected_action": str(ids[row])} | filled(given, ids)
    for _step in range(3):
        answer = admin_client.post(page, sent)
        if ASKED in answer.content.decode():
            break
        sent |= inputs(answer) | filled(given, ids)
    is_asked_and_then_done(admin_client, page, sent)


def test_import_asks_before_an_assertion_breaks(admin_client: Client, ids: dict[str, Any]) -> None:
    page, before = DEVICES + "import/", state()
    content = "identifier,groups,enabled\nlamp,other,false\n"
    confirmed = token(sent_file(admin_client, page, content))
    asked = sent_file(admin_client, page, content, confirmed=confirmed)
    assert ASKED in asked.content.decode()
    assert "Import all the same" in asked.content.decode()
    admin_client.defaults["HTTP_ACCEPT_LANGUAGE"] = "zh"
    chinese = sent_file(admin_client, page, content, confirmed=confirmed)
    assert "这会使 1 条断言不成立" in chinese.content.decode()
    assert state() == before
    done = sent_file(admin_client, page, content, confirmed=token(asked), _confirmed="yes")
    assert done.status_code == 302
    lamp = Device.objects.get()
    assert ([group.name for group in lamp.groups.all()], lamp.enabled) == (["other"], False)


@pytest.mark.parametrize("whole", [False, True])
def test_a_dry_run_of_an_undo_names_what_it_would_break(ids: dict[str, Any], whole: bool) -> None:
    Device.objects.create(identifier="fan")
    if whole:
        run("disable_device", "fan", "lamp", "--break-assertions")
        run("enable_device", "fan", "lamp")
        words = [history_of(Device).objects.latest("history_id").batch]
    else:
        change = history_of(CommandPermission).objects.latest("history_id")
        words = ["acl.commandpermission", change.history_id]
    undo = ["undo", *map(str, words)]
    before = state()
    printed, complaint = run(*undo, "--dry-run", "--json")
    assert "an assertion would break" in complaint
    assert len(json.loads(printed)["broken"]) == 1
    assert state() == before
    assert "This breaks an assertion" in run(*undo, code=1)[1]
    assert state() == before
    assert "does not hold any more" in run(*undo, "--break-assertions")[1]
    assert state() != before


@pytest.mark.parametrize("words", [["add_device", "fan"], ["import_devices"]])
def test_who_adds_devices_by_a_command_is_refused_what_breaks_an_assertion(
    ids: dict[str, Any], words: list[str], tmp_path: Path
) -> None:
    Assertion.objects.create(text="group:other may not /v1/X lamp")
    secrets = tmp_path / "secrets.csv"
    if words[0] == "add_device":
        words = [*words, "--group", "room", "--group", "other", "--generate-secret"]
    else:
        table = tmp_path / "fan.csv"
        table.write_text("identifier,groups\nfan,other|room\n")
        words = [*words, str(table), "--generate-secrets", str(secrets)]
    before = state()

    printed, complaint = run(*words, code=1)
    assert "This breaks an assertion: group:other may not" in complaint
    assert (state(), printed, secrets.exists()) == (before, "", False)
    assert "is kept" not in complaint

    complaint = run(*words, "--break-assertions")[1]
    assert "an assertion does not hold any more: group:other may not" in complaint
    assert PreSharedKey.objects.get().device.identifier == "fan"
    assert Event.objects.filter(kind=Kind.ASSERTION_BROKEN).count() == 1
