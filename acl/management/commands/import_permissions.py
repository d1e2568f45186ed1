from typing import Any

from django.core.management.base import CommandParser

from acl.as_code import import_document
from acl.documents import load
from devices.management.base import RegistryCommand, named


class Command(RegistryCommand):
    help = (
        "Make groups, command sets and rules exactly what FILE says; - reads standard\n"
        "input. What FILE does not name is removed; devices are never made or removed. Either\n"
        "everything is done or nothing: nothing, too, where an assertion would break."
    )
    takes_reason = True

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", metavar="FILE", help="a YAML or JSON document")
        parser.add_argument("--dry-run", action="store_true", help="only show what would change")
        parser.add_argument(
            "--expect",
            type=named,
            metavar="DIGEST",
            help="import only if the registry is still as the dry run that printed DIGEST saw it",
        )
        parser.add_argument(
            "--break-assertions",
            action="store_true",
            help="import even if a saved assertion then no longer holds",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        dry_run = options["dry_run"]
        imported = import_document(
            load(self.text(options["file"])),
            dry_run=dry_run,
            expect=options["expect"] or "",
            break_assertions=options["break_assertions"],
        )
        broken = imported.consequences.broken
        for one in broken:
            said = "would break" if dry_run else "does not hold any more"
            self.stderr.write(f"warning: an assertion {said}: {one}")
        lines = imported.difference or ["Nothing to change."]
        if dry_run:
            lines = [*lines, f"The registry as compared: --expect {imported.digest}"]
        self.answer(
            "\n".join(lines),
            {
                "dry_run": dry_run,
                "changed": bool(imported.difference),
                "difference": imported.difference,
                "digest": imported.digest,
                "broken": [str(one) for one in broken],
            },
        )
