"""Try a secret as the machine endpoints would."""

from typing import Any

from django.core.management.base import CommandError, CommandParser

from devices.addresses import AddressError, entity_id
from devices.management.base import RegistryCommand
from devices.models import Device


class Command(RegistryCommand):
    """`verify`: the verdict on a secret, with the reason that the wire does not tell."""

    help = (
        "Say whether a device would be let in with a secret, and why not.\n\n"
        "Asks exactly what the machine endpoints ask. A success leaves no trace of use."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the command line."""
        super().add_arguments(parser)
        parser.add_argument("identifier", help="the device's ID; an address names its ID")
        parser.add_argument(
            "--secret-stdin",
            action="store_true",
            required=True,
            help="read the secret from standard input, its first line",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Print the verdict; exit with 1 where it is a refusal."""
        try:
            identifier = entity_id(options["identifier"])
        except AddressError as error:
            raise CommandError(str(error), returncode=2) from error
        verdict = Device.objects.authenticate(
            identifier, secret=self.secret_from_stdin(), record=False
        )
        self.answer(
            options,
            f"{identifier}: {verdict.reason}",
            {
                "identifier": identifier,
                "verified": verdict.verified,
                "outcome": verdict.outcome,
                "reason": verdict.reason,
                "key": verdict.key,
            },
            yes=verdict.verified,
        )
