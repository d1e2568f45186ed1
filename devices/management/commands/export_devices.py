"""Write devices into a file."""

import shutil
from argparse import ArgumentTypeError
from typing import IO, Any

from django.core.exceptions import FieldError, ValidationError
from django.core.management.base import CommandError, CommandParser

from devices.management.base import RegistryCommand, moment
from devices.models import Device, DeviceGroup
from devices.models.device import DeviceQuerySet
from devices.transfer.exporting import export_devices, export_groups
from devices.transfer.formats import Format, format_of

FILTERS = ("identifier", "kind", "name", "description", "groups", "enabled", "created", "last_seen")
NO_FILTER = (ArgumentTypeError, FieldError, KeyError, TypeError, ValidationError, ValueError)


class Command(RegistryCommand):
    """`export_devices`: CSV, JSON, NDJSON or XLSX, whole or not at all; never a secret."""

    help = (
        "Write devices, by identifier, to FILE or the screen: CSV, JSON, NDJSON or XLSX.\n\n"
        "--filter chooses them and may be given again; all must hold. Examples:\n"
        "  --filter groups=Roof --filter enabled=false --filter identifier__startswith=//h/\n"
        "  --filter last_seen__lt=2026-01-31 --filter last_seen=none"
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the command line; `--json` is the same as `--format json`."""
        super().add_arguments(parser)
        parser.add_argument(
            "--format",
            choices=Format.values,
            help="what to write (default: what the name of FILE tells, else csv)",
        )
        parser.add_argument("--output", metavar="FILE", help="where to (default: the screen)")
        parser.add_argument(
            "--filter",
            action="append",
            default=[],
            metavar="KEY=VALUE",
            help=f"only such devices; KEY is one of {', '.join(FILTERS)}, "
            "with a lookup such as __startswith, __icontains or __lt if wanted",
        )
        parser.add_argument(
            "--groups", action="store_true", help="write the groups in place of the devices"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Write."""
        output = options["output"]
        kind = self._format(options)
        if options["groups"] and options["filter"]:
            raise CommandError("--filter chooses devices, not groups", returncode=2)
        try:
            export = (
                export_groups(DeviceGroup.objects.all(), kind)
                if options["groups"]
                else export_devices(self._chosen(options["filter"]), kind)
            )
        except ValidationError as error:
            raise CommandError(" ".join(error.messages), returncode=2) from error
        with export.file as file:
            self._hand_out(file, output)
        self.stderr.write(f"{export.rows:,} {'groups' if options['groups'] else 'devices'}")

    def _hand_out(self, file: IO[bytes], output: str | None) -> None:
        """Copy a complete file to where it goes; bytes where standard output takes them."""
        if output is None:
            raw = getattr(self.stdout, "buffer", None)
            if raw is None:
                self.stdout.write(file.read().decode(), ending="")
            else:
                shutil.copyfileobj(file, raw)
            return
        self.write_whole(output, file)

    @staticmethod
    def _format(options: dict[str, Any]) -> Format:
        if options["format"]:
            return Format(options["format"])
        if options["json"]:
            return Format.JSON
        try:
            return format_of(options["output"]) if options["output"] else Format.CSV
        except ValidationError as error:
            raise CommandError(f"{error.messages[0]} Use --format.", returncode=2) from error

    @classmethod
    def _chosen(cls, conditions: list[str]) -> DeviceQuerySet:
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
                wanted = cls._wanted(field, lookup, value)
                if field == "groups":
                    key = f"groups__name__{lookup}" if lookup else "groups__name"
                devices = devices.filter(pk__in=Device.objects.filter(**{key: wanted}).values("pk"))
            except NO_FILTER as error:
                raise CommandError(f"“{condition}” is no filter: {error}", returncode=2) from error
        return devices

    @staticmethod
    def _wanted(field: str, lookup: str, value: str) -> Any:
        """Return what a field is compared with; raises where the text is none of its values."""
        if field == "enabled" or lookup == "isnull":
            return {"true": True, "false": False}[value.lower()]
        if field in {"created", "last_seen"}:
            return None if value.lower() == "none" else moment(value)
        return value.split(",") if lookup == "in" else value
