from typing import Any

from devices.management.base import DevicesCommand
from devices.models import Device


class Command(DevicesCommand):
    help = "Refuse devices from their next request on. Nothing is lost: enable_device undoes it."
    enables = False

    def handle(self, *args: Any, **options: Any) -> None:
        devices = self.devices(options["identifiers"])
        with self.change(options):
            rows = Device.objects.filter(pk__in=[device.pk for device in devices])
            n = rows.set_enabled(enabled=self.enables)
        done = "Enabled" if self.enables else "Disabled"
        identifiers = [device.identifier for device in devices]
        if n == len(devices):
            text = f"{done} {', '.join(identifiers)}."
        elif n:
            text = f"{done} {n} of {len(devices)}; the others were in that state already."
        else:
            text = f"Nothing to change: {done.lower()} already."
        self.answer(text, {"identifiers": identifiers, "enabled": self.enables, "changed": n})
