"""Commands that write rows of a time range into a file, for auditors."""

from datetime import datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import CommandError, CommandParser

from devices.management.base import RegistryCommand, moment
from devices.transfer.exporting import Export
from devices.transfer.formats import Format, format_of

FORMATS = (Format.CSV, Format.NDJSON)


class ExportCommand(RegistryCommand):
    """Writes CSV or NDJSON, complete or not at all; how many rows, on standard error."""

    noun: str

    def add_arguments(self, parser: CommandParser) -> None:
        """Add format, file and time; `--json` is the same as `--format ndjson`."""
        super().add_arguments(parser)
        parser.add_argument(
            "--format",
            choices=[str(one) for one in FORMATS],
            help="what to write (default: what the name of FILE tells, else csv)",
        )
        parser.add_argument("--output", metavar="FILE", help="where to (default: the screen)")
        parser.add_argument(
            "--since", type=moment, metavar="TIME", help="from then on: 2026-01-31T12:00Z"
        )
        parser.add_argument("--until", type=moment, metavar="TIME", help="before that moment")

    def export(
        self, kind: Format, since: datetime | None, until: datetime | None, **options: Any
    ) -> Export:
        """Return the file."""
        raise NotImplementedError

    def handle(self, *args: Any, **options: Any) -> None:
        """Write."""
        since, until = options.pop("since"), options.pop("until")
        if since is not None and until is not None and since >= until:
            raise CommandError("--since must lie before --until", returncode=2)
        export = self.export(self._format(options), since, until, **options)
        with export.file as file:
            self.hand_out(file, options["output"])
        self.stderr.write(f"{export.rows:,} {self.noun}")

    @staticmethod
    def _format(options: dict[str, Any]) -> Format:
        if options["format"]:
            return Format(options["format"])
        if options["json"]:
            return Format.NDJSON
        try:
            kind = format_of(options["output"]) if options["output"] else Format.CSV
        except ValidationError as error:
            raise CommandError(f"{error.messages[0]} Use --format.", returncode=2) from error
        if kind not in FORMATS:
            raise CommandError("this is written as CSV or NDJSON: use --format", returncode=2)
        return kind
