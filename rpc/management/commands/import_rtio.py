"""Make RTIO servers and device service routes what a document says."""

import sys
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser

from acl.as_code import load
from devices.management.base import RegistryCommand
from rpc.rtio.as_code import import_document


class Command(RegistryCommand):
    """`import_rtio`: all or nothing; prints what changes, as a diff."""

    help = (
        "Make RTIO servers and device service routes exactly what FILE says; - reads standard\n"
        "input. What FILE does not name is removed; RTIO servers keep a route that was removed\n"
        "until they restart. Either everything is done or nothing."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the command line."""
        super().add_arguments(parser)
        parser.add_argument("file", metavar="FILE", help="a YAML or JSON document")
        parser.add_argument("--dry-run", action="store_true", help="only show what would change")

    def handle(self, *args: Any, **options: Any) -> None:
        """Import, and print the difference."""
        name = options["file"]
        try:
            text = sys.stdin.read() if name == "-" else Path(name).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise CommandError(f"{name} cannot be read: {error}", returncode=2) from error
        difference = import_document(load(text), dry_run=options["dry_run"])
        self.answer(
            options,
            "\n".join(difference) or "Nothing to change.",
            {
                "dry_run": options["dry_run"],
                "changed": bool(difference),
                "difference": difference,
            },
        )
