import io
from typing import Any

from django.core.management.base import CommandParser

from acl.documents import dump
from devices.management.base import RegistryCommand, named
from rpc.rtio.as_code import export_document


class Command(RegistryCommand):
    help = (
        "Write all RTIO servers and device service routes as one YAML document, to FILE or the\n"
        "screen. FILE is written whole or not at all."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        where = parser.add_mutually_exclusive_group()
        where.add_argument("file", nargs="?", type=named, metavar="FILE", help="where to")
        where.add_argument("--output", type=named, metavar="FILE", help="FILE, as an option")

    def handle(self, *args: Any, **options: Any) -> None:
        text = dump(export_document(), as_json=options["json"])
        self.write_output(io.BytesIO(text.encode()), options["file"] or options["output"])
