"""Devices by conditions on the command line: `--filter KEY=VALUE`."""

from argparse import ArgumentTypeError
from typing import Any

from django.core.exceptions import FieldError, ValidationError
from django.core.management.base import CommandError, CommandParser

from devices.management.base import moment
from devices.models import Device
from devices.models.device import DeviceQuerySet

FILTERS = ("identifier", "kind", "name", "description", "groups", "enabled", "created", "last_seen")
NO_FILTER = (ArgumentTypeError, FieldError, KeyError, TypeError, ValidationError, ValueError)


def add_filter(parser: CommandParser) -> None:
    parser.add_argument(
        "--filter",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help=f"only such devices; KEY is one of {', '.join(FILTERS)}, "
        "with a lookup such as __startswith, __icontains or __lt if wanted",
    )


def chosen(conditions: list[str]) -> DeviceQuerySet:
    """Return the devices for which all conditions hold; ends with 2 where one is none."""
    devices = Device.objects.all()
    for condition in conditions:
        key, equals, value = condition.partition("=")
        field, _underscores, lookup = key.partition("__")
        if not equals or field not in FILTERS:
            raise CommandError(
                f"“{condition}” is no filter: write KEY=VALUE, KEY one of {', '.join(FILTERS)}",
                returncode=2,
            )
        try:
            wanted = _wanted(field, lookup, value)
            if field == "groups":
                key = f"groups__name__{lookup}" if lookup else "groups__name"
            devices = devices.filter(pk__in=Device.objects.filter(**{key: wanted}).values("pk"))
        except NO_FILTER as error:
            raise CommandError(f"“{condition}” is no filter: {error}", returncode=2) from error
    return devices


def _wanted(field: str, lookup: str, value: str) -> Any:
    """Return what a field is compared with; raises where the text is none of its values."""
    if field == "enabled" or lookup == "isnull":
        return {"true": True, "false": False}[value.lower()]
    if field in {"created", "last_seen"}:
        return None if value.lower() == "none" else moment(value)
    return value.split(",") if lookup == "in" else value
