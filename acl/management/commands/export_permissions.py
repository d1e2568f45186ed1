"""Write all groups, command sets and permissions as one document."""

from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser

from acl.as_code import dump, export_document
from devices.management.base import RegistryCommand


class Command(RegistryCommand):
    """`export_permissions`: a stable text that can be reviewed, compared and imported again."""

    help = "Write all groups, command sets and permissions as one document, to FILE or the screen."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the command line; `--json` is the same as `--format json`."""
        super().add_arguments(parser)
        parser.add_argument("file", nargs="?", type=Path, metavar="FILE", help="where to")
        parser.add_argument("--format", choices=["yaml", "json"], default="yaml")

    def handle(self, *args: Any, **options: Any) -> None:
        """Write the document."""
        text = dump(export_document(), as_json=options["json"] or options["format"] == "json")
        if options["file"] is None:
            self.stdout.write(text, ending="")
            return
        try:
            options["file"].write_text(text, "utf-8")
        except OSError as error:
            raise CommandError(
                f"{options['file']} cannot be written: {error}", returncode=2
            ) from error
