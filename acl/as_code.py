"""All groups, command sets and permissions as one document: exported, reviewed, imported.

The document says everything: an import makes the registry exactly what it says, and what it does
not name goes. Devices are the exception: they are named, never made or removed. The text is
stable: the same registry gives the same lines, sorted by what they say.
"""

import difflib
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

import yaml
from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from acl import notation
from acl.models import CommandPermission, CommandSet, CommandSetPattern
from devices import history
from devices.models import Device, DeviceGroup, Membership
from devices.moments import parse_moment

FORMAT = 1
MAX_DEPTH = 10  # levels of lists and objects
MAX_ERRORS = 20
CHUNK = 500
Entry = dict[str, Any]
Path = str


def export_document() -> Entry:
    """Return the registry's groups, command sets and permissions as plain values."""
    return {
        "format": FORMAT,
        "groups": _exported_groups(),
        "command_sets": [
            _without_empty(
                name=command_set.name,
                description=command_set.description,
                commands=sorted(row.pattern for row in command_set.patterns.all()),
            )
            for command_set in CommandSet.objects.order_by("name").prefetch_related("patterns")
        ],
        "permissions": sorted(
            map(entry_of, CommandPermission.objects.named().order_by().iterator()),
            key=_permission_order,
        ),
    }


def _exported_groups() -> list[Entry]:
    members: dict[int, list[str]] = defaultdict(list)
    for pk, identifier in Device.groups.through.objects.values_list(
        "devicegroup_id", "device__identifier"
    ):
        members[pk].append(identifier)
    return [
        _without_empty(
            name=group.name,
            within=group.parent.name if group.parent is not None else "",
            description=group.description,
            devices=sorted(members[group.pk]),
        )
        for group in sorted(
            DeviceGroup.objects.select_related("parent"), key=lambda group: group.name
        )
    ]


def entry_of(rule: CommandPermission) -> Entry:
    """Return a rule as the document says it; what is as usual is left out."""
    entry: Entry = {
        "effect": str(rule.effect),
        "from": rule.source_text,
        "to": rule.destination_text,
        "command": rule.command_text,
    }
    if not rule.enabled:
        entry["enabled"] = False
    for name in ("valid_from", "valid_until"):
        if (moment := getattr(rule, name)) is not None:
            entry[name] = moment.astimezone(timezone.get_default_timezone()).isoformat()
    return entry | _without_empty(note=rule.note)


def _permission_order(entry: Entry) -> tuple[str, ...]:
    named = (str(entry[name]) for name in ("from", "to", "command", "effect"))
    return (*named, json.dumps(entry, sort_keys=True))


def _without_empty(**fields: Any) -> Entry:
    return {name: value for name, value in fields.items() if value}


def dump(document: Entry, *, as_json: bool = False) -> str:
    """Return the document as text, ending in a line break."""
    if as_json:
        return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    return yaml.dump(
        document,
        Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper),
        sort_keys=False,
        allow_unicode=True,
        width=10_000,
    )


def _bound_depth(events: Iterable[yaml.Event]) -> None:
    depth = 0
    for event in events:
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise ValueError(_("it nests too deep"))


def load(text: str) -> Any:
    """Return the values of a YAML or JSON text, unchecked; JSON is YAML too.

    The text is parsed twice: what nests deeper than a document ever does would exhaust the stack
    of the parser that builds values.
    """
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        _bound_depth(yaml.parse(text, Loader=loader))
        return yaml.load(text, Loader=loader)  # noqa: S506
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ValidationError(_("This is neither YAML nor JSON: %s") % error) from None


def import_document(document: Any, *, dry_run: bool = False) -> list[str]:
    """Make the registry what the document says; return the difference, as lines of a diff.

    All or nothing: raises ValidationError, naming each place that makes no sense, with nothing
    changed. A dry run does it all and takes it back. No lines: there was nothing to change.
    """
    with transaction.atomic(), history.origin(history.Origin.IMPORT):
        before = dump(export_document())
        _Import(_checked(document)).run()
        after = dump(export_document())
        transaction.set_rollback(dry_run)
    return list(
        difflib.unified_diff(
            before.splitlines(), after.splitlines(), "registry", "document", lineterm="", n=2
        )
    )


@dataclass(frozen=True, slots=True)
class Kind:
    """What the entries of a section hold."""

    required: Mapping[str, type]
    optional: Mapping[str, type]


SECTIONS = {
    "groups": Kind({"name": str}, {"within": str, "description": str, "devices": list}),
    "command_sets": Kind({"name": str}, {"description": str, "commands": list}),
    "permissions": Kind(
        {"effect": str, "from": str, "to": str, "command": str},
        {"enabled": bool, "valid_from": datetime, "valid_until": datetime, "note": str},
    ),
}
MUST_BE = {
    str: gettext_lazy("%(path)s: must be text; put it in quotation marks"),
    list: gettext_lazy("%(path)s: must be a list"),
    bool: gettext_lazy("%(path)s: must be true or false"),
    datetime: gettext_lazy(
        "%(path)s: must be a moment with its time zone, such as 2030-01-31T12:00:00+00:00"
    ),
}


def _is_ours(version: Any) -> bool:
    return type(version) is int and version == FORMAT


def _checked(document: Any) -> dict[str, list[Entry]]:
    """Return the sections of a document that has the right shape."""
    if not isinstance(document, dict) or not _is_ours(document.get("format")):
        raise ValidationError(_("The document must begin with “format: %d”.") % FORMAT)
    errors = [
        _("%(path)s: there is no such section") % {"path": name}
        for name in document.keys() - {"format", *SECTIONS}
    ]
    sections: dict[str, list[Entry]] = {}
    for name, kind in SECTIONS.items():
        entries = document.get(name)
        if not isinstance(entries, list):
            errors.append(
                _("%(path)s: this section is needed, as a list; an empty one is []")
                % {"path": name}
            )
            continue
        sections[name] = []
        for position, entry in enumerate(entries):
            checked, found = _checked_entry(f"{name}[{position}]", entry, kind)
            errors += found
            sections[name].append(checked)
    _refuse(errors)
    return sections


def _checked_entry(path: Path, entry: Any, kind: Kind) -> tuple[Entry, list[str]]:
    if not isinstance(entry, dict):
        return {}, [_("%(path)s: must be an object") % {"path": path}]
    errors = [
        _("%(path)s: is needed") % {"path": f"{path}.{name}"}
        for name in kind.required
        if name not in entry
    ]
    checked: Entry = {}
    for name, value in entry.items():
        place = {"path": f"{path}.{name}"}
        wanted = kind.required.get(name) or kind.optional.get(name)
        if wanted is None:
            errors.append(_("%(path)s: there is no such field") % place)
            continue
        checked[name] = moment(value) if wanted is datetime else value
        if not isinstance(checked[name], wanted):
            errors.append(MUST_BE[wanted] % place)
        elif isinstance(value, str) and "\x00" in value:
            errors.append(_("%(path)s: must not hold a NUL character") % place)
        elif wanted is list and not all(isinstance(item, str) for item in value):
            errors.append(_("%(path)s: each item must be text; put it in quotation marks") % place)
    return checked, errors


def moment(value: Any) -> datetime | None:
    """Return an aware moment for what a document says, or None where it says none."""
    text = value.isoformat() if isinstance(value, datetime) else value
    return parse_moment(text) if isinstance(text, str) else None


def _refuse(errors: Iterable[str]) -> None:
    found = list(errors)
    if len(found) > MAX_ERRORS:
        found = [*found[:MAX_ERRORS], _("and %d more") % (len(found) - MAX_ERRORS)]
    if found:
        raise ValidationError(found)


class _Loaded(notation.Names):
    """Names looked up at once for a whole document."""

    def __init__(self, devices: Mapping[str, Device]) -> None:
        self._devices = devices
        self._groups = {group.name: group for group in DeviceGroup.objects.all()}
        self._sets = {command_set.name: command_set for command_set in CommandSet.objects.all()}

    def device(self, identifier: str, field: str) -> Device:
        if identifier not in self._devices:
            raise self.unknown(field, _("No device “%s” is registered."), identifier)
        return self._devices[identifier]

    def group(self, name: str, field: str) -> DeviceGroup:
        if name not in self._groups:
            raise self.unknown(field, _("There is no group named “%s”."), name)
        return self._groups[name]

    def command_set(self, name: str, field: str) -> CommandSet:
        if name not in self._sets:
            raise self.unknown(field, _("There is no command set named “%s”."), name)
        return self._sets[name]


class _Import:
    """One import, within a transaction: first what is new, last what goes."""

    def __init__(self, sections: dict[str, list[Entry]]) -> None:
        self._groups = sections["groups"]
        self._sets = sections["command_sets"]
        self._permissions = sections["permissions"]
        self._devices = _devices_named(self._groups, self._permissions)
        self._errors: list[str] = []

    def run(self) -> None:
        """Change what differs; raises ValidationError with every place that makes no sense."""
        self._once("groups", self._groups)
        self._once("command_sets", self._sets)
        _refuse(self._errors)
        self._make_groups()
        self._make_sets()
        _refuse(self._errors)
        self._make_permissions()
        _refuse(self._errors)
        CommandSet.objects.exclude(name__in=[entry["name"] for entry in self._sets]).delete()
        doomed = DeviceGroup.objects.exclude(name__in=[entry["name"] for entry in self._groups])
        within = list(doomed.exclude(parent=None))
        for group in within:
            group.parent = None
        history.bulk_update(within, ["parent"])
        doomed.delete()

    def _once(self, section: str, entries: Iterable[Entry]) -> None:
        for name, number in Counter(entry["name"] for entry in entries).items():
            if number > 1:
                self._errors.append(
                    _("%(section)s: “%(name)s” is there twice") % {"section": section, "name": name}
                )

    def _try(self, path: Path, act: Callable[[], None]) -> None:
        """Do one entry's part; what is wrong with it is noted with its place."""
        try:
            act()
        except ValidationError as error:
            for field, messages in getattr(error, "error_dict", {"": [error]}).items():
                texts = [text for message in messages for text in message.messages]
                place = f"{path}.{FIELD_NAMES.get(field, field)}" if field else path
                self._errors.extend(f"{place}: {text}" for text in texts)

    def _make_groups(self) -> None:
        existing = {group.name: group for group in DeviceGroup.objects.select_related("parent")}
        parents = {entry["name"]: entry.get("within") for entry in self._groups}
        for position, entry in enumerate(self._groups):
            group = existing.setdefault(entry["name"], DeviceGroup(name=entry["name"]))
            above = group.parent.name if group.parent is not None else None
            if group.pk is None or above != parents[group.name]:
                group.parent = None
            elif group.description == entry.get("description", ""):
                continue
            group.description = entry.get("description", "")
            self._try(f"groups[{position}]", partial(_save, group))
        _refuse(self._errors)
        for position, entry in enumerate(self._groups):
            path = f"groups[{position}]"
            self._try(path, partial(_place, existing, entry))
            self._try(path, partial(self._fill, existing[entry["name"]], entry))

    def _fill(self, group: DeviceGroup, entry: Entry) -> None:
        named = entry.get("devices", [])
        unknown = sorted(set(named) - self._devices.keys())
        if unknown:
            raise ValidationError(
                {"devices": [_("No device “%s” is registered.") % name for name in unknown]}
            )
        wanted = {self._devices[name].pk for name in named}
        held = {row.device_id: row for row in Membership.objects.filter(devicegroup=group)}
        history.bulk_delete([held[pk] for pk in sorted(held.keys() - wanted)])
        history.bulk_create(
            [
                Membership(device_id=pk, devicegroup_id=group.pk)
                for pk in sorted(wanted - held.keys())
            ]
        )

    def _make_sets(self) -> None:
        existing = {
            command_set.name: command_set
            for command_set in CommandSet.objects.prefetch_related("patterns")
        }
        for position, entry in enumerate(self._sets):
            self._try(
                f"command_sets[{position}]",
                partial(_make_set, existing.get(entry["name"]), entry),
            )

    def _make_permissions(self) -> None:
        names = _Loaded(self._devices)
        wanted: dict[str, list[CommandPermission]] = defaultdict(list)
        for position, entry in enumerate(self._permissions):
            self._try(
                f"permissions[{position}]",
                partial(_collect, wanted, entry, names),
            )
        _refuse(self._errors)
        surplus: list[CommandPermission] = []
        for rule in CommandPermission.objects.named().order_by("pk").iterator():
            alike = wanted.get(_canonical(rule))
            if alike:
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


def _devices_named(groups: Iterable[Entry], permissions: Iterable[Entry]) -> dict[str, Device]:
    names = {name for entry in groups for name in entry.get("devices", [])}
    names |= {
        entry[end].removeprefix(notation.DEVICE) for entry in permissions for end in ("from", "to")
    }
    storable = sorted(name for name in names if "\x00" not in name)
    return {
        device.identifier: device
        for start in range(0, len(storable), CHUNK)
        for device in Device.objects.filter(identifier__in=storable[start : start + CHUNK])
    }


def _save(row: Any) -> None:
    row.full_clean()
    row.save()


def _place(groups: Mapping[str, DeviceGroup], entry: Entry) -> None:
    within, group = entry.get("within"), groups[entry["name"]]
    if within is not None and within not in groups:
        raise ValidationError({"parent": _("There is no group named “%s”.") % within})
    parent = groups[within] if within is not None else None
    if group.parent_id != (parent.pk if parent is not None else None):
        group.parent = parent
        _save(group)


def _make_set(command_set: CommandSet | None, entry: Entry) -> None:
    description = entry.get("description", "")
    if command_set is None or command_set.description != description:
        command_set = command_set or CommandSet(name=entry["name"])
        command_set.description = description
        _save(command_set)
    rows = {row.pattern: row for row in command_set.patterns.all()}
    for pattern in sorted(set(entry.get("commands", [])) - rows.keys()):
        row = CommandSetPattern(command_set=command_set, pattern=pattern)
        try:
            _save(row)
        except ValidationError as error:
            raise ValidationError({"commands": error.messages}) from None
    for pattern in rows.keys() - set(entry.get("commands", [])):
        rows[pattern].delete()


def _rule_of(entry: Entry, names: notation.Names) -> CommandPermission:
    rule = notation.read_rule(
        source=entry["from"],
        destination=entry["to"],
        command=entry["command"],
        names=names,
        effect=entry["effect"],
        enabled=entry.get("enabled", True),
        valid_from=entry.get("valid_from"),
        valid_until=entry.get("valid_until"),
        note=entry.get("note", ""),
    )
    relations = [field.name for field in CommandPermission._meta.fields if field.is_relation]
    rule.clean_fields(exclude=relations)
    rule.clean()
    return rule


def _canonical(rule: CommandPermission) -> str:
    return json.dumps(entry_of(rule), sort_keys=True)


def _collect(
    wanted: dict[str, list[CommandPermission]], entry: Entry, names: notation.Names
) -> None:
    rule = _rule_of(entry, names)
    wanted[_canonical(rule)].append(rule)
