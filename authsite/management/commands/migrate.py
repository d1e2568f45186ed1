import time
from contextlib import suppress
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError, CommandParser
from django.core.management.commands import migrate
from django.db import DatabaseError, InterfaceError, OperationalError, connections

from devices.database.indexes import remake_invalid
from devices.management.base import closed_streams, seconds

LOCK_SECONDS = 1.0  # that others may be kept waiting behind a lock which is not had
ATTEMPTS = 60
PAUSE = 2.0  # seconds, so that what waited is answered first
LOCK_NOT_AVAILABLE = "55P03"  # SQLSTATE


class Command(migrate.Command):
    """Django's `migrate`, which on PostgreSQL waits for no lock for long and tries again.

    Whatever asks for a table that an `ALTER TABLE` waits for waits behind it: an open transaction
    would so stop every verification. (docs/operations.md, "Upgrades")
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs | closed_streams())

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--lock-timeout",
            type=seconds,
            default=LOCK_SECONDS,
            metavar="SECONDS",
            help="PostgreSQL: how long to wait for a lock before trying again (default: 1)",
        )
        parser.add_argument(
            "--lock-attempts",
            type=int,
            default=ATTEMPTS,
            metavar="N",
            help=f"PostgreSQL: how often to try (default: {ATTEMPTS}, for about three minutes)",
        )

    def execute(self, *args: Any, **options: Any) -> str | None:
        """Exit with 2 where no database answers, or it fails on the way: checks ask it, too."""
        try:
            connections[options["database"]].ensure_connection()
        except DatabaseError as error:
            raise CommandError(f"the registry cannot be asked: {error}", returncode=2) from error
        try:
            return super().execute(*args, **options)
        except (OperationalError, InterfaceError) as error:
            text = f"the database failed: {error}\nWhat is done is kept: run it again."
            raise CommandError(text, returncode=2) from error

    def handle(self, *args: Any, **options: Any) -> None:
        """Migrate; exit with 1 where a lock was not had in all attempts."""
        connection = connections[options["database"]]
        if connection.vendor != "postgresql" or settings.DATABASE_POOLER:
            super().handle(*args, **options)
            return
        if options["lock_attempts"] < 1:
            raise CommandError("--lock-attempts must be at least 1", returncode=2)
        milliseconds = max(1, int(options["lock_timeout"] * 1000))
        with connection.cursor() as cursor:
            cursor.execute(f"SET lock_timeout = {milliseconds}")
        try:
            self._migrate(*args, **options)
        finally:
            with suppress(DatabaseError, InterfaceError), connection.cursor() as cursor:
                cursor.execute("RESET lock_timeout")

    def _migrate(self, *args: Any, **options: Any) -> None:
        for left in reversed(range(options["lock_attempts"])):
            try:
                if not (options["plan"] or options["check_unapplied"]):
                    # Those that an attempt before has left half-made.
                    for name in remake_invalid(connections[options["database"]]):
                        if options["verbosity"]:
                            text = f"Made {name} anew, which an interrupted migration had left."
                            self.stdout.write(text)
                super().handle(*args, **options)
            except OperationalError as error:
                if getattr(error.__cause__, "sqlstate", None) != LOCK_NOT_AVAILABLE:
                    raise
                self.stderr.write(f"A table is in use: {error}".strip())
            else:
                return
            if left:
                self.stderr.write(f"Trying again in {PAUSE:g} s, {left} times more.")
                time.sleep(PAUSE)
        raise CommandError("No lock was had in all attempts. What is done is kept: run it again.")
