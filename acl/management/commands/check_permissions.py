from typing import Any

from django.core.management.base import CommandParser

from acl.analysis import assertions
from devices.management.base import RegistryCommand, named


class Command(RegistryCommand):
    help = (
        "Check the rules against assertions: those saved in the admin, or those of FILE.\n\n"
        "A line is one of\n"
        "  SENDER may COMMAND RECEIVER\n"
        "  SENDER may not COMMAND RECEIVER\n"
        "  nobody [outside group:NAME] may PATTERN [RECEIVER]\n"
        "Words with spaces are quoted; # begins a remark.\n"
        "One that holds now and not later, since a rule begins or ends, is named with the moment.\n"
        "Exit code 1: one does not hold now, or there is none."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", nargs="?", type=named, metavar="FILE", help="a text file")

    def handle(self, *args: Any, **options: Any) -> None:
        path = options["file"]
        lines = self.text(path).splitlines() if path else assertions.saved()
        numbers: dict[str, int] = {}
        for number, line in enumerate(lines, 1):
            if assertions.is_statement(line):
                numbers.setdefault(line.strip(), number)
        broken = assertions.check(numbers)
        later = assertions.check_later(numbers)

        def listed(found: list[assertions.Broken]) -> list[dict[str, Any]]:
            return [
                {"text": one.text, "why": one.why, "line": numbers[one.text] if path else None}
                for one in found
            ]

        self.answer(
            "\n".join(
                [
                    *(
                        f"{path}:{numbers[one.text]}: {one}" if path else str(one)
                        for one in (*broken, *later)
                    ),
                    f"{len(numbers) - len(broken)} of {len(numbers)} hold."
                    if numbers
                    else "There are no assertions: nothing was checked.",
                ]
            ),
            {
                "checked": len(numbers),
                "broken": listed(broken),
                "broken_later": listed(later),
            },
            yes=bool(numbers) and not broken,
        )
