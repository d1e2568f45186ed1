"""Putting devices into groups, and taking them out, by a command."""

from typing import Any

from django.core.management.base import CommandParser

from devices.management.base import ChangeCommand
from devices.models import Device, DeviceGroup
from devices.models.device import DeviceQuerySet


class MembershipCommand(ChangeCommand):
    """Changes which devices are in a group."""

    done: str

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the group and the devices' IDs."""
        super().add_arguments(parser)
        parser.add_argument("group", help="the group's name")
        parser.add_argument("identifiers", nargs="+", metavar="identifier", help="a device's ID")

    def move(self, devices: DeviceQuerySet, group: DeviceGroup) -> int:
        """Make the change; return how many devices it concerned."""
        raise NotImplementedError

    def handle(self, *args: Any, **options: Any) -> None:
        """Change them, all or none."""
        group = self.group(options["group"])
        devices = self.devices(options["identifiers"])
        with self.change(options):
            n = self.move(Device.objects.filter(pk__in=[one.pk for one in devices]), group)
        self.answer(
            options,
            f"{group.name}: {n} of {len(devices)} {self.done}.",
            {
                "group": group.name,
                "identifiers": [device.identifier for device in devices],
                "changed": n,
            },
        )
