from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db.models import ProtectedError

from acl.management.sets import command_set
from devices.management.base import ChangeCommand

MAX_SHOWN = 10  # rules in a refusal


class Command(ChangeCommand):
    help = "Delete a command set. One that a rule names is refused."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("set", help="the set's name")

    def handle(self, *args: Any, **options: Any) -> None:
        row = command_set(options["set"])
        try:
            with self.change(options):
                row.hold()
                row.delete()
        except ProtectedError as error:
            keys = sorted(one.pk for one in error.protected_objects)
            rules = ", ".join(f"#{pk}" for pk in keys[:MAX_SHOWN])
            if more := len(keys[MAX_SHOWN:]):
                rules += f" and {more} more"
            raise CommandError(f"{row.name} is in use by {rules}", returncode=1) from error
        self.answer(f"Deleted the command set {row.name}.", {"set": row.name})
