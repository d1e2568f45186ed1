"""Factories for rules."""

from collections.abc import Callable
from typing import Any

import pytest

from acl.models import CommandPermission, CommandSet
from devices.models import Device, DeviceGroup


def end(name: str, value: Any) -> dict[str, Any]:
    """Return the fields of one end of a rule: a device, a group, or the kind itself."""
    if isinstance(value, Device):
        return {f"{name}_kind": "device", f"{name}_device": value}
    if isinstance(value, DeviceGroup):
        return {f"{name}_kind": "group", f"{name}_group": value}
    return {f"{name}_kind": value}


@pytest.fixture
def make_set(db: None) -> Callable[..., CommandSet]:
    def make(name: str, *patterns: str) -> CommandSet:
        command_set = CommandSet(name=name)
        command_set.full_clean(validate_constraints=False)
        command_set.save()
        for pattern in patterns:
            row = command_set.patterns.model(command_set=command_set, pattern=pattern)
            row.full_clean(validate_constraints=False)
            row.save()
        return command_set

    return make


@pytest.fixture
def make_rule(db: None) -> Callable[..., CommandPermission]:
    def make(
        source: Any = "everyone",
        destination: Any = "everyone",
        command: str | CommandSet = "*",
        **overrides: Any,
    ) -> CommandPermission:
        fields = end("source", source) | end("destination", destination)
        fields["pattern" if isinstance(command, str) else "command_set"] = command
        rule = CommandPermission(**(fields | overrides))
        rule.full_clean(validate_constraints=False)
        rule.save()
        return rule

    return make
