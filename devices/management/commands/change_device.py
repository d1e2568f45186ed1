from typing import Any

from django.core.management.base import CommandError, CommandParser

from devices.management.base import ChangeCommand, trimmed
from devices.models import Device
from devices.values import attributes


class Command(ChangeCommand):
    help = "Change fields of a device. Its ID never changes; add_to_group changes its groups."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("identifier", help="the device's ID")
        parser.add_argument("--name", type=trimmed, help="what staff call it")
        parser.add_argument("--description", type=trimmed, help="any text")
        parser.add_argument(
            "--kind", choices=Device.Kind.values, help="a backend may call the machine endpoints"
        )
        parser.add_argument("--attributes", metavar="JSON", help="all of them, as an object")

    def handle(self, *args: Any, **options: Any) -> None:
        device = self.device(options["identifier"])
        changed = self.given(options, "name", "description", "kind", "attributes")
        if not changed:
            raise CommandError("nothing to change: name a field", returncode=2)
        if "attributes" in changed:
            changed["attributes"] = attributes.parse(changed["attributes"])
        with self.change(options):
            self.set_fields(device, changed)
        self.answer(
            f"Changed {', '.join(changed)} of {device.identifier}.",
            {"identifier": device.identifier, "changed": changed},
        )
