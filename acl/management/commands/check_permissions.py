"""Check the rules against what is expected of them."""

from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser

from acl import assertions
from devices.management.base import RegistryCommand


class Command(RegistryCommand):
    """`check_permissions`: the saved expectations, or a file's; exit with 1 unless all hold."""

    help = (
        "Check the rules against expectations: those saved in the admin, or those of FILE.\n\n"
        "A line is one of\n"
        "  SENDER may COMMAND RECEIVER\n"
        "  SENDER may not COMMAND RECEIVER\n"
        "  nobody [outside group:NAME] may PATTERN [RECEIVER]\n"
        "Words with spaces are quoted; # begins a remark.\n"
        "Exit code 1: one does not hold, or there is none."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the command line."""
        super().add_arguments(parser)
        parser.add_argument("file", nargs="?", type=Path, metavar="FILE", help="a text file")

    def handle(self, *args: Any, **options: Any) -> None:
        """Print the broken expectations."""
        path = options["file"]
        try:
            lines = path.read_text("utf-8").splitlines() if path else assertions.saved()
        except (OSError, UnicodeDecodeError) as error:
            raise CommandError(f"{path} cannot be read: {error}", returncode=2) from error
        numbers: dict[str, int] = {}
        for number, line in enumerate(lines, 1):
            if assertions.says_something(line):
                numbers.setdefault(line.strip(), number)
        broken = assertions.check(numbers)
        self.answer(
            options,
            "\n".join(
                [
                    *(f"{path}:{numbers[one.text]}: {one}" if path else str(one) for one in broken),
                    f"{len(numbers) - len(broken)} of {len(numbers)} hold."
                    if numbers
                    else "There are no expectations: nothing was checked.",
                ]
            ),
            {
                "checked": len(numbers),
                "broken": [
                    {"text": one.text, "why": one.why, "line": numbers[one.text] if path else None}
                    for one in broken
                ],
            },
            yes=bool(numbers) and not broken,
        )
