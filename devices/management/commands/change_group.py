from typing import Any

from django.core.management.base import CommandError, CommandParser

from devices.management.base import ChangeCommand, named, new_name, trimmed


class Command(ChangeCommand):
    help = "Rename a group, move it with all that lies in it, or describe it."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("group", type=named, help="the group's name")
        parser.add_argument("--name", type=new_name, metavar="NEW", help="what it is called then")
        place = parser.add_mutually_exclusive_group()
        place.add_argument(
            "--within", type=named, metavar="GROUP", help="an existing group that it lies in then"
        )
        place.add_argument("--top", action="store_true", help="it lies in no group then")
        parser.add_argument("--description", type=trimmed, help="any text")

    def handle(self, *args: Any, **options: Any) -> None:
        changed = self.given(options, "name", "description")
        moves = options["top"] or options["within"] is not None
        if not (changed or moves):
            raise CommandError("nothing to change: see --help", returncode=2)
        group = self.group(options["group"])
        parent = self.group(options["within"]) if moves and not options["top"] else None
        with self.change(options):
            self.set_fields(group, changed | ({"parent": parent} if moves else {}))
        if moves:
            changed["within"] = options["within"]
        self.answer(
            f"Changed {', '.join(changed)} of {options['group']}.",
            {"group": group.name, "changed": changed},
        )
