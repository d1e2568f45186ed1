"""Print the description of the machine endpoints, or hold a file against it."""

import json
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from rpc.openapi import document


class Command(BaseCommand):
    """`openapi`: what `docs/openapi.json` is made with."""

    help = "Print the OpenAPI 3.1 document of the machine endpoints."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the command line."""
        parser.add_argument(
            "--check", metavar="FILE", type=Path, help="exit with 1 where the file differs from it"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Print the document; with --check, compare it and print nothing."""
        text = json.dumps(document(), indent=2, ensure_ascii=False)
        path: Path | None = options["check"]
        if path is None:
            self.stdout.write(text)
            return
        try:
            found = path.read_text(encoding="utf-8")
        except OSError as error:
            raise CommandError(f"{path} cannot be read: {error}", returncode=2) from error
        if found != text + "\n":
            raise CommandError(
                f"{path} is not what the code says. Make it anew: manage.py openapi > {path}"
            )
