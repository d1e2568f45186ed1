"""Adding rules: on the command line, and what a rule must be."""

import json
from datetime import timedelta
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.utils import timezone

from acl.models import Assertion, CommandPermission
from devices.events.kinds import Kind
from devices.events.models import Event
from devices.models import Device
from tests.support.commands import run


def permit(
    source: str, destination: str, command: str, *rest: str, code: int = 0
) -> tuple[str, str]:
    """Run the command; return what it printed and what it complained of."""
    words = ("--source", source, "--destination", destination, "--command", command, *rest)
    return run("permit", *words, code=code)


@pytest.mark.parametrize(
    ("source", "destination", "command"),
    [
        ("lamp", "hub", "/v1/Config.Get"),
        ("group:field ops", "everyone", "/v1/*"),
        ("everyone", "itself", "*"),
        ("everyone", "same-group", "set:reading"),
        ("device:everyone", "device:group:x", "*"),
    ],
)
def test_permit_adds_the_rule_that_it_was_told(
    make_device: Any,
    make_group: Any,
    make_set: Any,
    source: str,
    destination: str,
    command: str,
) -> None:
    for identifier in ("lamp", "hub", "everyone", "group:x"):
        make_device(identifier)
    make_group("field ops")
    make_set("reading", "/v1/Config.Get")
    begin, end = "2126-01-31T12:00:00Z", "2126-02-01T00:00:00Z"
    window = ("--valid-from", "2126-01-31T14:00+02:00", "--valid-until", "2126-02-01")
    said = ("--deny", "--note", "because", *window, "--json")
    printed, _ = permit(source, destination, command, *said)
    rule = CommandPermission.objects.named().get()
    assert json.loads(printed) == {
        "rule": rule.pk,
        "effect": "deny",
        "source": source,
        "destination": destination,
        "command": command,
        "valid_from": begin,
        "valid_until": end,
    }
    assert rule.notation == f"deny {source} → {destination}: {command}"
    assert rule.note == "because"


@pytest.mark.parametrize(
    ("source", "destination", "command", "message"),
    [
        ("nobody-known", "everyone", "*", "No device “nobody-known” is registered"),
        ("la\x00mp", "everyone", "*", "No device"),
        ("group:none", "everyone", "*", "There is no group named “none”"),
        ("itself", "everyone", "*", "No device “itself” is registered. Only a receiver is"),
        ("everyone", "everyone", "set:none", "no command set named “none”"),
        ("everyone", "everyone", "/v1/*/Get", "only at the end. Write /v1/*"),
        ("everyone", "everyone", "", "Which command?"),
        ("everyone", "everyone", "/v1/Config Get", "no spaces"),
        ("everyone", "everyone", "/" * 10_240, "at most 255"),
    ],
)
def test_permit_refuses_what_makes_no_sense(
    db: None, source: str, destination: str, command: str, message: str
) -> None:
    assert message in permit(source, destination, command, code=1)[1]
    assert not CommandPermission.objects.exists()


def test_permit_refuses_a_rule_that_exists(make_rule: Any) -> None:
    rule = make_rule(command="/v1/*")
    assert f"This rule exists: #{rule.pk}" in permit("everyone", "everyone", "/v1/*", code=1)[1]
    permit("everyone", "everyone", "/v1/*", "--deny")
    assert CommandPermission.objects.count() == 2


def fields_in_error(**fields: Any) -> set[str]:
    given = {"source_kind": "everyone", "destination_kind": "everyone", "pattern": "*"} | fields
    with pytest.raises(ValidationError) as caught:
        CommandPermission(**given).full_clean()
    return set(caught.value.error_dict) - {"__all__"}


def test_each_mistake_is_told_at_its_field(
    make_device: Any, make_group: Any, make_set: Any
) -> None:
    device, group, command_set = make_device(), make_group(), make_set("all", "*")
    now = timezone.now()
    assert fields_in_error(source_kind="device") == {"source_device"}
    assert fields_in_error(source_kind="group", source_device=device) == {
        "source_device",
        "source_group",
    }
    assert fields_in_error(source_device=device, source_group=group) == {
        "source_device",
        "source_group",
    }
    assert fields_in_error(destination_kind="itself", destination_group=group) == {
        "destination_group"
    }
    assert fields_in_error(destination_kind="nowhere") == {"destination_kind"}
    assert fields_in_error(effect="maybe") == {"effect"}
    assert fields_in_error(pattern="") == {"pattern"}
    assert fields_in_error(pattern="set:all") == {"pattern"}
    assert fields_in_error(command_set=command_set) == {"command_set"}
    assert fields_in_error(valid_from=now, valid_until=now - timedelta(1)) == {"valid_until"}


@pytest.mark.parametrize(
    ("constraint", "fields"),
    [
        ("acl_permission_effect_known", {"effect": "maybe"}),
        ("acl_permission_source_one", {"source_kind": "itself"}),
        ("acl_permission_source_one", {"source_kind": "device"}),
        ("acl_permission_destination_one", {"destination_kind": "group"}),
        ("acl_permission_command_one", {"pattern": ""}),
        (
            "acl_permission_window_ordered",
            {"valid_from": timezone.now(), "valid_until": timezone.now() - timedelta(1)},
        ),
    ],
)
def test_the_database_knows_it_too(db: None, constraint: str, fields: dict[str, Any]) -> None:
    given = {"source_kind": "everyone", "destination_kind": "everyone", "pattern": "*"} | fields
    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        CommandPermission.objects.create(**given)


def test_bulk_loaded_rules_have_their_keys(
    make_device: Any, make_group: Any, make_set: Any
) -> None:
    device, group, command_set = make_device(), make_group(), make_set("all", "*")
    CommandPermission.objects.bulk_create(
        [
            CommandPermission(
                source_kind="device",
                source_device=device,
                destination_kind="group",
                destination_group=group,
                command_set=command_set,
            ),
            CommandPermission(
                source_kind="everyone", destination_kind="same-group", pattern="/v1/*"
            ),
        ]
    )
    keys = CommandPermission.objects.order_by("pk").values_list(
        "source_key", "destination_key", "command_key"
    )
    assert list(keys) == [
        (device.pk, -group.pk, f"*{command_set.pk}"),
        (0, -(2**62) - 1, "/v1/*"),
    ]


def test_rules_go_with_their_device_and_sets_stay_with_their_rules(
    make_device: Any, make_rule: Any, make_set: Any
) -> None:
    make_rule(make_device("lamp"), "everyone", "*")
    Device.objects.get(identifier="lamp").delete()
    assert not CommandPermission.objects.exists()
    reading = make_set("reading", "*")
    make_rule(command=reading)
    with pytest.raises(IntegrityError):
        reading.delete()


def test_no_known_requests_are_decided_for_a_command(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("acl.analysis.what_if.REQUEST_SOURCES", [lambda: pytest.fail("asked")])
    permit("everyone", "itself", "/v1/*")
    assert CommandPermission.objects.count() == 1


def test_a_rule_that_breaks_an_assertion_is_added_only_on_purpose(make_device: Any) -> None:
    make_device("lamp")
    Assertion.objects.create(text="lamp may not /v1/Led.Set lamp")
    words = ("lamp", "itself", "/v1/Led.*")
    assert "breaks an assertion" in permit(*words, code=1)[1]
    assert not CommandPermission.objects.exists()
    assert not Event.objects.filter(kind=Kind.ASSERTION_BROKEN).exists()
    complaint = permit(*words, "--break-expectations")[1]
    assert CommandPermission.objects.count() == 1
    assert Event.objects.filter(kind=Kind.ASSERTION_BROKEN).count() == 1
    assert "does not hold any more: lamp may not" in complaint


def test_a_rule_that_opens_everything_is_warned_of(db: None) -> None:
    assert "warning: this rule" in permit("everyone", "everyone", "*")[1]
