from typing import Any

from django.core.management.base import CommandParser
from django.db.models import Prefetch

from devices.management.base import RegistryCommand, add_limit, fields_of
from devices.management.filters import add_filter, chosen
from devices.models import DeviceGroup


class Command(RegistryCommand):
    help = (
        "List devices by identifier. export_devices writes all that is known of them to a file.\n\n"
        "  --filter groups=Roof --filter enabled=false --filter last_seen__lt=2026-01-31"
    )

    def add_arguments(self, parser: CommandParser) -> None:
        add_filter(parser)
        add_limit(parser, 1000)

    def handle(self, *args: Any, **options: Any) -> None:
        limit = options["limit"]
        by_name = Prefetch("groups", DeviceGroup.objects.order_by("name"))
        rows = chosen(options["filter"]).order_by("identifier").prefetch_related(by_name)
        found = list(rows[: limit + 1])
        documents = [
            {
                **fields_of(device, "identifier", "kind", "enabled", "name", "last_seen"),
                "groups": [group.name for group in device.groups.all()],
            }
            for device in found[:limit]
        ]
        width = max((len(device.identifier) for device in found), default=0)
        lines = [
            f"{device.identifier:<{width}}  {'enabled ' if device.enabled else 'disabled'}  "
            f"{device.kind:<7}  {device.name}".rstrip()
            for device in found[:limit]
        ]
        more = len(found) > limit
        if more:
            self.stderr.write(f"There are more than {limit:,}; --limit shows more.")
        self.answer(
            "\n".join(lines) or "No device.", {"devices": documents, "more": more}, yes=bool(found)
        )
