from typing import Any

from django.conf import settings
from django.core.management.base import CommandError, CommandParser
from django.db import IntegrityError, transaction

from authsite.accounts.sign_on.models import ExternalIdentity, is_subject
from authsite.management.accounts import OneAccountCommand

Source = ExternalIdentity.Source


class Command(OneAccountCommand):
    help = (
        "Tie an account to a subject: that of OpenID Connect, in the directory or behind the\n"
        "proxy, which then signs on as this account and decides its roles. Its password ends,\n"
        "unless it is a break-glass account. When a sign-on is refused, the log names its\n"
        "subject. Exit 1 where there is no such account, or the subject has one."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        what = parser.add_mutually_exclusive_group(required=True)
        what.add_argument("--subject", help="the subject, as the log names it")
        what.add_argument("--untie", action="store_true", help="untie the account")
        parser.add_argument(
            "--source", choices=Source.values, default=Source.OPENID_CONNECT, help="default: openid"
        )

    def handle(
        self, *, username: str, subject: str | None, untie: bool, source: str, **options: Any
    ) -> None:
        user = self.account(username)
        if untie:
            gone = ExternalIdentity.objects.untie(user)
            text = f"{username} is untied." if gone else f"{username} was tied to nothing."
            self.answer(text, {"username": username, "untied": gone}, yes=gone)
            return
        if user.service is not None:
            raise CommandError(f"{username} is a service's, which never logs in", returncode=1)
        if not subject or not is_subject(subject):
            raise CommandError("the subject is empty, or too long", returncode=2)
        issuer = settings.OIDC_ISSUER if source == Source.OPENID_CONNECT else ""
        if source == Source.OPENID_CONNECT and not issuer:
            raise CommandError("OIDC_ISSUER is not set", returncode=2)
        try:
            with transaction.atomic():
                ExternalIdentity.objects.tie(user, source, issuer, subject)
        except IntegrityError:
            raise CommandError("another account has that subject", returncode=1) from None
        text = f"{username} is tied to {subject} ({Source(source).label})."
        self.answer(text, {"username": username, "subject": subject, "source": source})
