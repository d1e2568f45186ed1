"""Delete devices."""

from typing import Any

from django.core.management.base import CommandParser

from devices.management.base import ChangeCommand


class Command(ChangeCommand):
    """`delete_device`: devices with their keys, certificates and rules."""

    help = (
        "Delete devices with their keys, unrevoked certificates and rules. Nothing remembers then\n"
        "which of their secrets were revoked: to refuse them, disable_device is enough."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the command line."""
        super().add_arguments(parser)
        parser.add_argument("identifiers", nargs="+", metavar="identifier", help="a device's ID")

    def handle(self, *args: Any, **options: Any) -> None:
        """Delete them, all or none."""
        devices = self.devices(options["identifiers"])
        identifiers = [device.identifier for device in devices]
        gone: dict[str, int] = {}
        with self.change(options):
            for device in devices:
                for label, n in device.delete()[1].items():
                    gone[label] = gone.get(label, 0) + n
        deleted = {label.lower(): n for label, n in sorted(gone.items()) if n}
        counts = ", ".join(f"{n} {label}" for label, n in deleted.items())
        self.answer(
            options,
            f"Deleted {', '.join(identifiers)}: {counts}.",
            {"identifiers": identifiers, "deleted": deleted},
        )
