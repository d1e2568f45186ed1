from typing import Any

from django.core.management.base import CommandError, CommandParser

from devices.authentication import authenticate
from devices.management.base import RegistryCommand, fields_of
from devices.models import Device
from devices.values.addresses import AddressError


class Command(RegistryCommand):
    help = (
        "Say whether a device would be let in with a secret, a certificate or both, and why.\n\n"
        "Asks exactly what the machine endpoints ask. A success does not change “last used”."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("identifier", help="the device's ID, or an address with it")
        parser.add_argument(
            "--secret-stdin",
            action="store_true",
            help="read the secret from standard input, its first line",
        )
        parser.add_argument(
            "--certificate",
            metavar="FILE",
            help="the device's certificate, PEM or DER; in PEM its issuers may follow",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            identifier = Device.objects.id_of(options["identifier"])
        except AddressError as error:
            raise CommandError(str(error), returncode=2) from error
        if not options["secret_stdin"] and options["certificate"] is None:
            raise CommandError("give --secret-stdin, --certificate or both", returncode=2)
        if options["secret_stdin"] and options["certificate"] == "-":
            raise CommandError("standard input holds one of them, not both", returncode=2)
        secret = self.secret_from_stdin() if options["secret_stdin"] else None
        file = options["certificate"]
        certificate = self.certificate(file) if file is not None else None
        verdict = authenticate(identifier, secret=secret, certificate=certificate, record=False)
        self.answer(
            f"{identifier}: {verdict.reason}",
            {"identifier": identifier}
            | fields_of(verdict, "verified", "outcome", "reason", "key", "certificate"),
            yes=verdict.verified,
        )
