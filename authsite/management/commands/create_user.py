from typing import Any

from django.contrib.auth.password_validation import validate_password
from django.core.management.base import CommandParser
from django.db import transaction

from authsite.accounts.account import Account
from authsite.management.accounts import OneAccountCommand


class Command(OneAccountCommand):
    help = (
        "Create an account of staff, with roles. Without a password it can log in only by single\n"
        "sign-on, or after `changepassword`; without a role it may not log in until it has one\n"
        "(set_roles). createsuperuser creates one that may do everything."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        self.add_roles(parser)
        parser.add_argument("--email", default="", help="an address, for staff to read")
        parser.add_argument(
            "--password-stdin", action="store_true", help="read a password from standard input"
        )

    @transaction.atomic
    def handle(self, *args: Any, **options: Any) -> None:
        user: Account = Account.objects.create_account(
            options["username"], roles=self.roles(options["role"]), email=options["email"]
        )
        if options["password_stdin"]:
            password = self.secret_from_stdin()
            validate_password(password, user)
            user.set_password(password)
            user.save(update_fields=["password"])
        document = self.described(user)
        roles = ", ".join(document["roles"]) or (
            "without a role: it may not log in until it has one (set_roles)"
        )
        text = f"Created {user.get_username()}, {roles}."
        self.answer(text, document)
