"""How staff write a rule in words: on the command line, in assertions, in a document.

Sender and receiver: an identifier, `group:NAME`, `everyone`; a receiver also `itself` or
`same-group`. An identifier that reads like one of these is written `device:IDENTIFIER`.
Commands: a pattern, or `set:NAME`.
"""

import re
import shlex
from collections.abc import Iterable
from typing import Any, TypeVar

from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

from acl.models import CommandPermission, CommandSet
from acl.models.command_permission import DEVICE, GROUP, NAMELESS_KINDS, SET, DestinationKind
from devices.database.batches import batched
from devices.models import Device, DeviceGroup
from devices.values.addresses import is_storable

MAX_NAMES = 500  # in one statement
QUOTED = r"""\\.|"(?:\\.|[^"\\])*"|'[^']*'"""  # by a backslash or by quotation marks
REMARK = re.compile(rf"""\#.*|((?:{QUOTED}|[^\s"'\\])+)""")  # or a whole word, which is kept
SPACES = re.compile(rf"({QUOTED})|\s+")
Row = TypeVar("Row", Device, DeviceGroup, CommandSet)


class Names:
    """What the ends and commands of rules name, looked up together: a statement a model.

    Its methods raise ValidationError, at the field, for an unknown name.
    """

    def __init__(self, ends: Iterable[str], commands: Iterable[str] = ()) -> None:
        named = set(ends)
        devices = {end.removeprefix(DEVICE) for end in named if not end.startswith(GROUP)}
        self.devices = rows_by(Device, "identifier", devices)
        self.groups = rows_by(DeviceGroup, "name", _after(GROUP, named))
        self.sets = rows_by(CommandSet, "name", _after(SET, commands))

    def device(self, identifier: str, field: str) -> Device:
        row = self.devices.get(identifier)
        text = _("No device “%s” is registered.")
        if identifier in {DestinationKind.ITSELF, DestinationKind.SAME_GROUP}:
            text = _("No device “%s” is registered. Only a receiver is itself or same-group.")
        return row or _refuse(field, text, identifier)

    def group(self, name: str, field: str) -> DeviceGroup:
        return self.groups.get(name) or _refuse(field, _("There is no group named “%s”."), name)

    def command_set(self, name: str, field: str) -> CommandSet:
        row = self.sets.get(name)
        return row or _refuse(field, _("There is no command set named “%s”."), name)


def rows_by(model: type[Row], field: str, names: Iterable[str]) -> dict[str, Row]:
    """Return the rows of these names, by name; a bounded number of names a statement."""
    wanted = sorted(filter(is_storable, names))
    return {
        getattr(row, field): row
        for some in batched(wanted, MAX_NAMES)
        for row in model._default_manager.filter(**{f"{field}__in": some})
    }


def words_of(line: str) -> list[str]:
    """Return the words of a line, as a shell does: `#` begins a remark where a word could begin.

    Raises ValueError where a quotation mark is not closed.
    """
    return shlex.split(REMARK.sub(lambda found: found[1] or "", line))


def with_single_spaces(line: str) -> str:
    """Return a line with single spaces between its words; what is quoted stays as it is."""
    ends = {0, len(line)}
    return SPACES.sub(
        lambda found: found[1] or (" " if ends.isdisjoint(found.span()) else ""), line
    )


def _after(prefix: str, texts: Iterable[str]) -> set[str]:
    return {text.removeprefix(prefix) for text in texts if text.startswith(prefix)}


def _refuse(field: str, message: str, name: str) -> Any:
    raise ValidationError({field: message % name}, code="unknown")


def read_rule(
    *, source: str, destination: str, command: str, names: Names | None = None, **fields: Any
) -> CommandPermission:
    """Return an unsaved, unchecked rule; raises ValidationError where a name is unknown."""
    names = names or Names([source, destination], [command])
    sent: dict[str, Any] = {"pattern": command}
    if command.startswith(SET):
        sent = {"command_set": names.command_set(command.removeprefix(SET), "command_set")}
    return CommandPermission(
        **read_end("source", source, names),
        **read_end("destination", destination, names),
        **sent,
        **fields,
    )


def read_end(end: str, text: str, names: Names) -> dict[str, Any]:
    """Return the fields that `text` means for the `source` or the `destination` of a rule."""
    if text in NAMELESS_KINDS.get(end, NAMELESS_KINDS["source"]):
        return {f"{end}_kind": text}
    if text.startswith(GROUP):
        group = names.group(text.removeprefix(GROUP), f"{end}_group")
        return {f"{end}_kind": "group", f"{end}_group": group}
    device = names.device(text.removeprefix(DEVICE), f"{end}_device")
    return {f"{end}_kind": "device", f"{end}_device": device}
