"""Put a revocation list in force."""

from typing import Any

from django.core.management.base import CommandError, CommandParser

from devices.credentials import crl
from devices.management.base import RegistryCommand, signature
from devices.models import CertificateAuthority


class Command(RegistryCommand):
    """`load_crl`: what a trust anchor has revoked, refused from the next request on."""

    help = (
        "Load a trust anchor's revocation list; it replaces the one before as a whole.\n\n"
        "Run it from a timer, well before the list in force is due: fetch the file, then load it.\n"
        "A list that is not the anchor's, not complete or older than the one in force is refused."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the command line."""
        super().add_arguments(parser)
        parser.add_argument("anchor", help="the trust anchor's name")
        parser.add_argument("file", help="the list, PEM or DER, up to 16 MiB; - for standard input")

    def handle(self, *args: Any, **options: Any) -> None:
        """Load the list, and print what it says of itself."""
        try:
            anchor = CertificateAuthority.objects.get(name=options["anchor"])
        except CertificateAuthority.DoesNotExist:
            raise CommandError(
                f"there is no trust anchor named “{options['anchor']}”", returncode=1
            ) from None
        loaded = anchor.load_list(
            self.content(options["file"], crl.MAX_LIST_BYTES),
            by=signature(),
        )
        document = {
            "number": loaded.number or None,
            "this_update": loaded.this_update,
            "next_update": loaded.next_update,
            "entries": loaded.entries,
        }
        self.answer(
            options,
            f"Loaded the revocation list of {anchor.name}.\n{self.lines(document)}",
            {"anchor": anchor.name} | document,
        )
