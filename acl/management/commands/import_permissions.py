"""Make groups, command sets and permissions what a document says."""

import sys
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser

from acl import assertions
from acl.as_code import import_document, load
from devices.management.base import RegistryCommand


class Command(RegistryCommand):
    """`import_permissions`: all or nothing; prints what changes, as a diff."""

    help = (
        "Make groups, command sets and permissions exactly what FILE says; - reads standard\n"
        "input. What FILE does not name is removed; devices are never made or removed. Either\n"
        "everything is done or nothing."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the command line."""
        super().add_arguments(parser)
        parser.add_argument("file", metavar="FILE", help="a YAML or JSON document")
        parser.add_argument("--dry-run", action="store_true", help="only show what would change")

    def handle(self, *args: Any, **options: Any) -> None:
        """Import, and print the difference."""
        try:
            text = (
                sys.stdin.read()
                if options["file"] == "-"
                else Path(options["file"]).read_text("utf-8")
            )
        except (OSError, UnicodeDecodeError) as error:
            raise CommandError(
                f"{options['file']} cannot be read: {error}", returncode=2
            ) from error
        difference = import_document(load(text), dry_run=options["dry_run"])
        broken = [] if options["dry_run"] else assertions.check(assertions.saved())
        for one in broken:
            self.stderr.write(f"warning: an expectation does not hold: {one}")
        self.answer(
            options,
            "\n".join(difference) or "Nothing to change.",
            {
                "dry_run": options["dry_run"],
                "changed": bool(difference),
                "difference": difference,
                "broken": [str(one) for one in broken],
            },
        )
