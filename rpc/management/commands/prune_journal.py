from typing import Any

from django.utils import timezone

from devices.management.base import PruneCommand, counted
from rpc.models import CallRecord
from rpc.rtio.models import EndingState, SessionEnding


class Command(PruneCommand):
    help = (
        "Delete the rows of the journal whose hour began before a span ago, a few thousand at a\n"
        "time, so that neither servers nor staff wait for it, and the receipts of sessions that\n"
        "were ended before. Run it daily."
    )
    span_help = "how much stays: 90d, 12w, 36h"

    def handle(self, *args: Any, **options: Any) -> None:
        before = (timezone.now() - options["older_than"]).replace(minute=0, second=0, microsecond=0)
        old = CallRecord.objects.before(before)
        endings = SessionEnding.objects.filter(requested_at__lt=before)
        endings = endings.exclude(state=EndingState.WAITING)
        rows = old.count() if options["dry_run"] else old.prune()
        receipts = endings.count() if options["dry_run"] else endings.prune()
        done = "would be deleted" if options["dry_run"] else "deleted"
        self.answer(
            f"{counted(rows + receipts, 'row')} {done}.",
            {
                "rows": rows,
                "receipts": receipts,
                "before": before,
                "deleted": not options["dry_run"],
            },
        )
