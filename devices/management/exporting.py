"""Commands that write rows into a file, complete or not at all."""

from datetime import datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import CommandError, CommandParser

from devices.management.base import RegistryCommand, counted, moment, named
from devices.transfer.exporting import Export
from devices.transfer.formats import Format, format_of


def format_by_name(path: str) -> Format:
    """Return the format that the name of a file tells; ends with 2 where it tells none."""
    try:
        return format_of(path)
    except ValidationError as error:
        raise CommandError(f"{path}: {error.messages[0]} Use --format.", returncode=2) from error


class ExportCommand(RegistryCommand):
    """Writes what `export` returns, and how many rows on standard error."""

    noun: tuple[str, ...]  # of one, and of many where that is not with an s
    formats: tuple[Format, ...] = (Format.CSV, Format.NDJSON)
    json_format = Format.NDJSON  # that `--json` means

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--format",
            choices=[str(one) for one in self.formats],
            help="what to write (default: what the name of FILE tells, else csv)",
        )
        parser.add_argument(
            "--output", type=named, metavar="FILE", help="where to (default and -: the screen)"
        )

    def export(self, kind: Format, **options: Any) -> Export:
        raise NotImplementedError

    def handle(self, *args: Any, **options: Any) -> None:
        export = self.export(self._format(options), **options)
        with export.file as file:
            self.write_output(file, options["output"])
        self.stderr.write(counted(export.rows, *self.noun))

    def _format(self, options: dict[str, Any]) -> Format:
        if options["format"]:
            return Format(options["format"])
        if options["json"]:
            return self.json_format
        kind = format_by_name(options["output"]) if options["output"] else Format.CSV
        if kind not in self.formats:
            raise CommandError("this is written as CSV or NDJSON: use --format", returncode=2)
        return kind


class PeriodExportCommand(ExportCommand):
    """Writes rows of a time range, for auditors; `export` is given `since` and `until`."""

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--since", type=moment, metavar="TIME", help="from then on: 2026-01-31T12:00Z"
        )
        parser.add_argument("--until", type=moment, metavar="TIME", help="before that moment")

    def handle(self, *args: Any, **options: Any) -> None:
        since: datetime | None = options["since"]
        until: datetime | None = options["until"]
        if since is not None and until is not None and since >= until:
            raise CommandError("--since must lie before --until", returncode=2)
        super().handle(*args, **options)
