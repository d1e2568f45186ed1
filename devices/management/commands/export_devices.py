"""Write devices into a file."""

from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import CommandError, CommandParser

from devices.management.base import RegistryCommand
from devices.management.filters import add_filter, chosen
from devices.models import DeviceGroup
from devices.transfer.exporting import export_devices, export_groups
from devices.transfer.formats import Format, format_of


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
        add_filter(parser)
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
                else export_devices(chosen(options["filter"]), kind)
            )
        except ValidationError as error:
            raise CommandError(" ".join(error.messages), returncode=2) from error
        with export.file as file:
            self.hand_out(file, output)
        self.stderr.write(f"{export.rows:,} {'groups' if options['groups'] else 'devices'}")

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
