from typing import Any

from django.core.management.base import CommandParser

from acl.analysis import assertions
from acl.models import Assertion
from devices.management.base import RegistryCommand, trimmed


class Command(RegistryCommand):
    help = (
        "Save an assertion: SENDER may COMMAND RECEIVER, SENDER may not COMMAND RECEIVER, or\n"
        "nobody [outside group:NAME] may PATTERN [RECEIVER]. Changes that break it then need a\n"
        "confirmation. One that does not hold now is saved, with a warning."
    )
    takes_reason = True

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("text", help="the assertion, as one argument")
        parser.add_argument("--note", type=trimmed, default="", help="why it must hold")

    def handle(self, *args: Any, **options: Any) -> None:
        row = Assertion(text=assertions.validated(options["text"]), note=options["note"])
        row.full_clean()
        row.save()
        broken = assertions.check([row.text])
        for one in broken:
            self.stderr.write(f"warning: it does not hold: {one.why}")
        self.answer(f"Saved: {row.text}", {"text": row.text, "holds": not broken})
