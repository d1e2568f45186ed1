"""Recording what no save records: changes in bulk, and how old history is deleted.

Each change that is recorded, here or by a save, leaves an event, too (devices/events/).
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

from django.db import connection, models, transaction
from django.utils import timezone

from devices.database.batches import batched
from devices.history import context
from devices.history.models import (
    ChangeType,
    all_histories,
    bulk_deleted,
    history_of,
    hold_dependants,
)

BATCH_SIZE = 1000  # rows in one statement

Row = TypeVar("Row", bound=models.Model)
RowChange = tuple[models.Model, ChangeType]


def _columns_of(circumstances: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns of rows of the history that say who changes something now, and why."""
    columns = {"by": "history_user_id", "reason": "history_change_reason"}
    said = {columns.get(name, name): value for name, value in circumstances.items()}
    return {"history_date": timezone.now(), **said}


def record(rows: Sequence[models.Model], change_type: str) -> None:
    """Record what was done to rows of one model, BATCH_SIZE rows a statement."""
    _record([(row, ChangeType(change_type)) for row in rows])


def _record(changes: Sequence[RowChange]) -> None:
    if not changes:
        return
    circumstances = context.circumstances()
    historical = history_of(type(changes[0][0]))
    names = [field.attname for field in historical.tracked_fields]
    common = _columns_of(circumstances)
    _record_events(historical, changes, circumstances)
    historical.objects.bulk_create(
        (
            historical(
                history_type=kind.value, **common, **{name: getattr(row, name) for name in names}
            )
            for row, kind in changes
        ),
        batch_size=BATCH_SIZE,
    )


def record_stored(rows: Sequence[models.Model], change_type: str) -> None:
    """Record what was done to rows of one model as the database has them, BATCH_SIZE at a time.

    The database copies them itself, which costs a tenth of `record`.
    """
    if not rows:
        return
    model = type(rows[0])
    historical = history_of(model)
    names = [field.attname for field in historical.tracked_fields]
    circumstances = context.circumstances()
    common = {"history_type": ChangeType(change_type).value, **_columns_of(circumstances)}
    _record_events(historical, [(row, ChangeType(change_type)) for row in rows], circumstances)
    meta, quote = historical._meta, connection.ops.quote_name
    columns = ", ".join(quote(meta.get_field(name).column) for name in (*names, *common))
    values = [
        models.Value(value, output_field=meta.get_field(name)) for name, value in common.items()
    ]
    for batch in batched(rows, BATCH_SIZE):
        keys = [row.pk for row in batch]
        stored = model._default_manager.order_by().filter(pk__in=keys).values_list(*names, *values)
        select, parameters = stored.query.sql_with_params()
        with connection.cursor() as cursor:
            cursor.execute(f"INSERT INTO {quote(meta.db_table)} ({columns}) {select}", parameters)


def _record_events(
    historical: Any, changes: Sequence[RowChange], circumstances: Mapping[str, Any]
) -> None:
    """Leave an event for each change, before its history is written: it shows what changed."""
    from devices.events import recording as events  # whose tables are recorded, too

    made = [change for change in changes if change[1] is not ChangeType.TRIED]
    for start in range(0, len(made), BATCH_SIZE):
        events.record_changes(historical, made[start : start + BATCH_SIZE], circumstances)


def locked(rows: "models.QuerySet[Row]") -> Iterator[list[Row]]:
    """Yield the rows, a batch at a time, locked until the transaction ends and still as asked."""
    manager: Any = rows.model._default_manager
    keys = list(rows.order_by("pk").values_list("pk", flat=True))
    for batch in batched(keys, BATCH_SIZE):
        held = manager.select_for_update().filter(pk__in=batch).order_by("pk")
        yield list(rows.filter(pk__in=list(held.values_list("pk", flat=True))).order_by("pk"))


# A bulk change is all or nothing within its caller's transaction, which fails with it: none needs
# a savepoint of its own.
def bulk_create(rows: Sequence[models.Model]) -> None:
    """Create rows of one model with their history; they get their primary keys."""
    if rows:
        with transaction.atomic(savepoint=False):
            type(rows[0])._default_manager.bulk_create(rows, batch_size=BATCH_SIZE)
            record_stored(rows, ChangeType.CREATED)


def bulk_update(
    rows: Sequence[models.Model],
    fields: Collection[str],
    *,
    created: Sequence[models.Model] = (),
) -> None:
    """Write these fields of rows of one model, and create others of it; their history is one.

    That is half the statements of an update and a `bulk_create`, each of which records its own.
    """
    with transaction.atomic(savepoint=False):
        if rows:
            type(rows[0])._default_manager.bulk_update(rows, fields, batch_size=BATCH_SIZE)
        if created:
            type(created[0])._default_manager.bulk_create(created, batch_size=BATCH_SIZE)
        _record(
            [
                *((row, ChangeType.CHANGED) for row in rows),
                *((row, ChangeType.CREATED) for row in created),
            ]
        )


def bulk_delete(rows: Sequence[models.Model]) -> None:
    """Delete rows of one model, and what depends on them, with their history."""
    if not rows:
        return
    model = type(rows[0])
    token = bulk_deleted.set(bulk_deleted.get() | {model})
    try:
        with transaction.atomic(savepoint=False):
            hold_dependants(model, [row.pk for row in rows])
            record(rows, ChangeType.DELETED)
            for batch in batched(rows, BATCH_SIZE):
                model._default_manager.filter(pk__in=[row.pk for row in batch]).delete()
    finally:
        bulk_deleted.reset(token)


def delete_together(model: Any, rows: Sequence[models.Model]) -> None:
    """Delete rows of a model as `bulk_delete` does, or in the order that it asks for."""
    getattr(model, "delete_in_order", bulk_delete)(rows)


def prune(moment: datetime, *, dry_run: bool = False) -> dict[str, int]:
    """Delete the changes made before a moment, or only count them; return how many by model.

    In short statements, memberships included: `clean_old_history` does neither.
    """
    found = {}
    for historical in all_histories():
        old = historical.objects.filter(history_date__lt=moment).order_by("history_date")
        count = old.count() if dry_run else 0
        while not dry_run and (keys := list(old.values_list("pk", flat=True)[:BATCH_SIZE])):
            count += historical.objects.filter(pk__in=keys).delete()[0]
        found[historical.instance_type._meta.label_lower] = count
    return found
