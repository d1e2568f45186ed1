from typing import Any

from django.db import transaction

from authsite.management.accounts import OneAccountCommand


class Command(OneAccountCommand):
    help = "Let an account log in again, with the roles that it has. Its former tokens stay ended."

    @transaction.atomic
    def handle(self, *args: Any, **options: Any) -> None:
        user = self.account(options["username"], lock=True)
        changed = not user.is_active
        user.enable()
        name = user.get_username()
        text = f"Enabled {name}." if changed else f"{name} was enabled already."
        self.answer(text, {"username": name, "changed": changed})
