import io
from typing import Any

from django.core.management.base import CommandParser

from acl.as_code import SECTIONS, export_document
from acl.documents import digest_of, dump
from devices.database.statements import one_state
from devices.management.base import RegistryCommand, counted, named


class Command(RegistryCommand):
    help = (
        "Write all groups, command sets and rules as one document, to FILE or the screen.\n"
        "FILE is written whole or not at all. How much it holds is told on the error output."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the command line; `--json` is the same as `--format json`."""
        where = parser.add_mutually_exclusive_group()
        where.add_argument("file", nargs="?", type=named, metavar="FILE", help="where to")
        where.add_argument("--output", type=named, metavar="FILE", help="FILE, as an option")
        parser.add_argument(
            "--format", choices=["yaml", "json"], default="yaml", help="default: yaml"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        path = options["file"] or options["output"]
        with one_state():
            document = export_document()
        text = dump(document, as_json=options["json"] or options["format"] == "json")
        self.write_output(io.BytesIO(text.encode()), path)
        held = (
            counted(len(document[name]), name.replace("_", " ").removesuffix("s"))
            for name in SECTIONS
        )
        self.stderr.write(f"{', '.join(held)}; digest {digest_of(dump(document))}")
