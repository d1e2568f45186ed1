from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db.models import ProtectedError

from devices.management.base import ChangeCommand, summary


class Command(ChangeCommand):
    help = (
        "Delete a group, and the rules about it; its devices stay. A group in which others lie\n"
        "is refused."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("name", help="the group's name")

    def handle(self, *args: Any, **options: Any) -> None:
        group = self.group(options["name"])
        try:
            with self.change(options):
                group.hold()
                deleted, counts = summary(group.delete()[1])
        except ProtectedError as error:
            others = "; ".join(sorted(str(one) for one in error.protected_objects))
            raise CommandError(f"{group.name} is in use by {others}", returncode=1) from error
        self.answer(
            f"Deleted the group {group.name}: {counts}.", {"group": group.name, "deleted": deleted}
        )
