"""Devices by conditions on the command line: `--filter KEY=VALUE`.

A condition that names what is not there is refused: nothing found would look like an answer.
"""

import re
from argparse import ArgumentTypeError
from contextlib import suppress
from typing import Any

from django.core.exceptions import FieldError, ValidationError
from django.core.management.base import CommandError, CommandParser

from devices.management.base import moment
from devices.models import AttributeDefinition, Device, DeviceGroup
from devices.models.device import DeviceQuerySet

FILTERS = ("identifier", "kind", "name", "description", "groups", "enabled", "created", "last_seen")
ATTRIBUTES = "attributes"  # with the name of one that has a type, in place of a lookup
NO_FILTER = (ArgumentTypeError, FieldError, TypeError, ValidationError, ValueError, re.error)
OR_BELOW = "or_below"  # of groups: in the group of this name, or in one that lies in it
# Look-ups that name something; the others are patterns and bounds.
EXACT = ("", "exact", "in", OR_BELOW)


def add_filter(parser: CommandParser) -> None:
    parser.add_argument(
        "--filter",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help=f"only such devices; KEY is one of {', '.join(FILTERS)}, "
        "with a lookup such as __startswith, __icontains or __lt if wanted; "
        "groups__or_below=NAME also finds those in the groups that lie in it, and "
        f"{ATTRIBUTES}__NAME=VALUE those with that value of an attribute that has a type",
    )


def chosen(conditions: list[str]) -> DeviceQuerySet:
    """Return the devices for which all conditions hold.

    Ends with 2 where one makes no sense, with 1 where one names what is not there.
    """
    devices = Device.objects.all()
    for condition in conditions:
        key, equals, value = condition.partition("=")
        field, _underscores, lookup = key.partition("__")
        if equals and lookup and field == ATTRIBUTES:
            devices = _with_attribute(devices, condition, lookup, value)
            continue
        if not equals or field not in FILTERS:
            raise CommandError(
                f"“{condition}” is no filter: write KEY=VALUE, KEY one of {', '.join(FILTERS)}",
                returncode=2,
            )
        try:
            wanted = _wanted(field, lookup, value)
            _check_named(key, field, lookup, wanted)
            if field == "groups" and lookup == OR_BELOW:
                devices = devices.in_group_or_below(DeviceGroup.objects.get(name=wanted).pk)
                continue
            if field == "groups":
                key = f"groups__name__{lookup}" if lookup else "groups__name"
            devices = devices.filter(pk__in=Device.objects.filter(**{key: wanted}).values("pk"))
        except NO_FILTER as error:
            raise CommandError(f"“{condition}” is no filter: {error}", returncode=2) from error
    return devices


def _with_attribute(
    devices: DeviceQuerySet, condition: str, name: str, text: str
) -> DeviceQuerySet:
    value: Any = text
    try:
        definition = AttributeDefinition.objects.named(name)
        with suppress(ValueError, KeyError):  # of what is none, the check says so
            value = definition.read(text)
        definition.check_value(value)
    except ValidationError as error:
        raise CommandError(f"“{condition}”: {error.messages[0]}", returncode=2) from error
    found: DeviceQuerySet = definition.holding(devices, value)
    return found


def _wanted(field: str, lookup: str, value: str) -> Any:
    """Return what a field is compared with; raises where the text is none of its values."""
    if field == "enabled" or lookup == "isnull":
        truths = {"true": True, "false": False}
        if value.lower() not in truths:
            raise ValueError("write true or false")
        return truths[value.lower()]
    if lookup in {"regex", "iregex"}:
        re.compile(value)
    read = moment if field in {"created", "last_seen"} else str
    if lookup == "in":
        return [read(one) for one in value.split(",")]
    return None if read is moment and value.lower() == "none" else read(value)


def _check_named(key: str, field: str, lookup: str, wanted: Any) -> None:
    """Find each group, kind and device that is named; none of them is a pattern of nothing."""
    named = wanted if isinstance(wanted, list) else [wanted]
    for name in named:
        if field == "kind" and lookup in EXACT and name not in Device.Kind.values:
            raise ValueError(f"there is no kind “{name}”, but {' and '.join(Device.Kind)}")
        if field == "groups" and lookup != "isnull":
            by = "name" if lookup in EXACT else f"name__{lookup}"
            found: Any = DeviceGroup.objects.filter(**{by: name})
        elif field == "identifier" and lookup in EXACT:
            found = Device.objects.filter(identifier=name)
        else:
            continue
        if not found.exists():
            noun = "group" if field == "groups" else "device"
            raise CommandError(f"“{key}={name}”: there is no such {noun}", returncode=1)
