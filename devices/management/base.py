"""What the registry's commands have in common: exit codes, `--json`, refusals in plain words.

Exit codes: 0 done, or the answer is yes; 1 the answer is no, or the registry refuses; 2 the
command line makes no sense, or the registry cannot be asked.
"""

import json
import sys
from argparse import RawDescriptionHelpFormatter
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError

EXIT_CODES = "exit codes: 0 done or yes; 1 no or refused; 2 bad usage or no database"


class RegistryCommand(BaseCommand):
    """A command that answers people in text and machines in JSON."""

    requires_system_checks = []

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        """Add what every command says of itself."""
        return super().create_parser(
            prog_name,
            subcommand,
            epilog=EXIT_CODES,
            formatter_class=RawDescriptionHelpFormatter,
            **kwargs,
        )

    def add_arguments(self, parser: CommandParser) -> None:
        """Add `--json`; commands add their own after it."""
        parser.add_argument(
            "--json", action="store_true", help="print one JSON object, for scripts"
        )

    def execute(self, *args: Any, **options: Any) -> str | None:
        """Run; a rule's refusal ends with 1 and its message, an unreachable database with 2."""
        try:
            return super().execute(*args, **options)
        except ValidationError as error:
            raise CommandError("; ".join(error.messages), returncode=1) from error
        except DatabaseError as error:
            raise CommandError(f"the registry cannot be asked: {error}", returncode=2) from error

    def answer(
        self, options: dict[str, Any], text: str, document: dict[str, Any], *, yes: bool = True
    ) -> None:
        """Print the answer in the form that was asked for; exit with 1 where it is no."""
        self.stdout.write(json.dumps(document, default=str) if options["json"] else text)
        if not yes:
            sys.exit(1)

    def secret_from_stdin(self) -> str:
        """Return the first line of standard input without its line end; white space stays."""
        line = sys.stdin.readline()
        secret = line.removesuffix("\n").removesuffix("\r")
        if not secret:
            raise CommandError("no secret on standard input", returncode=2)
        return secret
