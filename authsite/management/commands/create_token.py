from datetime import timedelta
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db import transaction
from django.utils import timezone

from authsite.accounts.tokens import scopes
from authsite.accounts.tokens.models import ApiToken
from authsite.accounts.tokens.rules import Rule
from authsite.management.accounts import AccountCommand
from devices.management.base import duration, moment, new_name


class Command(AccountCommand):
    help = (
        "Create a token of the API, of staff or of a service account. It is printed once and\n"
        "stored nowhere. It can do nothing that its owner may not do: docs/tokens.md.\n\n"
        "  create_token factory line-3 --scope devices.view_device \\\n"
        "    --scope devices.change_device --network 10.2.0.0/16 \\\n"
        "    --limit 'devices.change_device:disable in lab, 20 an hour'"
    )
    takes_reason = True

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("owner", help="the account that it asks for")
        parser.add_argument("name", type=new_name, help="which program holds it, and where")
        what = parser.add_argument_group("what it may do")
        what.add_argument(
            "--scope",
            action="append",
            default=[],
            metavar="PERMISSION",
            help="such as devices.change_device; may be given again",
        )
        what.add_argument(
            "--read-only", action="store_true", help="see everything that its owner sees now"
        )
        what.add_argument(
            "--limit",
            "--rule",  # as it was called before
            action="append",
            default=[],
            metavar="LIMIT",
            help="narrow a scope: PERMISSION[:ACTION] [in GROUP][, N an hour]; may be given again",
        )
        parser.add_argument(
            "--network",
            action="append",
            default=[],
            metavar="CIDR",
            help="from where it may be used; may be given again (default: from anywhere)",
        )
        end = parser.add_mutually_exclusive_group()
        end.add_argument(
            "--within",
            type=duration,
            default=timedelta(days=90),
            metavar="SPAN",
            help="it ends after 12h, 30d (default: 90d)",
        )
        end.add_argument("--not-after", type=moment, metavar="TIME", help="it ends then")
        end.add_argument("--no-end", action="store_true", help="it does not end by itself")

    @transaction.atomic  # a token that cannot be printed is not issued
    def handle(self, *args: Any, **options: Any) -> None:
        owner = self.account(options["owner"])
        wanted = set(options["scope"])
        if options["read_only"]:
            wanted |= {one for one in scopes.held_by(owner) if ".view_" in one}
        if not wanted:
            raise CommandError("what may it do? Name --scope, or --read-only", returncode=2)
        ends = options["not_after"]
        if ends is None and not options["no_end"]:
            ends = timezone.now() + options["within"]
        token, text = ApiToken.objects.issue(
            owner=owner,
            name=options["name"],
            scopes=wanted,
            networks=options["network"],
            rules=[Rule.parse(line) for line in options["limit"]],
            not_after=ends,
        )
        state = token.state_at(timezone.now()).value
        if not options["json"]:
            self.stderr.write(f"Created the token {token} of {owner}. It is shown once:")
        self.answer(text, {**self.described_token(token, state), "token": text})
