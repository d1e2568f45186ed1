from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db import connection

from acl.engine.decisions import decide
from authsite.operations.backup import (
    BackupError,
    differences,
    missing_peppers,
    other_peppers,
    restore,
)
from authsite.operations.health import missing_migrations
from devices.authentication import authenticate
from devices.management.base import RegistryCommand, counted
from devices.management.files import FileRefused
from devices.verdicts import Outcome

NOBODY = "no device has this identifier"


class Command(RegistryCommand):
    help = (
        "Restore FILE, which `backup` wrote, into the database that DATABASE_URL names. It must\n"
        "be empty, or be named with --replace: then what it holds is lost. Stop the servers\n"
        "first. Afterwards rows are counted, migrations and peppers compared, and questions\n"
        "asked. Exit 1 where the backup was not restored, or where something is missing\n"
        "afterwards."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path, help="a backup; its FILE.json lies beside it")
        parser.add_argument(
            "--replace",
            metavar="NAME",
            help="the name of the database (of SQLite: of its file) whose content may be lost",
        )

    def handle(self, *, file: Path, replace: str | None, **options: Any) -> None:
        try:
            manifest = restore(file.absolute(), replace=replace)
        except (BackupError, FileRefused) as error:
            raise CommandError(str(error), returncode=1) from error
        except (KeyboardInterrupt, SystemExit):
            if replace and connection.vendor == "postgresql":
                self.stderr.write(f"{replace} may be empty now: restore again.")
            raise
        migrations = missing_migrations()
        problems = differences(manifest)
        problems += [
            f"pepper {pepper} is not configured: its {manifest.peppers[pepper]} keys are refused"
            for pepper in missing_peppers(manifest)
        ]
        problems += [
            f"pepper {pepper} is another one here than where the backup was made: put that into "
            f"PEPPERS; its {manifest.peppers[pepper]} keys are refused"
            for pepper in other_peppers(manifest)
        ]
        if not migrations and not _answers():
            problems.append("questions to the registry are not answered as they must be")
        lines = [
            f"Restored {counted(manifest.total, 'row')} of {manifest.created} from {file}.",
            *problems,
            *([f"Run `manage.py migrate`: {len(migrations)} to apply."] if migrations else []),
        ]
        self.answer(
            "\n".join(lines),
            {
                "file": str(file),
                "created": manifest.created,
                "rows": manifest.rows,
                "problems": problems,
                "migrations": migrations,
            },
            yes=not problems,
        )


def _answers() -> bool:
    """Whether both questions of the registry are answered: nobody is let in, nothing allowed."""
    verdict = authenticate(NOBODY, secret=NOBODY, record=False)
    decision = decide(NOBODY, NOBODY, "/v1/Nothing")
    return verdict.outcome is Outcome.UNKNOWN_DEVICE and not decision.allowed
