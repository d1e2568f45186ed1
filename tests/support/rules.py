"""Rules, made of what a test names."""

from typing import Any

from acl.models import CommandPermission, CommandSet
from devices.models import Device, DeviceGroup


def end(name: str, value: Any) -> dict[str, Any]:
    """Return the fields of one end of a rule: a device, a group, or the kind itself."""
    if isinstance(value, Device):
        return {f"{name}_kind": "device", f"{name}_device": value}
    if isinstance(value, DeviceGroup):
        return {f"{name}_kind": "group", f"{name}_group": value}
    return {f"{name}_kind": value}


def make_rule(
    source: Any = "everyone",
    destination: Any = "everyone",
    command: str | CommandSet = "*",
    **overrides: Any,
) -> CommandPermission:
    """Save a rule from a device, a group or everyone to one of them, for a command or a set."""
    fields = end("source", source) | end("destination", destination)
    fields["pattern" if isinstance(command, str) else "command_set"] = command
    rule = CommandPermission(**(fields | overrides))
    rule.full_clean(validate_constraints=False)
    rule.save()
    return rule
