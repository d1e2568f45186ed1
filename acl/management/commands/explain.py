from typing import Any

from django.core.management.base import CommandError, CommandParser

from acl.engine.explanations import explain
from devices.management.base import RegistryCommand, moment
from devices.models import Device
from devices.values.addresses import AddressError


class Command(RegistryCommand):
    help = "Say whether SRC may send CMD to DST, which rule decides, and which nearly would."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("src", help="the sender's ID, or an address with it")
        parser.add_argument("dst", help="the receiver's ID, or an address with it")
        parser.add_argument("cmd", help="the command, such as /v1/Config.Get")
        parser.add_argument(
            "--at",
            type=moment,
            metavar="TIME",
            help="which of today's rules would count then (ISO 8601; UTC unless it says otherwise)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Print the explanation; exit with 1 where the command is denied."""
        try:
            source, destination = map(Device.objects.id_of, (options["src"], options["dst"]))
        except AddressError as error:
            raise CommandError(str(error), returncode=2) from error
        explanation = explain(source, destination, options["cmd"], now=options["at"])
        self.answer(
            "\n".join(explanation.lines()),
            explanation.as_document(),
            yes=explanation.decision.allowed,
        )
