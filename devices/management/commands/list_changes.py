from typing import Any

from django.core.management.base import CommandParser

from devices.history import all_histories, timeline
from devices.management.base import RegistryCommand, add_limit, named
from devices.models import Device
from devices.values.moments import written


class Command(RegistryCommand):
    help = (
        "List the latest changes, what was changed together as one, as `undo` takes them.\n"
        "export_changes writes all of them, field by field."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--device", type=named, metavar="ID", help="only of this device and what belongs to it"
        )
        add_limit(parser, 20)

    def handle(self, *args: Any, **options: Any) -> None:
        where: Any = dict.fromkeys(all_histories(), timeline.CHANGES)
        if options["device"]:
            about = timeline.of(Device, self.device(options["device"]).pk)
            where = {one: condition & timeline.CHANGES for one, condition in about.items()}
        page = timeline.latest(where, options["limit"], in_batches=True)
        documents = [self._described(entry) for entry in page.entries]
        lines = []
        for one in documents:
            name = one["batch"] or f"{one['model']} {one['id']}"
            why = f" ({one['reason']})" if one["reason"] else ""
            by = f"{one['by'] or '—'}, {one['origin']}"
            lines.append(f"{one['moment']}  {name}  {by}: {one['what']}{why}")
        self.answer("\n".join(lines) or "No change.", {"changes": documents})

    @staticmethod
    def _described(entry: timeline.Entry) -> dict[str, Any]:
        change, batch = entry.change, entry.batch
        what = f"{entry.kind.label} {entry.what} {entry.subject}"
        if batch is not None:
            what = ", ".join(f"{one.kind.label} {one.shown}" for one in batch.counts)
        return {
            "moment": written(change.history_date),
            "model": entry.model._meta.label_lower,
            "id": change.history_id,
            "batch": change.batch,
            "what": what,
            "by": change.history_user_id,
            "origin": change.origin,
            "reason": change.history_change_reason,
        }
