import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, BinaryIO

from django.core.exceptions import ValidationError
from django.core.management.base import CommandError, CommandParser
from django.db import transaction

from devices import history
from devices.background.jobs import report
from devices.history.context import because, check_reason
from devices.management.base import ChangeCommand, named
from devices.management.exporting import format_by_name
from devices.transfer.columns import columns_of
from devices.transfer.exporting import export_secrets
from devices.transfer.formats import MAX_BYTES, Format, Problem, format_of
from devices.transfer.importing import Import, Progress
from devices.transfer.rows import Options
from devices.transfer.tables import read
from devices.values.text import printable

MAX_SHOWN = 50  # problems printed; --json has them all, up to 1,000


class Command(ChangeCommand):
    help = (
        "Import devices, groups and credentials from a CSV, JSON, NDJSON or XLSX file; - reads\n"
        "standard input. Devices are found by their identifier and created or changed; none is\n"
        "removed. Either the whole file is imported or nothing of it. docs/transfer.md explains\n"
        "the columns: identifier, kind, name, groups, enabled, secret and more."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("file", metavar="FILE", help="the table; - for standard input")
        parser.add_argument(
            "--format", choices=Format.values, help="what FILE is (default: as its name tells)"
        )
        parser.add_argument("--dry-run", action="store_true", help="only say what would be done")
        parser.add_argument(
            "--create-groups", action="store_true", help="create groups that are not there yet"
        )
        parser.add_argument(
            "--random",
            action="store_true",
            help="a machine made the secrets in FILE, with at least 128 random bits: they are then "
            "stored and checked as fast as generated ones; chosen ones cost 45 ms each",
        )
        parser.add_argument(
            "--generate-secrets",
            type=named,
            metavar="OUT",
            help="give each device in FILE that has no live credential a generated secret, and "
            "write identifiers and secrets to OUT, a new file that only its owner may read",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        out = options["generate_secrets"]
        kind = Format(options["format"]) if options["format"] else format_by_name(options["file"])
        out_kind = Format.CSV
        if out:
            with suppress(ValidationError):
                out_kind = format_of(out)
            if out_kind == Format.XLSX:  # which is written by way of a temporary file
                raise CommandError(f"{out}: secrets go into CSV, JSON or NDJSON", returncode=2)
            if os.path.lexists(out):  # told before the file is checked, and by a dry run, too
                raise CommandError(f"{out} cannot be created: it exists", returncode=2)
        self._reason = because(Path(options["file"]).name, options["reason"])
        check_reason(self._reason)
        content = self.content(options["file"], MAX_BYTES)
        run = Import(
            read(content, kind, columns_of),
            Options(
                create_groups=options["create_groups"], generate=bool(out), random=options["random"]
            ),
            progress=self._tell,
        )
        self._told = time.monotonic()
        run.check()
        if run.is_sound and not options["dry_run"]:
            try:
                with secrets_file(out) if out else nullcontext() as file:
                    self._write(run, file, out_kind, options)
            except CommandError:
                raise
            except BaseException:
                if out and Path(out).exists():
                    self.stderr.write(f"{out} is kept: its secrets may have been imported.")
                raise
        self._report(run, options)

    def _write(
        self, run: Import, out: BinaryIO | None, kind: Format, options: dict[str, Any]
    ) -> None:
        """Write to the registry and, before that is committed, the secrets to their file."""
        run.prepare()
        with transaction.atomic():
            imported = history.origin(history.Origin.IMPORT, reason=self._reason)
            with self.change(options), imported:
                run.write()
            if out is not None:
                export_secrets(out, run.generated, kind)
                out.flush()
                os.fsync(out.fileno())

    def _tell(self, step: Progress) -> None:
        """Say on standard error how far the import is, now and then.

        On a terminal it is one line that changes.
        """
        terminal = self.stderr.isatty()
        if time.monotonic() - self._told > (0.1 if terminal else PATIENCE):
            before, after = ("\r\x1b[K", "") if terminal else ("", "\n")
            of = f" of {step.total:,}" if step.total is not None else ""
            line = f"{before}{STAGES[step.stage]} {step.done:,}{of}"
            self.stderr.write(line, self.style.NOTICE, ending=after)
            self._told = time.monotonic()

    def _report(self, run: Import, options: dict[str, Any]) -> None:
        if self.stderr.isatty():
            self.stderr.write("\r\x1b[K", ending="")
        done = run.is_sound and not options["dry_run"]
        counts = run.counts
        lines = [
            "Devices: {new:,} new, {changed:,} changed, {unchanged:,} unchanged, {rejected:,} "
            "rejected.".format(**counts)
        ]
        if any(value for name, value in counts.items() if name.startswith("groups")):
            lines.append(
                "Groups: {groups_new:,} new, {groups_changed:,} changed, "
                "{groups_unchanged:,} unchanged, {groups_rejected:,} rejected.".format(**counts)
            )
        if counts["secrets"] or counts["certificates"]:
            lines.append("Secrets: {secrets:,}, certificates: {certificates:,}.".format(**counts))
        if run.is_sound:
            lines.append("Imported." if done else "Nothing was written: this was a dry run.")
        else:
            lines.append(f"Nothing was imported. Errors: {run.problem_total:,}.")
        if not options["json"]:
            self._print_problems("", run.problems, run.problem_total)
            self._print_problems("warning: ", run.warnings, run.warning_total)
        self.answer(
            "\n".join(lines),
            {
                **report(run),
                "imported": done,
                "dry_run": options["dry_run"],
                "secrets_file": options["generate_secrets"] if done else None,
            },
            yes=run.is_sound,
        )

    def _print_problems(self, mark: str, problems: list[Problem], total: int) -> None:
        for problem in problems[:MAX_SHOWN]:
            column = f", {problem.column}" if problem.column else ""
            self.stderr.write(printable(f"{mark}row {problem.row}{column}: {problem.message}"))
        if total > MAX_SHOWN:
            self.stderr.write(f"{mark}and {total - MAX_SHOWN:,} more")


PATIENCE = 5  # seconds between lines of progress that go into a file
STAGES = {"check": "checked", "prepare": "prepared secrets", "write": "written"}


@contextmanager
def secrets_file(path: str) -> Iterator[BinaryIO]:
    """Open a new file that only its owner may read; it goes away if what uses it fails.

    Not so once it is written and the import is being committed: a signal, or a connection that
    breaks then, says nothing of what was committed, and nothing else has the secrets.
    It is there before the import begins: where it cannot be, nothing is imported.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise CommandError(f"{path} cannot be created: {error.strerror}", returncode=2) from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
    except BaseException as error:
        with suppress(OSError):
            if isinstance(error, OSError) or not Path(path).stat().st_size:
                Path(path).unlink()
        if isinstance(error, OSError):
            raise CommandError(f"{path}: {error.strerror}", returncode=2) from error
        raise
