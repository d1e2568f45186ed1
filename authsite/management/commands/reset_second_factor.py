from typing import Any

from authsite.accounts import second_factor
from authsite.management.accounts import OneAccountCommand


class Command(OneAccountCommand):
    help = (
        "Remove the app, the passkeys and the recovery codes of an account, which then logs in\n"
        "with its password alone; where a second factor is required, it sets up a new one. Exit\n"
        "1 where there is none, or no such account."
    )

    def handle(self, *, username: str, **options: Any) -> None:
        user = self.account(username)
        gone = second_factor.remove_all(user)
        text = f"Removed {gone} from the account {username}: apps, passkeys, sets of codes."
        self.answer(text, {"username": username, "removed": gone}, yes=gone > 0)
