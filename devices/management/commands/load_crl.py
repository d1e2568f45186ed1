from typing import Any

from django.core.management.base import CommandParser

from devices.credentials import crl
from devices.management.base import RegistryCommand, fields_of, signature


class Command(RegistryCommand):
    help = (
        "Load a trust anchor's revocation list; it replaces the one before as a whole.\n\n"
        "Run it from a timer, well before the list in force is due: fetch the file, then load it.\n"
        "A list that is not the anchor's, not complete or older than the one in force is refused."
    )
    takes_reason = True

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("anchor", help="the trust anchor's name")
        parser.add_argument("file", help="the list, PEM or DER, up to 16 MiB; - for standard input")

    def handle(self, *args: Any, **options: Any) -> None:
        anchor = self.anchor(options["anchor"])
        content = self.content(options["file"], crl.MAX_LIST_BYTES)
        loaded = anchor.load_list(content, by=signature())
        document = {"number": loaded.number or None}
        document |= fields_of(loaded, "this_update", "next_update", "entries")
        self.answer(
            f"Loaded the revocation list of {anchor.name}.\n{self.lines(document)}",
            {"anchor": anchor.name} | document,
        )
