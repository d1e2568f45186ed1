from datetime import timedelta
from typing import Any

from django.utils import timezone

from devices.history.recording import prune
from devices.management.base import PruneCommand, counted
from devices.values.moments import in_utc


class Command(PruneCommand):
    help = (
        "Delete the changes of all models that are older than a span such as 365d. The rows\n"
        "themselves stay as they are. Run it from a timer; it deletes in small batches."
    )
    span_help = "age from which changes are deleted, such as 365d or 52w"

    def handle(self, *, older_than: timedelta, dry_run: bool, **options: Any) -> None:
        moment = timezone.now() - older_than
        changes = prune(moment, dry_run=dry_run)
        done = "Would delete" if dry_run else "Deleted"
        n = counted(sum(changes.values()), "change")
        text = f"{done} {n} made before {in_utc(moment)}."
        key = "would_delete" if dry_run else "deleted"
        self.answer(text, {"before": moment, key: changes})
