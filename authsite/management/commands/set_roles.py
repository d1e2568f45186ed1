from typing import Any

from django.core.management.base import CommandParser
from django.db import transaction

from authsite.management.accounts import OneAccountCommand


class Command(OneAccountCommand):
    help = (
        "Give an account exactly these roles, and take all others away. It holds at the next\n"
        "request, of its tokens, too. Roles that single sign-on gives come back at the next one."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("roles", nargs="*", metavar="role", help="none: it has none then")

    @transaction.atomic
    def handle(self, *args: Any, **options: Any) -> None:
        user = self.account(options["username"], lock=True)
        user.set_roles(self.roles(options["roles"]))
        document = self.described(user)
        roles = ", ".join(document["roles"]) or "no role"
        self.answer(f"{user.get_username()} has {roles}.", document)
