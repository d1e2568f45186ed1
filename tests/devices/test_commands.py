"""The commands that keep devices and keys, as a script runs them."""

import errno
import io
import json
import os
import re
import signal
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError

from authsite.models import ApiToken
from devices.authentication import authenticate
from devices.history import ChangeType, history_of
from devices.management.base import RegistryCommand, counted, duration, moment
from devices.models import Certificate, Device, DeviceGroup, PreSharedKey
from tests.support import pki
from tests.support.commands import answer, run

pytestmark = pytest.mark.once(on="sqlite")

Factory = Callable[..., Device]


def verified(identifier: str, secret: str) -> bool:
    return authenticate(identifier, secret=secret).verified


def test_add_device_prints_a_generated_secret_once(
    db: None, make_group: Callable[..., Any]
) -> None:
    make_group("ops")
    make_group("site")
    document = answer(
        "add_device", "sensor-1", "--name", "Sensor", "--group", "ops", "--group", "site",
        "--generate-secret",
    )  # fmt: skip
    device = Device.objects.get(identifier="sensor-1")
    assert (device.name, device.kind, device.enabled) == ("Sensor", "device", True)
    assert document["groups"] == ["ops", "site"]
    assert verified("sensor-1", document["secret"])


def test_add_device_takes_a_secret_and_never_prints_it(db: None) -> None:
    secret = " qwérty "
    printed, complaint = run("add_device", "a", "--secret-stdin", stdin=f"{secret}\n")
    assert verified("a", secret)
    assert "qwérty" not in printed + complaint
    assert "weak" in complaint
    run("add_device", "b", "--kind", "backend", "--disabled", "--secret", "correct horse battery")
    device = Device.objects.get(identifier="b")
    assert (device.kind, device.enabled) == ("backend", False)


@pytest.mark.parametrize(
    ("args", "code", "complaint"),
    [
        (["taken"], 1, "exists"),
        (["//h/cloud.dispatcher"], 1, "use //h/cloud"),
        (["a b"], 1, "without spaces"),
        (["x", "--group", "nowhere"], 1, "no group named “nowhere”"),
        (["x", "--secret", "ab"], 1, "3 to 128"),
        (["x", "--secret-stdin"], 2, "no secret on standard input"),
    ],
)
def test_add_device_refuses_with_a_reason_and_saves_nothing(
    make_device: Factory, args: list[str], code: int, complaint: str
) -> None:
    make_device("taken")
    _, said = run("add_device", *args, code=code)
    assert complaint in said
    assert Device.objects.count() == 1


def test_add_device_needs_one_sort_of_secret(db: None) -> None:
    with pytest.raises(CommandError, match="not allowed with"):
        call_command("add_device", "x", "--generate-secret", "--secret", "abc")


def test_verify_says_why_and_leaves_no_trace(make_device: Factory) -> None:
    device = make_device("//h/x")
    key, secret = PreSharedKey.objects.issue(device=device)
    assert answer("verify", "//h/x.ui", "--secret-stdin", stdin=secret) == {
        "identifier": "//h/x",
        "verified": True,
        "outcome": "verified",
        "reason": "verified",
        "key": key.pk,
        "certificate": None,
    }
    printed, _ = run("verify", "//h/x", "--secret-stdin", stdin="wrong\n", code=1)
    assert "the secret is wrong" in printed
    printed, _ = run("verify", "nobody", "--secret-stdin", stdin="wrong\n", code=1)
    assert "no such device" in printed
    _, complaint = run("verify", "//h/a.b.c", "--secret-stdin", stdin="x", code=2)
    assert "%2E" in complaint


def test_standard_input_is_not_read_twice(make_device: Factory) -> None:
    make_device("x")
    _, complaint = run(
        "verify", "x", "--secret-stdin", "--certificate", "-", stdin="secret\n", code=2
    )
    assert "not both" in complaint


def test_verify_tries_a_certificate_or_both(make_device: Factory, tmp_path: Path) -> None:
    device = make_device("x")
    _, secret = PreSharedKey.objects.issue(device=device)
    held = tmp_path / "x.pem"
    held.write_text(pki.device_certificate("x", ends=datetime.now(UTC) + timedelta(days=9)).pem)
    printed, _ = run("verify", "x", "--certificate", str(held), code=1)
    assert "no enabled trust anchor" in printed
    pinned = Certificate.objects.register(device=device, presented=held.read_text())
    assert answer("verify", "x", "--certificate", str(held))["certificate"] == pinned.pk
    run("verify", "x", "--certificate", str(held), "--secret-stdin", stdin=secret)
    run("verify", "x", "--certificate", str(held), "--secret-stdin", stdin="wrong", code=1)
    _, complaint = run("verify", "x", code=2)
    assert "--certificate or both" in complaint


def test_an_unreachable_database_ends_with_2(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise OperationalError("gone")

    monkeypatch.setattr("devices.credentials.pre_shared_keys.KEYS_OF_DEVICES.rows", fail)
    _, complaint = run("verify", "x", "--secret-stdin", stdin="y", code=2)
    assert "the registry cannot be asked: gone" in complaint


def test_a_secret_that_is_printed_and_then_not_stored_is_called_so(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is printed before it is committed, and a full disk is noticed at the commit."""
    say = RegistryCommand.answer

    def fail(command: RegistryCommand, *args: Any, **kwargs: Any) -> None:
        say(command, *args, **kwargs)
        raise OperationalError("database or disk is full")

    monkeypatch.setattr(RegistryCommand, "answer", fail)
    printed, complaint = run("add_device", "x", "--generate-secret", code=2)
    assert "Secret (shown once): " in printed
    assert "What is printed above may not be stored" in complaint
    assert not Device.objects.exists()


def test_add_key_issues_or_registers(make_device: Factory) -> None:
    make_device("x")
    issued = answer("add_key", "x", "--label", "2026", "--not-after", "2999-01-31")
    assert verified("x", issued["secret"])
    assert PreSharedKey.objects.get(pk=issued["key"]).not_after == datetime(2999, 1, 31, tzinfo=UTC)
    known = "mb6bgso4EChvyzA05thF9+wH"
    registered = answer("add_key", "x", "--secret-stdin", "--random", stdin=known)
    assert "secret" not in registered
    assert PreSharedKey.objects.get(pk=registered["key"]).scheme == "hmac-sha256"
    _, complaint = run("add_key", "x", "--secret-stdin", stdin="qwerty")
    assert "weak" in complaint
    run("add_key", "x", "--random", code=2)
    run("add_key", "nobody", code=1)
    _, complaint = run(
        "add_key", "x", "--not-before", "2999-01-02", "--not-after", "2999-01-01", code=1
    )
    assert "must lie after" in complaint


@pytest.mark.parametrize("secret", [[], ["--secret-stdin"]])
def test_a_key_that_has_ended_is_not_issued(make_device: Factory, secret: list[str]) -> None:
    make_device("x")
    _, complaint = run(
        "add_key", "x", "--not-after", "2020-01-01", *secret, stdin="a chosen secret", code=1
    )
    assert complaint == "not_after: This time is past: the key would never admit its device."
    assert not PreSharedKey.objects.exists()


def test_rotate_key_overlaps(make_device: Factory) -> None:
    device = make_device("x")
    old_key, old = PreSharedKey.objects.issue(device=device)
    document = answer("rotate_key", "x", "--overlap", "2h")
    assert verified("x", old)
    assert verified("x", document["secret"])
    old_key.refresh_from_db()
    assert old_key.not_after is not None
    assert old_key.not_after - datetime.now(UTC) <= timedelta(hours=2)
    printed, _ = run("rotate_key", "x", "--overlap", "2h")
    assert "its other keys end by 2" in printed
    assert "those that would begin later are revoked" in printed
    printed, _ = run("rotate_key", "x", "--overlap", "0m")
    assert not verified("x", document["secret"])
    assert "its other keys are revoked." in printed
    assert "shown once" in printed


def test_revoke_key_asks_which_and_says_what_it_did(make_device: Factory) -> None:
    device = make_device("x")
    first, first_secret = PreSharedKey.objects.issue(device=device, label="first")
    _, second_secret = PreSharedKey.objects.issue(device=device)
    _, complaint = run("revoke_key", "x", code=2)
    assert "first" in complaint
    document = answer("revoke_key", "x", "--key", str(first.pk), "--reason", "lost")
    assert document["revoked"] == [first.pk]
    assert not verified("x", first_secret)
    assert verified("x", second_secret)
    first.refresh_from_db()
    assert first.revoked_by.endswith("(command line)")
    assert first.revoked_reason == "lost"
    run("revoke_key", "x", "--key", str(first.pk), code=1)
    run("revoke_key", "x")
    assert not verified("x", second_secret)
    run("revoke_key", "x", "--all", code=1)


def test_change_key_sets_what_it_is_called_and_when_it_admits(make_device: Factory) -> None:
    device = make_device("x")
    key, secret = PreSharedKey.objects.issue(device=device, label="first")
    document = answer("change_key", "x", "--label", " second ", "--not-after", "2100-01-01")
    assert (document["key"], list(document["changed"])) == (key.pk, ["label", "not_after"])
    key.refresh_from_db()
    assert (key.label, key.not_after) == ("second", datetime(2100, 1, 1, tzinfo=UTC))
    run("change_key", "x", "--not-after", "2000-01-01")
    assert not verified("x", secret)
    run("change_key", "x", "--not-after", "none", code=1)  # it is not live any more
    printed, _ = run("change_key", "x", "--key", str(key.pk), "--not-after", "none")
    assert printed == f"Changed not_after of key {key.pk} of x.\n"
    assert verified("x", secret)
    change = PreSharedKey.history.latest("history_id")
    assert (change.origin, change.history_change_reason) == ("command", "change_key")


def test_change_key_refuses_what_makes_no_sense(make_device: Factory) -> None:
    device = make_device("x")
    first, _secret = PreSharedKey.objects.issue(device=device)
    PreSharedKey.objects.issue(device=device)
    run("change_key", "x", "--key", str(first.pk), code=2)
    run("change_key", "x", "--label", "which", code=2)
    window = ("--not-before", "2100-01-02", "--not-after", "2100-01-01")
    _, complaint = run("change_key", "x", "--key", str(first.pk), *window, code=1)
    assert "must lie after" in complaint
    run("revoke_key", "x", "--key", str(first.pk))
    run("change_key", "x", "--key", str(first.pk), "--not-after", "none", code=1)
    run("change_key", "y", "--label", "nobody's", code=1)


def test_expiring_lists_what_ends_soon_and_still_counts(make_device: Factory) -> None:
    device = make_device("x")
    now = datetime.now(UTC)
    for label, days in (("soon", 10), ("late", 50), ("over", -1)):
        key, _ = PreSharedKey.objects.issue(device=device, label=label)
        ends = now + timedelta(days=days, hours=1)
        PreSharedKey.objects.filter(pk=key.pk).update(not_after=ends)
    gone, _ = PreSharedKey.objects.issue(device=device, not_after=now + timedelta(days=5))
    gone.revoke(by="ops")
    PreSharedKey.objects.issue(device=device)
    rows = answer("expiring", "--within", "30d")["expiring"]
    assert [(row["what"], row["name"]) for row in rows] == [("key", "x soon")]
    assert len(answer("expiring", "--within", "9w")["expiring"]) == 2
    printed, _ = run("expiring", "--within", "1h")
    assert re.fullmatch(r"Nothing ends by \d{4}-\d\d-\d\d \d\d:\d\d UTC\.\n", printed)


def test_pepper_status_counts_and_fails_on_a_lost_pepper(
    make_device: Factory, settings: Any
) -> None:
    device = make_device()
    PreSharedKey.objects.issue(device=device)
    PreSharedKey.objects.issue(device=device)[0].revoke(by="ops")
    assert answer("pepper_status") == {
        "peppers": [
            {
                "pepper": "test-2",
                "state": "newest",
                "keys": 2,
                "live": 1,
                "tokens": 0,
                "live_tokens": 0,
                "webhooks": 0,
                "live_webhooks": 0,
            }
        ]
    }
    settings.PEPPERS = {"test-3": bytes(32), **settings.PEPPERS}
    states = [(row["pepper"], row["state"]) for row in answer("pepper_status")["peppers"]]
    assert states == [("test-3", "newest"), ("test-2", "old")]
    settings.PEPPERS = {"test-3": bytes(32)}
    printed, _ = run("pepper_status", code=1)
    assert "test-2 is not configured: its 1 live keys are refused" in printed


# --- Devices and groups ----------------------------------------------------------------------


def test_a_device_that_is_named_twice_is_changed_once(make_device: Factory) -> None:
    device = make_device("//h/x")
    printed, _ = run("disable_device", "//h/x", "//h/x.ui")
    assert printed == "Disabled //h/x.\n"
    assert answer("delete_device", "//h/x", "//h/x.ui")["identifiers"] == ["//h/x"]
    changes = history_of(Device).objects.filter(id=device.pk)
    assert changes.filter(history_type=ChangeType.DELETED).count() == 1


def test_devices_are_listed_and_shown(make_device: Factory, make_group: Any) -> None:
    lab = make_group("lab")
    make_device("sensor-1", name="Sensor", groups=[lab])
    make_device("sensor-2", enabled=False)
    rows = answer("list_devices")["devices"]
    assert [(row["identifier"], row["enabled"], row["groups"]) for row in rows] == [
        ("sensor-1", True, ["lab"]),
        ("sensor-2", False, []),
    ]
    printed, complaint = run("list_devices", "--limit", "1")
    assert printed == "sensor-1  enabled   device   Sensor\n"
    assert "more than 1" in complaint
    assert answer("list_devices", "--filter", "groups=lab")["more"] is False
    room = make_group("room", parent=lab)
    make_device("sensor-3", groups=[room])
    for name, found in (("lab", ["sensor-1", "sensor-3"]), ("room", ["sensor-3"])):
        listed = answer("list_devices", "--filter", f"groups__or_below={name}")["devices"]
        assert [device["identifier"] for device in listed] == found
    run("list_devices", "--filter", "groups__or_below=attic", code=1)
    assert run("list_devices", "--filter", "name=none", code=1)[0] == "No device.\n"
    run("list_devices", "--filter", "colour=red", code=2)
    key, secret = PreSharedKey.objects.issue(
        device=Device.objects.get(identifier="sensor-1"), label="factory"
    )
    document = answer("show_device", "sensor-1")
    assert document["groups"] == ["lab"]
    assert [(one["key"], one["state"]) for one in document["keys"]] == [(key.pk, "verified")]
    assert re.fullmatch(r"[0-9-]{10}T[0-9:.]+Z", document["created"])
    printed, _ = run("show_device", "sensor-1")
    assert f"key {key.pk}: usable, factory\n" in printed
    run("rotate_key", "sensor-1", "--overlap", "1d")
    rotated, _ = run("show_device", "sensor-1")
    assert re.search(rf"key {key.pk}: usable, factory, until 20[-0-9]+ [0-9:]+ UTC\n", rotated)
    assert f"  {json.dumps(document['attributes'])}\n" in printed  # can be given to change_device
    assert secret not in printed + json.dumps(document)
    assert key.digest not in printed + json.dumps(document)
    run("show_device", "sensor-9", code=1)


def test_keys_and_certificates_are_listed(make_device: Factory, make_group: Any) -> None:
    pump, lamp = make_device("pump", groups=[make_group("roof")]), make_device("lamp")
    live, secret = PreSharedKey.objects.issue(device=pump, label="live")
    gone = PreSharedKey.objects.issue(device=pump, label="gone")[0]
    gone.revoke(by="kim")
    ends = datetime.now(UTC) + timedelta(days=400)
    PreSharedKey.objects.issue(device=lamp, label="soon", not_after=ends)
    pinned = Certificate.objects.register(
        device=lamp, presented=pki.device_certificate("lamp").pem, label="first"
    )

    keys = answer("list_keys")["keys"]
    assert [(one["device"], one["label"], one["state"]) for one in keys] == [
        ("lamp", "soon", "verified"),
        ("pump", "live", "verified"),
    ]
    assert keys[0]["not_after"].startswith(f"{ends:%Y-%m-%dT%H:%M:%S}")
    everything = answer("list_keys", "--all", "--filter", "groups=roof")["keys"]
    assert [(one["key"], one["state"]) for one in everything] == [
        (live.pk, "verified"),
        (gone.pk, "revoked"),
    ]
    printed, complaint = run("list_keys", "--limit", "1")
    until = f"{ends:%Y-%m-%d %H:%M} UTC"
    assert printed == f"lamp  key {keys[0]['key']}: usable, soon, until {until}\n"
    assert complaint == "There are more than 1; --limit shows more.\n"
    printed, _ = run("list_keys")
    assert f"pump  key {live.pk}: usable, live\n" in printed
    assert secret not in printed + json.dumps(everything)
    certificates = answer("list_certificates", "--filter", "identifier=lamp")["certificates"]
    assert [(one["certificate"], one["fingerprint"]) for one in certificates] == [
        (pinned.pk, pinned.fingerprint)
    ]
    pinned.revoke(by="kim")
    assert run("list_certificates", code=1)[0] == "No certificate.\n"
    assert answer("list_certificates", "--all")["certificates"][0]["state"] == "revoked"
    run("list_keys", "--filter", "groups=attic", code=1)


def test_devices_are_switched_together_or_not_at_all(make_device: Factory) -> None:
    for number in (1, 2):
        make_device(f"sensor-{number}")
    run("disable_device", "sensor-1", "sensor-9", code=1)
    assert Device.objects.enabled().count() == 2
    assert answer("disable_device", "sensor-1", "--reason", "lost")["changed"] == 1
    printed, _ = run("disable_device", "sensor-1", "sensor-2")
    assert printed == "Disabled 1 of 2; the others were in that state already.\n"
    printed, _ = run("disable_device", "sensor-1")
    assert printed == "Nothing to change: disabled already.\n"
    change = Device.history.filter(identifier="sensor-1").latest("history_id")
    assert (change.origin, change.history_change_reason) == ("command", "disable_device: lost")
    assert answer("enable_device", "sensor-1", "sensor-2")["changed"] == 2


def test_a_device_is_changed_and_deleted(make_device: Factory) -> None:
    device = make_device("sensor-1")
    PreSharedKey.objects.issue(device=device)
    answer("change_device", "sensor-1", "--name", "Sensor", "--attributes", '{"floor": 2}')
    device.refresh_from_db()
    assert (device.name, device.attributes) == ("Sensor", {"floor": 2})
    run("change_device", "sensor-1", code=2)
    run("change_device", "sensor-1", "--attributes", "[]", code=1)
    run("change_device", "sensor-1", "--name", "x" * 256, code=1)
    document = answer("delete_device", "sensor-1")
    assert document["deleted"] == {"devices.device": 1, "devices.presharedkey": 1}
    assert Device.history.latest("history_id").history_type == "-"


def test_groups_are_kept(make_device: Factory) -> None:
    make_device("sensor-1")
    answer("create_group", "site", "--description", "all of it")
    assert answer("create_group", "lab", "--within", "site")["within"] == "site"
    for wrong in (["lab"], [""], ["x", "--within", "nowhere"]):
        run("create_group", *wrong, code=1)
    assert answer("add_to_group", "lab", "sensor-1")["changed"] == 1
    assert answer("add_to_group", "lab", "sensor-1")["changed"] == 0
    run("add_to_group", "lab", "sensor-9", code=1)
    printed, _ = run("list_groups")
    assert printed == "lab  (1 device, within site)\nsite  (0 devices)\n"
    assert "in use by lab" in run("delete_group", "site", code=1)[1]
    assert answer("remove_from_group", "lab", "sensor-1")["changed"] == 1
    assert answer("delete_group", "lab")["deleted"] == {"devices.devicegroup": 1}
    run("delete_group", "lab", code=1)


def test_groups_that_stand_in_the_way_are_told_apart(db: None) -> None:
    answer("create_group", "site")
    for name in ("attic, east", "lab"):
        answer("create_group", name, "--within", "site")
    assert "in use by attic, east; lab" in run("delete_group", "site", code=1)[1]


def test_a_group_is_renamed_moved_and_described(db: None) -> None:
    for words in (["site"], ["lab", "--within", "site"], ["yard"]):
        run("create_group", *words)
    told = answer("change_group", "lab", "--name", "laboratory", "--within", "yard")
    assert told == {"group": "laboratory", "changed": {"name": "laboratory", "within": "yard"}}
    run("change_group", "yard", "--description", "outside", "--reason", "a plan")
    row = DeviceGroup.objects.get(name="yard")
    assert row.history.first().history_change_reason == "change_group: a plan"
    assert "within itself" in run("change_group", "yard", "--within", "laboratory", code=1)[1]
    for wrong in (
        ["nowhere", "--top"],
        ["yard", "--within", "nowhere"],
        ["yard", "--name", "site"],
    ):
        run("change_group", *wrong, code=1)
    run("change_group", "yard", code=2)
    run("change_group", "yard", "--top", "--within", "site", code=1)
    run("change_group", "laboratory", "--top")
    places = {one["group"]: one["within"] for one in answer("list_groups")["groups"]}
    assert places == {"laboratory": None, "site": None, "yard": None}


def test_what_a_command_did_to_many_is_undone(make_device: Factory) -> None:
    for name in ("sensor-1", "sensor-2", "sensor-3"):
        make_device(name)
    run("disable_device", "sensor-1", "sensor-2", "sensor-3", "--reason", "a test")
    run("change_device", "sensor-3", "--name", "since")
    last, done = answer("list_changes", "--limit", "2")["changes"]
    assert (last["what"], last["model"]) == ("Changed device sensor-3", "devices.device")
    assert (done["what"], done["reason"]) == ("Changed 3 devices", "disable_device: a test")
    assert done["batch"] in run("list_changes", "--device", "sensor-1")[0]
    tried = answer("undo", done["batch"], "--dry-run")
    assert (tried["undone"], Device.objects.enabled().count()) == (2, 0)
    told = answer("undo", done["batch"], "--reason", "wrong ones")
    assert (told["undone"], [one["rows"] for one in told["left"]]) == (2, [["sensor-3"]])
    assert Device.objects.enabled().count() == 2
    row = Device.history.filter(identifier="sensor-1").latest("history_id")
    assert row.history_change_reason == "undo: undid what was changed together: wrong ones"
    assert "nothing is left" in run("undo", done["batch"], code=1)[0].lower()
    run("undo", str(UUID(int=1)), code=1)


def test_one_change_is_undone_or_its_state_restored(make_device: Factory) -> None:
    device = make_device("sensor-1", name="first")
    for name in ("second", "third"):
        run("change_device", "sensor-1", "--name", name)
    numbers = [one["id"] for one in answer("list_changes", "--device", "sensor-1")["changes"]]
    printed, _ = run("undo", "devices.device", str(numbers[0]), "--dry-run")
    assert "name: third → second" in printed.lower()
    device.refresh_from_db()
    assert device.name == "third"
    run("undo", "devices.device", str(numbers[0]))
    run("undo", "devices.device", str(numbers[0]), code=1)
    device.refresh_from_db()
    assert device.name == "second"
    told = answer("undo", "devices.device", str(numbers[2]), "--restore")
    assert told["fields_changed"][0]["new"] == "first"
    run("undo", "devices.device", str(numbers[2]), code=1)  # before it there is nothing
    for wrong in (["x"], ["devices.presharedkey", "1"], ["devices.device", "0"], ["a", "b", "c"]):
        run("undo", *wrong, code=2)
    run("undo", str(UUID(int=1)), "--restore", code=2)


def test_what_was_empty_is_a_dash_for_people_and_nothing_for_programs(
    make_device: Factory,
) -> None:
    make_device("sensor-1", name="")
    run("change_device", "sensor-1", "--name", "—")  # a name that is no sign of its absence
    change = ["devices.device", str(answer("list_changes")["changes"][0]["id"])]
    printed, _ = run("undo", *change, "--dry-run")
    assert "name: — → —" in printed.lower()
    tried = answer("undo", *change, "--dry-run")["fields_changed"]
    assert [(one["old"], one["new"]) for one in tried] == [("—", "")]
    exported = json.loads(run("export_changes", "--json")[0].splitlines()[0])
    assert exported["fields"] == [{"field": "Name", "from": "", "to": "—"}]
    for words in (("list_changes", "--limit", "0"), ("list_changes", "--device", "")):
        run(*words, code=1)


def test_trust_anchors_are_listed_and_switched(db: None, tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_text(pki.authority("Factory").pem)
    run("add_trust_anchor", "factory", str(file))
    assert answer("list_trust_anchors")["trust_anchors"][0]["enabled"] is True
    run("change_trust_anchor", "factory", "--disable", "--crl-policy", "require")
    printed, _ = run("list_trust_anchors")
    assert printed.startswith("factory  disabled")
    run("change_trust_anchor", "factory", code=2)
    run("change_trust_anchor", "nobody", "--enable", code=1)


@pytest.mark.parametrize("text", ["", "d", "5", "5 d", "-1d", "1y", "999999d"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(Exception, match="no duration"):
        duration(text)


@pytest.mark.parametrize("text", ["", "tomorrow", "2026-02-30", "2026-13-01T00:00", "12:00"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(Exception, match="no time"):
        moment(text)


def test_times_without_a_zone_are_utc() -> None:
    assert moment("2026-01-02T03:04") == datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
    assert moment("2026-01-02T03:04+02:00") == datetime(2026, 1, 2, 1, 4, tzinfo=UTC)
    assert duration("2w") == timedelta(weeks=2)


@pytest.mark.parametrize(
    "name",
    ["add_device", "verify", "add_key", "rotate_key", "revoke_key", "pepper_status", "expiring"],
)
def test_help_explains_and_names_the_exit_codes(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        call_command(name, "--help")
    assert ended.value.code == 0
    printed = capsys.readouterr().out
    assert "exit codes: 0 done or yes; 1 no or refused; 2" in printed
    assert "--json" in printed
    assert "--pythonpath" not in printed  # nor Django's others, which nobody looks for


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["show_device", "caf\udce9"], 2),
        (["disable_device", "caf\udce9"], 2),
        (["add_to_group", "caf\udce9", "lamp"], 2),
        (["verify", "caf\udce9", "--secret-stdin"], 1),
        (["add_device", "caf\udce9"], 1),
        (["create_group", "caf\udce9"], 1),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_an_argument_in_another_encoding_is_refused_in_words(
    make_device: Callable[..., Device], words: list[str], code: int
) -> None:
    make_device("lamp")
    printed, complaint = run(*words, stdin="a secret\n", code=code)
    assert complaint or printed
    assert Device.objects.count() == 1


@pytest.mark.parametrize(
    ("number", "handler", "code"),
    [
        (signal.SIGTERM, signal.SIG_DFL, 128 + signal.SIGTERM),
        (signal.SIGHUP, signal.SIG_DFL, 128 + signal.SIGHUP),
        (signal.SIGHUP, signal.SIG_IGN, None),  # nohup
        (signal.SIGINT, signal.default_int_handler, 128 + signal.SIGINT),
    ],
)
def test_a_signal_ends_a_command_as_an_error_does(
    number: int, handler: Any, code: int | None
) -> None:
    """Whatever it began is undone, and its files are removed."""
    undone = []

    class Command(RegistryCommand):
        def handle(self, *args: Any, **options: Any) -> None:
            try:
                os.kill(os.getpid(), number)
            except BaseException:
                undone.append(number)
                raise

    before = signal.signal(number, handler)
    try:
        if code is None:
            call_command(Command())
        else:
            with pytest.raises((SystemExit, CommandError)) as ended:
                call_command(Command())
            assert getattr(ended.value, "returncode", getattr(ended.value, "code", 0)) == code
        assert signal.getsignal(number) is handler
    finally:
        signal.signal(number, before)
    assert undone == ([] if code is None else [number])


# --- What nobody means ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ("create_group", "lab", "--within", ""),
        ("deliver", "--seconds", "nan"),
        ("deliver", "--seconds", "0"),
        ("migrate", "--lock-timeout", "-1"),
        ("create_group", " "),
        ("change_group", "lab", "--name", ""),
        ("change_group", "lab", "--within", ""),
        ("change_command_set", "lab", "--name", " "),
        ("disable_user", "kim", "--hand-to", ""),
        ("end_sessions", "sensor", "--server", ""),
        ("end_token", "--owner", ""),
        ("end_token", ""),
        ("export_calls", "--about", ""),
        ("export_devices", "--output", ""),
        ("export_permissions", ""),
        ("export_permissions", "x.yaml", "--output", "y.yaml"),
        ("import_devices", "x.csv", "--generate-secrets", ""),
        ("import_permissions", "x.yaml", "--expect", ""),
        ("list_devices", "--limit", "-5"),
        ("list_devices", "--limit", "99999999999999999999"),
        ("list_devices", "--limit", "9223372036854775807"),
        ("list_rules", "--device", ""),
        ("list_tokens", "--owner", ""),
        ("delete_rule", "99999999999999999999"),
        ("revoke_certificate", "sensor", "--file", ""),
        ("revoke_key", "sensor", "--key", "0"),
        ("try_permission", "--remove", "²"),
        ("try_permission", "--requests", ""),
        ("rotate_key", "sensor", "--overlap", "٣d"),
    ],
    ids=" ".join,
)
def test_an_empty_name_and_a_number_of_nothing_are_refused(
    words: tuple[str, ...], db: None
) -> None:
    name, *rest = words
    with pytest.raises(CommandError, match=r"argument .*: (it is empty|“|not allowed)"):
        call_command(name, *rest)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("create_group", " lab "), {"group": "lab"}),
        (("change_group", "yard", "--name", "lab "), {"group": "lab"}),
        (("create_command_set", " ab "), {"set": "ab", "description": ""}),
        (("create_command_set", "ab", "--description", " "), {"description": ""}),
        (("change_device", "sensor", "--name", " a b "), {"changed": {"name": "a b"}}),
        (("add_device", "new", "--group", "yard", "--group", "yard"), {"groups": ["yard"]}),
    ],
)
def test_texts_are_taken_as_forms_take_them(
    words: tuple[str, ...], said: dict[str, Any], make_device: Factory, make_group: Any
) -> None:
    make_device("sensor")
    make_group("yard")
    assert said.items() <= answer(*words).items()


def test_one_is_not_said_as_many(make_device: Factory, make_group: Any) -> None:
    make_device("sensor").groups.add(make_group("lab"))
    assert run("list_groups")[0] == "lab  (1 device)\n"
    assert run("export_devices")[1] == "1 device\n"
    held = run("export_permissions")[1]
    assert held.startswith("1 group, 0 command sets, 0 permissions; digest ")
    assert (counted(1, "row"), counted(1200, "row of calls", "rows of calls")) == (
        "1 row",
        "1,200 rows of calls",
    )


def test_a_refusal_names_its_field(make_device: Factory) -> None:
    long = "x" * 256
    said = run("add_device", "sensor", "--name", long, code=1)[1]
    assert said == "name: Ensure this value has at most 255 characters (it has 256)."
    make_device("sensor")
    assert "label: It holds U+202E" in run("add_key", "sensor", "--label", "a\u202eb", code=1)[1]


class Full(io.StringIO):
    """A screen that takes nothing, as a full disk and a pipe whose reader is gone."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def write(self, text: str) -> int:
        raise OSError(self.number, os.strerror(self.number))


@pytest.mark.parametrize(
    "words",
    [
        ("add_device", "new", "--generate-secret"),
        ("add_key", "sensor"),
        ("rotate_key", "sensor"),
        ("create_token", "root", "ci", "--scope", "devices.view_device"),
        ("list_devices",),
        ("export_devices",),
        ("export_permissions",),
        ("export_rtio",),
    ],
    ids=" ".join,
)
def test_what_cannot_be_printed_is_not_done(
    words: tuple[str, ...],
    make_device: Factory,
    django_user_model: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make_device("sensor")
    django_user_model.objects.create_superuser("root")
    with pytest.raises(BrokenPipeError):  # who closes a pipe has read enough: tests/test_manage.py
        call_command(*words, stdout=Full(errno.EPIPE), stderr=io.StringIO())
    for closed in (False, True):
        if closed:
            monkeypatch.setattr("sys.stdout", None)
        with pytest.raises(CommandError, match="standard output") as refused:
            call_command(*words, stdout=Full(errno.ENOSPC), stderr=io.StringIO())
        assert refused.value.returncode == 2
    assert not PreSharedKey.objects.exists()
    assert not ApiToken.objects.exists()
    assert Device.objects.count() == 1


def test_what_a_terminal_cannot_show_is_an_escape(
    make_device: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_device("sensor", name="käme 中")
    for encoding, shown in (("ascii", r"k\xe4me \u4e2d"), ("latin-1", r"käme \u4e2d")):
        printed = io.BytesIO()
        monkeypatch.setattr("sys.stdout", io.TextIOWrapper(printed, encoding=encoding))
        call_command("list_devices")
        assert shown in printed.getvalue().decode(encoding)


def test_no_text_moves_the_terminal_that_shows_it(make_device: Factory) -> None:
    """A file of somebody else could clear the screen of who imports it, and write over it."""
    cell = "a\x1b[2J\r\u202eb\u0085"
    shown = r"a\u001b[2J\u000d\u202eb\u0085"
    make_device("sensor", description=f"{cell}\r\n\tmore")  # as browsers end lines
    assert f"{shown}\r\n\tmore" in run("show_device", "sensor")[0]
    assert answer("show_device", "sensor")["description"].startswith(cell)
    table = json.dumps([{"identifier": "sensor", "name": cell}])
    assert shown in run("import_devices", "-", "--format", "json", stdin=table, code=1)[1]
    assert f"no device {shown} is" in run("show_device", cell, code=1)[1]


def test_what_is_on_standard_input_is_text(
    make_device: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_device("sensor")
    words = ("add_key", "sensor", "--secret-stdin")
    for given, said in ((io.TextIOWrapper(io.BytesIO(b"\xff\xfe")), "not UTF-8"), (None, "closed")):
        monkeypatch.setattr("sys.stdin", given)
        with pytest.raises(CommandError, match=f"standard input is {said}"):
            call_command(*words)


def test_a_document_on_standard_input_is_utf_8_whatever_the_locale_says(
    make_group: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With LANG=de_DE a group named Dächer went, and another one took its place."""
    make_group("Dächer")
    document = run("export_permissions")[0]
    given = io.TextIOWrapper(io.BytesIO(document.encode()), encoding="latin-1")
    monkeypatch.setattr("sys.stdin", given)
    printed = io.StringIO()
    call_command("import_permissions", "-", "--dry-run", stdout=printed)
    assert printed.getvalue().startswith("Nothing to change.")


def test_a_dash_is_the_screen(make_device: Factory, tmp_path: Path) -> None:
    make_device("sensor")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        assert "sensor" in run("export_devices", "--format", "csv", "--output", "-")[0]
        assert "groups" in run("export_permissions", "-")[0]
    assert list(tmp_path.iterdir()) == []


def test_an_error_of_the_system_is_told_in_its_words(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(file: Path) -> None:
        raise OSError(errno.EMFILE, "Too many open files", str(file))

    monkeypatch.setattr("authsite.management.commands.backup.backup", fails)
    said = run("backup", "registry", code=2)[1]
    assert said.startswith("[Errno 24] Too many open files: '")


def test_a_backup_that_cannot_have_its_name_is_refused_before_it_is_made(
    db: None, tmp_path: Path
) -> None:
    assert run("backup", "x" * 300, code=1)[1].endswith("File name too long")
    (tmp_path / "to nothing").symlink_to(tmp_path / "nothing")
    assert "exists: name another file" in run("backup", str(tmp_path / "to nothing"), code=1)[1]
    assert [path.name for path in tmp_path.iterdir()] == ["to nothing"]
