from typing import Any

from django.core.management.base import CommandError, CommandParser

from authsite.accounts.token_text import IDENTIFIER_LENGTH, redacted
from authsite.accounts.tokens.models import ApiToken
from authsite.management.accounts import AccountCommand
from devices.management.base import counted, named, signature


class Command(AccountCommand):
    help = (
        "End a token, named by its identifier, which stands between its first two underscores;\n"
        "or all tokens of an account. It is refused at its next request, in every process."
    )
    takes_reason = True

    def add_arguments(self, parser: CommandParser) -> None:
        which = parser.add_mutually_exclusive_group(required=True)
        which.add_argument("identifier", nargs="?", type=named, help="as list_tokens shows it")
        which.add_argument(
            "--owner", type=named, metavar="USERNAME", help="all tokens of this account"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["owner"]:
            tokens = ApiToken.objects.filter(owner=self.account(options["owner"]))
        else:
            # Whoever pastes the whole token means this one, and should not do so.
            identifier = options["identifier"].removeprefix("authsite_")[:IDENTIFIER_LENGTH]
            tokens = ApiToken.objects.filter(identifier=identifier)
            if not tokens.exists():
                said = redacted(options["identifier"])[:64]
                raise CommandError(f"there is no token {said}", returncode=1)
        n = tokens.revoke(by=signature(), reason=options["reason"])
        text = f"Ended {counted(n, 'token')}." if n else "Nothing was left to end."
        self.answer(text, {"ended": n})
