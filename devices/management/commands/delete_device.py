from collections import Counter
from operator import attrgetter
from typing import Any

from devices.management.base import DevicesCommand, summary


class Command(DevicesCommand):
    help = (
        "Delete devices with their keys, unrevoked certificates and rules. Which of their secrets\n"
        "were revoked is then not known any more: to keep a device out, use disable_device."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        devices = self.devices(options["identifiers"])
        identifiers = [device.identifier for device in devices]
        gone: Counter[str] = Counter()
        with self.change(options):
            for device in sorted(devices, key=attrgetter("pk")):
                device.hold()
            for device in devices:
                gone.update(device.delete()[1])
        deleted, counts = summary(gone)
        self.answer(
            f"Deleted {', '.join(identifiers)}: {counts}.",
            {"identifiers": identifiers, "deleted": deleted},
        )
