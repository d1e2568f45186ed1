"""How staff write a rule in words: on the command line, in assertions, in a document.

Sender and receiver: an identifier, `group:NAME`, `everyone`; a receiver also `itself` or
`same-group`. An identifier that reads like one of these is written `device:IDENTIFIER`.
Commands: a pattern, or `set:NAME`.
"""

from typing import Any

from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

from acl.models import CommandPermission, CommandSet
from devices.addresses import is_storable
from devices.models import Device, DeviceGroup

DEVICE, GROUP, SET = "device:", "group:", "set:"
EVERYONE, ITSELF, SAME_GROUP = "everyone", "itself", "same-group"


class Names:
    """Finds what a name stands for; raises ValidationError, at the field, where it is nothing."""

    def device(self, identifier: str, field: str) -> Device:
        """Return the device of exactly that identifier."""
        row = (
            Device.objects.filter(identifier=identifier).first()
            if is_storable(identifier)
            else None
        )
        if row is None:
            raise self.unknown(field, _("No device “%s” is registered."), identifier)
        return row

    def group(self, name: str, field: str) -> DeviceGroup:
        """Return the group of that name."""
        rows = DeviceGroup.objects.filter(name=name)
        row = rows.first() if is_storable(name) else None
        if row is None:
            raise self.unknown(field, _("There is no group named “%s”."), name)
        return row

    def command_set(self, name: str, field: str) -> CommandSet:
        """Return the command set of that name."""
        rows = CommandSet.objects.filter(name=name)
        row = rows.first() if is_storable(name) else None
        if row is None:
            raise self.unknown(field, _("There is no command set named “%s”."), name)
        return row

    @staticmethod
    def unknown(field: str, message: str, name: str) -> ValidationError:
        """Return the refusal of a name."""
        return ValidationError({field: message % name}, code="unknown")


REGISTRY = Names()


def read_rule(
    *, source: str, destination: str, command: str, names: Names = REGISTRY, **fields: Any
) -> CommandPermission:
    """Return an unsaved, unchecked rule; raises ValidationError where a name is unknown."""
    return CommandPermission(
        **read_end("source", source, names),
        **read_end("destination", destination, names),
        **read_command(command, names),
        **fields,
    )


def read_end(end: str, text: str, names: Names = REGISTRY) -> dict[str, Any]:
    """Return the fields that `text` means for the `source` or the `destination` of a rule."""
    if text == EVERYONE or (end == "destination" and text in {ITSELF, SAME_GROUP}):
        return {f"{end}_kind": text}
    if text.startswith(GROUP):
        group = names.group(text.removeprefix(GROUP), f"{end}_group")
        return {f"{end}_kind": "group", f"{end}_group": group}
    device = names.device(text.removeprefix(DEVICE), f"{end}_device")
    return {f"{end}_kind": "device", f"{end}_device": device}


def read_command(text: str, names: Names = REGISTRY) -> dict[str, Any]:
    """Return the fields that `text` means for the command of a rule."""
    if not text.startswith(SET):
        return {"pattern": text}
    return {"command_set": names.command_set(text.removeprefix(SET), "command_set")}
