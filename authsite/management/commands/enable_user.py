"""Enable an account."""

from typing import Any

from django.core.management.base import CommandParser

from authsite.management.accounts import AccountCommand


class Command(AccountCommand):
    """`enable_user`: it may log in again; tokens that ended stay so."""

    help = "Let an account log in again, with the roles that it has. Its former tokens stay ended."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the command line."""
        super().add_arguments(parser)
        parser.add_argument("username")

    def handle(self, *args: Any, **options: Any) -> None:
        """Enable it, unless it is so already."""
        user = self.account(options["username"])
        changed, user.is_active = not user.is_active, True
        user.save(update_fields=["is_active"])
        name = user.get_username()
        text = f"Enabled {name}." if changed else f"{name} was enabled already."
        self.answer(options, text, {"username": name, "changed": changed})
