from typing import Any

from django.core.management.base import CommandError, CommandParser

from devices.management.base import named
from devices.management.exporting import PeriodExportCommand
from devices.models import Device
from devices.transfer.exporting import Export
from devices.transfer.formats import Format
from rpc.exporting import export_calls
from rpc.models import CallOutcome, CallQuerySet, CallRecord, Question


class Command(PeriodExportCommand):
    help = (
        "Write the journal of calls, the latest hour first, to FILE or the screen: CSV or NDJSON,\n"
        "complete or not at all. A row counts what was asked alike within an hour; --since and\n"
        "--until choose whole hours. Secrets are not in the journal.\n\n"
        "  export_calls --since 2026-01-01 --outcome refused --output refused.csv"
    )
    noun = ("row of calls", "rows of calls")

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--caller", type=named, metavar="NAME", help="only calls of this caller"
        )
        parser.add_argument(
            "--about",
            type=named,
            metavar="PREFIX",
            help="only calls about devices whose IDs begin so, at either end",
        )
        parser.add_argument("--outcome", choices=CallOutcome.values, help="only such answers")
        parser.add_argument("--question", choices=Question.values, help="only calls about that")

    def export(self, kind: Format, **options: Any) -> Export:
        self._check_known(options["caller"], options["about"])
        calls: CallQuerySet = CallRecord.objects.all()
        if options["since"] is not None:
            calls = calls.since(options["since"])
        if options["until"] is not None:
            calls = calls.before(options["until"])
        if options["about"] is not None:
            calls = calls.about_prefix(options["about"])
        exactly = {
            name: options[name]
            for name in ("caller", "outcome", "question")
            if options[name] is not None
        }
        return export_calls(calls.filter(**exactly), kind)

    @staticmethod
    def _check_known(caller: str | None, about: str | None) -> None:
        """End with 1 where no call was ever counted and no device is registered of that name."""
        calls = CallRecord.objects.all()
        if caller is not None and not (
            calls.filter(caller=caller).exists()
            or Device.objects.filter(identifier=caller).exists()
        ):
            raise CommandError(f"no caller {caller} is known", returncode=1)
        if about is not None and not (
            Device.objects.filter(identifier__startswith=about).exists()
            or calls.about_prefix(about).exists()
        ):
            raise CommandError(f"no device is known whose ID begins with {about}", returncode=1)
