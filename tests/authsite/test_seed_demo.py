"""`manage.py seed_demo`: the whole demo registry, once, or nothing."""

import json
import socket
import time
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone

from acl.models import Assertion, CommandPermission
from authsite.management.commands import seed_demo
from devices.authentication import authenticate
from devices.events.models import Delivery, DeliveryState
from devices.models import Certificate, Device, DeviceGroup, PreSharedKey
from rpc.models import ALLOWING, CallRecord, reasons

pytestmark = [pytest.mark.django_db, pytest.mark.once(on="sqlite")]
MakeGroup = Callable[..., DeviceGroup]


def run(capsys: pytest.CaptureFixture[str], **options: Any) -> dict[str, Any]:
    """Run the command with `--json` and return what it printed."""
    call_command("seed_demo", json=True, **options)
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


def test_loads_every_device_key_and_permission(capsys: pytest.CaptureFixture[str]) -> None:
    registry = json.loads(seed_demo.REGISTRY.read_text())

    assert run(capsys) == {
        "seeded": True,
        "devices": len(registry["devices"]),
        "permissions": len(registry["permissions"]),
        "staff_user": None,
        "password": None,
    }
    stored = {device.identifier: device for device in Device.objects.all()}
    for entry in registry["devices"]:
        device = stored.pop(entry["identifier"])
        assert device.kind == entry["kind"]
        assert device.enabled == entry.get("enabled", True)
        assert device.keys.count() == ("secret" in entry)
    assert not stored
    assert {
        (rule.effect, rule.source_text, rule.destination_text, rule.command_text)
        for rule in CommandPermission.objects.named()
    } == {
        (rule["effect"], rule["source"], rule["destination"], rule["command"])
        for rule in registry["permissions"]
    }


def test_the_furnished_demo_shows_everything_that_needs_somebody(
    admin_client: Client, settings: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    settings.HTTPS = False
    started = time.process_time()  # what else the machine does adds nothing
    document = run(capsys, furnish=True)
    assert document["devices"] == Device.objects.count() > 50
    assert document["permissions"] == CommandPermission.objects.count() > 3
    assert time.process_time() - started < 10
    page: Any = admin_client.get("/admin/").context
    assert len({item.label for item in page["attention"]}) == 7
    found = set(CallRecord.objects.refused().values_list("reason", flat=True))
    assert found == reasons().keys() - ALLOWING
    assert Assertion.objects.count() == 2
    call_command("check_permissions")  # ends with 1 where an assertion does not hold
    assert CommandPermission.objects.filter(valid_from__gt=timezone.now()).count() == 1
    assert Delivery.objects.filter(state=DeliveryState.FAILED).exists()
    assert len(page["changes"]) >= 5
    assert PreSharedKey.objects.exclude(last_used=None).exists()
    assert Certificate.objects.exclude(last_used=None).exists()


def test_a_demo_is_not_furnished_where_https_is_on(settings: Any) -> None:
    settings.HTTPS = True
    with pytest.raises(CommandError, match="looks like production"):
        call_command("seed_demo", furnish=True)
    assert not Device.objects.exists()


def test_the_secrets_of_the_demo_verify() -> None:
    call_command("seed_demo")

    assert authenticate("//api.cesanta.com/device_123", secret="qwerty").verified


def test_staff_get_a_password_that_is_printed_once(capsys: pytest.CaptureFixture[str]) -> None:
    call_command("seed_demo", staff_user="ada")

    *_, password = capsys.readouterr().out.split()
    user = User.objects.get(username="ada")
    assert user.check_password(password)
    assert user.is_superuser


def test_staff_who_exist_keep_their_password(capsys: pytest.CaptureFixture[str]) -> None:
    User.objects.create_user("ada", password="kept as it is")

    call_command("seed_demo", staff_user="ada")

    assert "ada exists; the password is unchanged" in capsys.readouterr().out
    assert User.objects.get(username="ada").check_password("kept as it is")


def test_a_registry_that_is_not_empty_is_refused(make_group: MakeGroup) -> None:
    make_group()

    with pytest.raises(CommandError, match="not empty") as error:
        call_command("seed_demo", staff_user="ada")

    assert error.value.returncode == 1
    assert not Device.objects.exists()
    assert not User.objects.exists()


def test_if_empty_leaves_a_registry_alone(
    make_group: MakeGroup, capsys: pytest.CaptureFixture[str]
) -> None:
    make_group()

    assert run(capsys, if_empty=True, staff_user="ada") == {"seeded": False}
    assert not Device.objects.exists()
    assert not User.objects.exists()


def test_loads_everything_or_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: str) -> None:
        raise RuntimeError("power cut")

    monkeypatch.setattr(seed_demo, "_create_staff", fail)

    with pytest.raises(RuntimeError):
        call_command("seed_demo", staff_user="ada")

    assert not Device.objects.exists()
    assert not PreSharedKey.objects.exists()
    assert not CommandPermission.objects.exists()


def test_serving_passes_on_how_to_sign_in(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    served: list[str] = []
    monkeypatch.setattr(
        seed_demo, "call_command", lambda name, *, notice, **_: served.append(notice)
    )

    call_command("seed_demo", staff_user="ada", serve=True)
    call_command("seed_demo", staff_user="ada", serve=True, if_empty=True)
    call_command("seed_demo", staff_user="grace", serve=True, if_empty=True)

    password = served[0].split()[-1]
    assert served[0] == f"Log in at {{url}}/admin/ as ada with the password {password}\n"
    assert User.objects.get(username="ada").check_password(password)
    assert "ada exists; the password is unchanged" in served[1]
    assert served[2] == "Log in at {url}/admin/\n"
    assert password not in capsys.readouterr().out


def test_a_password_is_not_lost_where_the_server_cannot_start(
    capsys: pytest.CaptureFixture[str], settings: Any
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        settings.PORT = taken.getsockname()[1]
        with pytest.raises(CommandError, match="cannot listen"):
            call_command("seed_demo", staff_user="ada", serve=True)

    *_, password = capsys.readouterr().out.split()
    assert User.objects.get(username="ada").check_password(password)
