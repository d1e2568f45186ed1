"""Switching devices on and off by a command."""

from typing import Any

from django.core.management.base import CommandParser

from devices.management.base import ChangeCommand
from devices.models import Device


class SwitchCommand(ChangeCommand):
    """Enables or disables devices that its arguments name; those that are so already stay."""

    enables: bool

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the devices' IDs."""
        super().add_arguments(parser)
        parser.add_argument("identifiers", nargs="+", metavar="identifier", help="a device's ID")

    def handle(self, *args: Any, **options: Any) -> None:
        """Switch them, all or none."""
        devices = self.devices(options["identifiers"])
        keys = [device.pk for device in devices]
        with self.change(options):
            n = Device.objects.filter(pk__in=keys).set_enabled(enabled=self.enables)
        done = "Enabled" if self.enables else "Disabled"
        self.answer(
            options,
            f"{done} {n} of {len(devices)}; the others were so already."
            if n < len(devices)
            else f"{done} {', '.join(device.identifier for device in devices)}.",
            {
                "identifiers": [device.identifier for device in devices],
                "enabled": self.enables,
                "changed": n,
            },
        )
