from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone

from authsite.accounts.tokens.models import ApiToken, TokenOutcome
from authsite.management.accounts import AccountCommand
from devices.management.base import named


class Command(AccountCommand):
    help = "List tokens that may be used: whose, until when, last used when and from where."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--owner", type=named, metavar="USERNAME", help="only those of this account"
        )
        parser.add_argument("--all", action="store_true", help="those that ended, too")

    def handle(self, *args: Any, **options: Any) -> None:
        now = timezone.now()
        tokens = ApiToken.objects.all() if options["all"] else ApiToken.objects.live_at(now)
        if options["owner"]:
            tokens = tokens.filter(owner=self.account(options["owner"]))
        tokens = tokens.select_related("owner__service_account__answerable").order_by(
            "owner__username", "pk"
        )
        documents = [self.described_token(token, token.state_at(now).value) for token in tokens]
        lines = [
            f"{one['identifier']}  {TokenOutcome(one['state']).label:<8}  "
            f"{one['owner']}: {one['name']}, "
            + (f"until {one['not_after']:%Y-%m-%d}" if one["not_after"] else "without end")
            + (
                f", last used {one['last_used']:%Y-%m-%d %H:%M} from {one['last_used_from']}"
                if one["last_used"]
                else ", never used"
            )
            for one in documents
        ]
        self.answer("\n".join(lines) or "No token.", {"tokens": documents})
