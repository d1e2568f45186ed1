from typing import Any

from django.core.management.base import CommandParser

from devices.management.base import ChangeCommand, summary


class Command(ChangeCommand):
    help = (
        "Delete a trust anchor and its revocation list: it vouches for nobody, and what the list\n"
        "named is forgotten. To keep that, use change_trust_anchor --disable."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("name", help="the trust anchor's name")

    def handle(self, *args: Any, **options: Any) -> None:
        anchor = self.anchor(options["name"])
        with self.change(options):
            anchor.hold()
            deleted, counts = summary(anchor.delete()[1])
        self.answer(
            f"Deleted the trust anchor {anchor.name}: {counts}.",
            {"name": anchor.name, "deleted": deleted},
        )
