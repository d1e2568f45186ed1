from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import CommandError, CommandParser

from acl.management.sets import command_set, described
from devices.management.base import ChangeCommand, named, new_name, trimmed


class Command(ChangeCommand):
    help = "Rename a command set, describe it, or add and remove commands. Its rules follow."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("set", type=named, help="the set's name")
        parser.add_argument("--name", type=new_name, metavar="NEW", help="what it is called then")
        parser.add_argument("--description", type=trimmed, help="any text")
        for verb in ("add", "remove"):
            parser.add_argument(
                f"--{verb}",
                action="append",
                default=[],
                metavar="COMMAND",
                help="a command or a pattern; may be given again",
            )

    def handle(self, *args: Any, **options: Any) -> None:
        fields = self.given(options, "name", "description")
        if not (fields or options["add"] or options["remove"]):
            raise CommandError("nothing to change: see --help", returncode=2)
        row = command_set(options["set"])
        with self.change(options):
            self.set_fields(row, fields)
            has = {one.pattern for one in row.patterns.all()}
            for pattern in options["remove"]:
                if pattern not in has:
                    raise ValidationError(f"“{pattern}” is not in the set")
            row.replace_commands((has - {*options["remove"]}) | {*options["add"]})
        self.answer(f"Changed the command set {row.name}.", described(row))
