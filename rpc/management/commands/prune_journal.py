from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone

from devices.management.base import RegistryCommand, duration
from rpc.models import CallRecord, SessionEnding


class Command(RegistryCommand):
    help = (
        "Delete the rows of the journal whose hour began before a span ago, a few thousand at a\n"
        "time, so that neither servers nor staff wait for it, and the receipts of sessions that\n"
        "were ended before. Run it daily."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--older-than",
            type=duration,
            required=True,
            metavar="SPAN",
            help="how much stays: 90d, 12w, 36h",
        )
        parser.add_argument(
            "--dry-run", action="store_true", help="only count what would be deleted"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        before = (timezone.now() - options["older_than"]).replace(minute=0, second=0, microsecond=0)
        old = CallRecord.objects.before(before)
        endings = SessionEnding.objects.done_before(before)
        rows = old.count() if options["dry_run"] else old.prune()
        receipts = endings.count() if options["dry_run"] else endings.prune()
        text = "{} rows would be deleted." if options["dry_run"] else "{} rows deleted."
        self.answer(
            options,
            text.format(rows + receipts),
            {
                "rows": rows,
                "receipts": receipts,
                "before": before,
                "deleted": not options["dry_run"],
            },
        )
