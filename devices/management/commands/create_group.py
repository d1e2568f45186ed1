from typing import Any

from django.core.management.base import CommandParser

from devices.management.base import ChangeCommand, named, new_name, trimmed
from devices.models import DeviceGroup


class Command(ChangeCommand):
    help = "Create a group of devices, empty; rules on the group that it lies in cover it, too."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("name", type=new_name, help="the group's name")
        parser.add_argument(
            "--within", type=named, metavar="GROUP", help="an existing group that it lies in"
        )
        parser.add_argument("--description", type=trimmed, default="", help="any text")

    def handle(self, *args: Any, **options: Any) -> None:
        parent = self.group(options["within"]) if options["within"] else None
        group = DeviceGroup(name=options["name"], parent=parent, description=options["description"])
        group.full_clean()
        with self.change(options):
            group.save()
        self.answer(
            f"Created the group {group.name}.",
            {"group": group.name, "within": parent and parent.name},
        )
