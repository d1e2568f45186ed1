from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db.models import Q

from devices.history import Origin, all_histories, timeline
from devices.management.exporting import PeriodExportCommand
from devices.transfer.exporting import Export, export_changes
from devices.transfer.formats import Format


class Command(PeriodExportCommand):
    help = (
        "Write changes, the latest first, to FILE or the screen: CSV or NDJSON, complete or\n"
        "not at all. Each names who, from where, why, the request, and its fields before and\n"
        "after.\n\n"
        "  export_changes --since 2026-01-01 --until 2026-02-01 --by kim --output january.ndjson"
    )
    noun = ("change",)

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--by", metavar="NAME", help="only changes of this account")
        parser.add_argument("--origin", choices=Origin.values, help="only changes from there")
        parser.add_argument(
            "--model",
            action="append",
            default=[],
            metavar="MODEL",
            help="only changes of such rows, as devices.device; may be given again",
        )

    def export(self, kind: Format, **options: Any) -> Export:
        histories = {one.instance_type._meta.label_lower: one for one in all_histories()}
        for label in options["model"]:
            if label.lower() not in histories:
                raise CommandError(
                    f"there is no history of {label}; there are {', '.join(sorted(histories))}",
                    returncode=2,
                )
        chosen = {label.lower() for label in options["model"]} or histories.keys()
        if options["by"] is not None and not timeline.knows(options["by"]):
            raise CommandError(f"nobody is known as {options['by']}", returncode=1)
        wanted = {
            "history_date__gte": options["since"],
            "history_date__lt": options["until"],
            "history_user_id": options["by"],
            "origin": options["origin"],
        }
        condition = Q(**{name: value for name, value in wanted.items() if value is not None})
        return export_changes({histories[label]: condition for label in sorted(chosen)}, kind)
