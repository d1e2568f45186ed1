from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import CommandError, CommandParser

from devices.management.exporting import ExportCommand
from devices.management.filters import add_filter, chosen
from devices.models import DeviceGroup
from devices.transfer.exporting import Export, export_devices, export_groups
from devices.transfer.formats import Format


class Command(ExportCommand):
    help = (
        "Write devices, by identifier, to FILE or the screen: CSV, JSON, NDJSON or XLSX.\n\n"
        "--filter chooses them and may be given again; all must hold. Examples:\n"
        "  --filter groups=Roof --filter enabled=false --filter identifier__startswith=//h/\n"
        "  --filter last_seen__lt=2026-01-31 --filter last_seen=none"
    )
    noun = ("device",)
    formats = tuple(Format)
    json_format = Format.JSON

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        add_filter(parser)
        parser.add_argument(
            "--groups", action="store_true", help="write the groups in place of the devices"
        )

    def export(self, kind: Format, **options: Any) -> Export:
        if options["groups"] and options["filter"]:
            raise CommandError("--filter chooses devices, not groups", returncode=2)
        try:
            if options["groups"]:
                self.noun = ("group",)
                return export_groups(DeviceGroup.objects.all(), kind)
            return export_devices(chosen(options["filter"]), kind)
        except ValidationError as error:
            raise CommandError(" ".join(error.messages), returncode=2) from error
