from typing import Any

from django.core.management.base import CommandParser

from acl.management.sets import described
from acl.models import CommandSet
from devices.management.base import ChangeCommand, new_name, trimmed


class Command(ChangeCommand):
    help = "Create a command set, which rules then name as set:NAME."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("name", type=new_name, help="the set's name")
        parser.add_argument(
            "commands", nargs="*", metavar="command", help="a command or a pattern: /v1/Config.*"
        )
        parser.add_argument("--description", type=trimmed, default="", help="any text")

    def handle(self, *args: Any, **options: Any) -> None:
        row = CommandSet(name=options["name"], description=options["description"])
        row.full_clean()
        with self.change(options):
            row.save()
            row.replace_commands(options["commands"])
        self.answer(f"Created the command set {row.name}.", described(row))
