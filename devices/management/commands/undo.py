from argparse import ArgumentTypeError
from typing import Any
from uuid import UUID

from django.contrib.auth import get_user_model
from django.core.exceptions import ObjectDoesNotExist
from django.core.management.base import CommandError, CommandParser
from django.db import transaction

from devices.history import all_histories, undoing
from devices.management.base import ChangeCommand, number

NOTHING = "nothing is left of it to be undone"


class Command(ChangeCommand):
    help = (
        "Undo what one request, command or import changed (undo BATCH), or one change of a row\n"
        "(undo MODEL N, where N is the id of the change, not of the row), as list_changes --json\n"
        "has them. What others changed since stays, and so do credentials; what was deleted does\n"
        "not come back.\n\n"
        "  undo 74fc468d-b5b8-4329-9900-2708b0c5ccc3 --dry-run\n"
        "  undo devices.device 17"
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "change", nargs="+", help="the number of a batch; or a model and a change's number"
        )
        parser.add_argument(
            "--restore",
            action="store_true",
            help="with MODEL ID: set the row back to what it said then, whatever changed since",
        )
        parser.add_argument("--dry-run", action="store_true", help="only say what would change")

    def handle(self, *args: Any, **options: Any) -> None:
        match options["change"]:
            case [text] if not options["restore"]:
                self._undo_batch(self._batch(text), options)
            case [label, text]:
                self._undo_one(self._model(label), self._number(text), options)
            case _:
                raise CommandError("write BATCH, or MODEL ID", returncode=2)

    def _undo_batch(self, batch: UUID, options: dict[str, Any]) -> None:
        reason = undoing.batch_reason(options["reason"])
        everything = get_user_model()(is_superuser=True)  # whoever runs commands may do it
        with self.change(options, reason) as broken:
            plan = undoing.plan(batch, everything, lock=True)
            if plan is None:
                text = f"there is no such batch, or one of more than {undoing.MAX_UNDONE:,} changes"
                raise CommandError(text, returncode=1)
            undoing.apply(plan)
        left = [{"why": one.why, "rows": one.names} for one in plan.left]
        done = "would be" if options["dry_run"] else "are"
        lines = [f"{plan.what} {done} as before." if plan.total else f"{NOTHING.capitalize()}."]
        lines += [f"left: {', '.join(one['rows'])}: {one['why']}" for one in left]
        document = {"batch": batch, "undone": plan.total, "left": left, "broken": broken}
        self._answer(options, lines, document, yes=plan.total > 0)

    def _undo_one(self, model: Any, change: int, options: dict[str, Any]) -> None:
        with transaction.atomic():
            try:
                way = undoing.reversal_of(model, change, undoes_change=not options["restore"])
            except ObjectDoesNotExist:
                text = "there is no such change, nothing before it, or no such row any more"
                raise CommandError(text, returncode=1) from None
            preview = way.preview()
            if not preview:
                raise CommandError(NOTHING, returncode=1)
            if (error := way.check()) is not None:
                raise error
            reason = way.reason(options["reason"])
            with self.change(options, reason) as broken:
                way.apply()
        lines = [f"{way.row}: {one}" for one in preview]
        fields = [one._asdict() for one in preview]
        document = {"model": model._meta.label_lower, "row": way.row.pk, "fields_changed": fields}
        document["broken"] = broken
        self._answer(options, lines, document, yes=True)

    def _answer(
        self, options: dict[str, Any], lines: list[str], document: dict[str, Any], *, yes: bool
    ) -> None:
        document["dry_run"] = options["dry_run"]
        if options["dry_run"]:
            lines.append("Nothing was changed: this was a dry run.")
        self.answer("\n".join(lines), document, yes=yes)

    @staticmethod
    def _batch(text: str) -> UUID:
        try:
            return UUID(text)
        except ValueError:
            raise CommandError(f"“{text}” is no number of a batch", returncode=2) from None

    @staticmethod
    def _number(text: str) -> int:
        try:
            return number(text)
        except ArgumentTypeError as error:
            raise CommandError(str(error), returncode=2) from None

    @staticmethod
    def _model(label: str) -> Any:
        models: dict[str, Any] = {
            one.instance_type._meta.label_lower: one.instance_type
            for one in all_histories()
            if getattr(one.instance_type, "restored_fields", ())
        }
        if label.lower() not in models:
            text = f"no change of {label} can be undone, but of {', '.join(sorted(models))}"
            raise CommandError(text, returncode=2)
        return models[label.lower()]
