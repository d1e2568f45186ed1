from typing import Any

from django.core.management.base import CommandParser

from devices.management.base import DevicesCommand
from devices.models import Device
from devices.models.device import DeviceQuerySet


class Command(DevicesCommand):
    help = "Put devices into a group; the rules of the group then concern them."
    done = "added"
    move = DeviceQuerySet.add_to_group

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("group", help="the group's name")
        super().add_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        group = self.group(options["group"])
        devices = self.devices(options["identifiers"])
        with self.change(options):
            rows = Device.objects.filter(pk__in=[device.pk for device in devices])
            n = type(self).move(rows, group)
        identifiers = [device.identifier for device in devices]
        self.answer(
            f"{group.name}: {n} of {len(devices)} {self.done}.",
            {"group": group.name, "identifiers": identifiers, "changed": n},
        )
