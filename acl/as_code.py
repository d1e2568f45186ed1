"""All groups, command sets and permissions as one document: exported, reviewed, imported.

The document says everything: an import makes the registry exactly what it says, and what it does
not name is deleted. Devices are the exception: they are named, never made or deleted. The text is
stable: the same registry gives the same lines, sorted by what they say.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC
from typing import Any, Literal

import msgspec
from django.core.exceptions import ValidationError
from django.db import connection, transaction
from django.utils.translation import gettext as _

from acl import notation
from acl.analysis.what_if import Consequences, DecisionsBefore
from acl.documents import Entry, Text, complaint, difference, digest_of, dump, twice
from acl.models import CommandPermission, CommandSet, CommandSetPattern
from devices import history
from devices.database.turns import take_turn
from devices.models import Device, DeviceGroup, Membership
from devices.models.group import misplaced
from devices.values.moments import parse_moment

MAX_ERRORS = 20


class GroupEntry(Entry, frozen=True):
    """A group, the group that it lies in, and its devices."""

    name: Text
    within: Text = ""
    description: Text = ""
    devices: tuple[Text, ...] = ()


class CommandSetEntry(Entry, frozen=True):
    name: Text
    description: Text = ""
    commands: tuple[Text, ...] = ()


class PermissionEntry(Entry, frozen=True, rename={"source": "from", "destination": "to"}):
    """A rule, in the words of `acl.notation`; moments are ISO 8601 with a time zone."""

    effect: Text
    source: Text
    destination: Text
    command: Text
    enabled: bool = True
    valid_from: Text = ""
    valid_until: Text = ""
    note: Text = ""


SECTIONS: dict[str, type[Entry]] = {
    "groups": GroupEntry,
    "command_sets": CommandSetEntry,
    "permissions": PermissionEntry,
}


class Document(msgspec.Struct, forbid_unknown_fields=True):
    """The sections, as lists of entries."""

    format: Literal[1]
    groups: list[Any]
    command_sets: list[Any]
    permissions: list[Any]


# --- Export ---------------------------------------------------------------------------------


def export_document() -> dict[str, Any]:
    """Return the registry's groups, command sets and permissions as plain values."""
    members: dict[int, list[str]] = defaultdict(list)
    for pk, identifier in Device.groups.through.objects.values_list(
        "devicegroup_id", "device__identifier"
    ):
        members[pk].append(identifier)
    groups = [
        GroupEntry(
            name=group.name,
            within=group.parent.name if group.parent is not None else "",
            description=group.description,
            devices=tuple(sorted(members[group.pk])),
        )
        for group in DeviceGroup.objects.select_related("parent")
    ]
    command_sets = [
        CommandSetEntry(
            name=command_set.name,
            description=command_set.description,
            commands=tuple(sorted(row.pattern for row in command_set.patterns.all())),
        )
        for command_set in CommandSet.objects.prefetch_related("patterns")
    ]
    permissions = map(entry_of, CommandPermission.objects.named().order_by())
    document = Document(
        format=1,
        groups=sorted(groups, key=lambda group: group.name),
        command_sets=sorted(command_sets, key=lambda command_set: command_set.name),
        permissions=sorted(permissions, key=_permission_order),
    )
    plain: dict[str, Any] = msgspec.to_builtins(document)
    return plain


def entry_of(rule: CommandPermission) -> PermissionEntry:
    """Return a rule as the document says it."""
    moments = {
        name: value.astimezone(UTC).isoformat()
        for name in ("valid_from", "valid_until")
        if (value := getattr(rule, name)) is not None
    }
    return PermissionEntry(
        effect=str(rule.effect),
        source=rule.source_text,
        destination=rule.destination_text,
        command=rule.command_text,
        enabled=rule.enabled,
        note=rule.note,
        **moments,
    )


def _permission_order(entry: PermissionEntry) -> tuple[str, ...]:
    whole = json.dumps(msgspec.to_builtins(entry), sort_keys=True)
    return entry.source, entry.destination, entry.command, entry.effect, whole


# --- Reading --------------------------------------------------------------------------------


def _checked(values: Any) -> Document:
    """Return the document of entries that these values are; raises ValidationError for others."""
    try:
        document = msgspec.convert(values, Document)
    except (msgspec.ValidationError, UnicodeEncodeError) as error:
        raise ValidationError(
            _("The document must hold “format: 1” and three lists: %s") % error
        ) from None
    errors: list[str] = []
    for section, kind in SECTIONS.items():
        entries = list(_entries(kind, section, getattr(document, section), errors))
        setattr(document, section, entries)
    _refuse(errors)
    return document


def _entries(
    kind: type[Entry], section: str, values: list[Any], errors: list[str]
) -> Iterator[Entry]:
    for position, value in enumerate(values):
        try:
            yield msgspec.convert(value, kind)
        except (msgspec.ValidationError, UnicodeEncodeError) as error:
            path, text = complaint(error)
            errors.append(f"{section}[{position}]{path}: {text}")


def _refuse(errors: list[str]) -> None:
    if len(errors) > MAX_ERRORS:
        errors = [*errors[:MAX_ERRORS], _("and %d more") % (len(errors) - MAX_ERRORS)]
    if errors:
        raise ValidationError(errors)


# --- Import ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import changes: the lines of a diff, the state it began with, the consequences."""

    difference: list[str]
    digest: str
    consequences: Consequences


def import_document(
    values: Any,
    *,
    dry_run: bool = False,
    expect: str = "",
    break_assertions: bool = False,
    is_watched: bool = False,
) -> Imported:
    """Make the registry what the document says; without a difference, nothing was to be done.

    All or nothing. Raises ValidationError, and changes nothing, for a document with errors, each
    named with its place; where the registry is not in the state that `expect` names; and where an
    assertion that holds would break, unless that is wanted, or `is_watched`: then the caller asks,
    and leaves the events of broken assertions. A dry run is rolled back at the end.
    """
    document = _checked(values)
    with locked(), history.origin(history.Origin.IMPORT):
        before, state = dump(export_document()), DecisionsBefore()
        if expect and expect != digest_of(before):
            raise ValidationError(
                _("The registry was changed since that dry run. Make another, and review it.")
            )
        _Import(document).run()
        after, consequences = dump(export_document()), state.compare(records=not is_watched)
        if consequences.broken and not (dry_run or break_assertions or is_watched):
            raise ValidationError(
                [_("This breaks an assertion: %s") % one for one in consequences.broken]
                + [_("Nothing was changed; --break-assertions does it all the same.")]
            )
        transaction.set_rollback(dry_run)
    return Imported(difference(before, after), digest_of(before), consequences)


@contextmanager
def locked() -> Iterator[None]:
    """Lock others out of writing, since the import would overlook what they write; they may read.

    The turn with the groups comes first, as for whoever moves one: else two would wait for each
    other. SQLite has one writer anyway.
    """
    models = (DeviceGroup, Membership, CommandSet, CommandSetPattern, CommandPermission)
    tables = ", ".join(connection.ops.quote_name(model._meta.db_table) for model in models)
    with transaction.atomic():
        take_turn(DeviceGroup._meta.db_table)
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute(f"LOCK TABLE {tables} IN SHARE ROW EXCLUSIVE MODE")
        yield


class _Import:
    """One import, within a transaction: it creates what is new first, and deletes last."""

    def __init__(self, document: Document) -> None:
        self._groups: list[GroupEntry] = document.groups
        self._sets: list[CommandSetEntry] = document.command_sets
        self._permissions: list[PermissionEntry] = document.permissions
        self._members = notation.rows_by(
            Device, "identifier", {name for entry in self._groups for name in entry.devices}
        )
        self._errors: list[str] = []

    def run(self) -> None:
        """Change what differs; raises ValidationError with every error, each with its place."""
        self._errors += twice("groups", (entry.name for entry in self._groups))
        self._errors += twice("command_sets", (entry.name for entry in self._sets))
        _refuse(self._errors)
        doomed = DeviceGroup.objects.exclude(name__in=[entry.name for entry in self._groups])
        within = list(doomed.exclude(parent=None))  # first, or they would count as levels
        for group in within:
            group.parent = None
        history.bulk_update(within, ["parent"])
        self._make_groups()
        for position, entry in enumerate(self._sets):
            with self._at(f"command_sets[{position}]"):
                _make_set(entry)
        _refuse(self._errors)
        self._make_permissions()
        CommandSet.objects.exclude(name__in=[entry.name for entry in self._sets]).delete()
        doomed.delete()

    @contextmanager
    def _at(self, path: str) -> Iterator[None]:
        """Import one entry; note what is wrong with it, and where it stands in the document."""
        try:
            yield
        except ValidationError as error:
            for field, messages in getattr(error, "error_dict", {"": [error]}).items():
                texts = [text for message in messages for text in message.messages]
                place = f"{path}.{FIELD_NAMES.get(field, field)}" if field else path
                self._errors.extend(f"{place}: {text}" for text in texts)

    def _make_groups(self) -> None:
        existing = {group.name: group for group in DeviceGroup.objects.select_related("parent")}
        groups = {
            entry.name: existing.get(entry.name, DeviceGroup(name=entry.name))
            for entry in self._groups
        }
        changed: list[DeviceGroup] = []
        for position, entry in enumerate(self._groups):
            group, parent = groups[entry.name], groups.get(entry.within)
            is_same = (group.parent, group.description) == (parent, entry.description)
            if group.pk is None or not is_same:
                group.parent, group.description = parent, entry.description
                changed.append(group)
                with self._at(f"groups[{position}]"):
                    group.clean_fields(exclude=["parent"])
            with self._at(f"groups[{position}]"):
                if entry.within and parent is None:
                    text = _("There is no group named “%s”.") % entry.within
                    raise ValidationError({"parent": text})
            with self._at(f"groups[{position}]"):
                if unknown := sorted(set(entry.devices) - self._members.keys()):
                    texts = [_("No device “%s” is registered.") % name for name in unknown]
                    raise ValidationError({"devices": texts})
        positions = {entry.name: position for position, entry in enumerate(self._groups)}
        for path, error in misplaced({entry.name: entry.within for entry in self._groups}):
            with self._at(f"groups[{positions[path[0]]}]"):
                raise error
        if self._errors:  # the command sets may have some, too
            return
        DeviceGroup.save_tree(changed)
        for entry in self._groups:
            self._fill(groups[entry.name], entry)

    def _fill(self, group: DeviceGroup, entry: GroupEntry) -> None:
        wanted = {self._members[name].pk for name in entry.devices}
        held = {row.device_id: row for row in Membership.objects.filter(devicegroup=group)}
        history.bulk_delete([held[pk] for pk in sorted(held.keys() - wanted)])
        history.bulk_create(
            [
                Membership(device_id=pk, devicegroup_id=group.pk)
                for pk in sorted(wanted - held.keys())
            ]
        )

    def _make_permissions(self) -> None:
        ends = {end for entry in self._permissions for end in (entry.source, entry.destination)}
        names = notation.Names(ends, {entry.command for entry in self._permissions})
        rules = CommandPermission.objects.named().order_by("pk")  # of equals, the oldest stays
        existing = [(rule, entry_of(rule)) for rule in rules]
        unchanged = Counter(entry for _rule, entry in existing)
        wanted: dict[PermissionEntry, list[CommandPermission]] = defaultdict(list)
        for position, entry in enumerate(self._permissions):
            with self._at(f"permissions[{position}]"):
                rule = _rule_of(entry, names)
                said = entry_of(rule)
                if unchanged[said]:  # what was accepted before stays
                    unchanged[said] -= 1
                else:
                    relations = [field.name for field in rule._meta.fields if field.is_relation]
                    rule.clean_fields(exclude=relations)
                    rule.clean()
                wanted[said].append(rule)
        _refuse(self._errors)
        surplus: list[CommandPermission] = []
        for rule, said in existing:
            if alike := wanted.get(said):
                alike.pop()
            else:
                surplus.append(rule)
        history.bulk_delete(surplus)
        history.bulk_create([rule for rules in wanted.values() for rule in rules])


FIELD_NAMES = {
    "source_device": "from",
    "source_group": "from",
    "source_kind": "from",
    "destination_device": "to",
    "destination_group": "to",
    "destination_kind": "to",
    "pattern": "command",
    "command_set": "command",
    "parent": "within",
    "__all__": "",
}


def _make_set(entry: CommandSetEntry) -> None:
    command_set = CommandSet.objects.filter(name=entry.name).first()
    if command_set is None or command_set.description != entry.description:
        command_set = command_set or CommandSet(name=entry.name)
        command_set.description = entry.description
        command_set.full_clean()
        command_set.save()
    try:
        command_set.replace_commands(entry.commands)
    except ValidationError as error:
        raise ValidationError({"commands": error.messages}) from None


def _rule_of(entry: PermissionEntry, names: notation.Names) -> CommandPermission:
    """Return the rule that an entry says, unchecked and not saved; raises ValidationError."""
    moments = {name: parse_moment(getattr(entry, name)) for name in ("valid_from", "valid_until")}
    for name, value in moments.items():
        if value is None and getattr(entry, name):
            text = _("must be a moment with its time zone, such as 2030-01-31T12:00:00+00:00")
            raise ValidationError({name: text})
    return notation.read_rule(
        source=entry.source,
        destination=entry.destination,
        command=entry.command,
        names=names,
        effect=entry.effect,
        enabled=entry.enabled,
        note=entry.note,
        **moments,
    )
