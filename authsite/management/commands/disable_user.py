from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db import transaction

from authsite.accounts.superusers import check_superuser_remains, take_superusers_turn
from authsite.accounts.tokens.service_account import ServiceAccount
from authsite.management.accounts import OneAccountCommand
from devices.management.base import named


class Command(OneAccountCommand):
    help = (
        "Disable an account: its sessions are over at their next page, and its tokens end for\n"
        "good. Services that it answers for are refused until somebody else does; --hand-to names\n"
        "who. The last active superuser is not disabled."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--hand-to",
            type=named,
            metavar="USERNAME",
            help="who answers for its service accounts from now on",
        )

    @transaction.atomic
    def handle(self, *args: Any, **options: Any) -> None:
        take_superusers_turn()
        user = self.account(options["username"], lock=True)
        check_superuser_remains([user.pk])
        services = list(ServiceAccount.objects.filter(answerable=user).select_related("user"))
        heir = self.account(options["hand_to"]) if options["hand_to"] else None
        if heir == user:
            raise CommandError(f"{user} is disabled by this: name somebody else", returncode=1)
        for service in services:
            if heir is not None:
                service.answerable = heir
                service.full_clean()
                service.save()
            else:
                self.stderr.write(f"warning: nobody answers for the service {service} now")
        was_active = user.is_active
        user.disable()
        name = user.get_username()
        document = {
            "username": name,
            "changed": was_active,
            "services": [str(service) for service in services],
            "answerable": heir and heir.get_username(),
        }
        text = f"Disabled {name}." if was_active else f"{name} was disabled already."
        self.answer(text, document)
