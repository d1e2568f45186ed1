from typing import Any

from django.core.management.base import CommandParser

from authsite.accounts.tokens.service_account import ServiceAccount
from authsite.management.accounts import AccountCommand
from devices.management.base import trimmed


class Command(AccountCommand):
    help = "Create an account of a program: it cannot log in; create_token gives it tokens."
    takes_reason = True

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", help="name of the account")
        parser.add_argument(
            "--answerable", required=True, metavar="USERNAME", help="active staff who answer for it"
        )
        parser.add_argument(
            "--purpose", type=trimmed, default="", help="what the program does, and where"
        )
        self.add_roles(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        account = ServiceAccount.objects.create_account(
            options["name"],
            answerable=self.account(options["answerable"]),
            purpose=options["purpose"],
            roles=self.roles(options["role"]),
        )
        document = self.described(account.user)
        roles = ", ".join(document["roles"]) or "without a role"
        self.answer(f"Created {account}, {roles}.", document)
