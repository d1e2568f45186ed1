from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db import transaction

from acl.models import Assertion
from acl.notation import with_single_spaces
from devices.management.base import RegistryCommand


class Command(RegistryCommand):
    help = "Delete an assertion, named by its text, as list_assertions prints it."
    takes_reason = True

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("text", help="the assertion, as one argument")

    def handle(self, *args: Any, **options: Any) -> None:
        wanted = {options["text"].strip(), with_single_spaces(options["text"])}
        row = Assertion.objects.filter(text__in=wanted).first()
        if row is None:
            raise CommandError("there is no such assertion", returncode=1)
        with transaction.atomic():
            row.hold()
            row.delete()
        self.answer(f"Deleted: {row.text}", {"text": row.text})
