"""Rows that are locked before they are changed, and tables that are changed in turns."""

from collections.abc import Collection
from typing import Any

from django.db import connection, transaction
from django.db.models import QuerySet

from devices.database.batches import batched

MAX_KEYS = 1000  # keys in one statement: SQLite takes no more values than it was built for


def take_turn(table: str) -> None:
    """Wait until no other transaction has its turn with a table; ends with the transaction.

    Each of its changes is checked against all of its rows. The turn locks no row: whoever changes
    one has locked that already, and two who did so and then asked for all rows waited for each
    other. SQLite has one writer anyway.
    """
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", [table])


def update_in_turn(rows: "QuerySet[Any]", **values: Any) -> int:
    """Update rows in a transaction of its own; return how many.

    SQLite's writers take turns by transactions: only one that begins may be the next.
    """
    with transaction.atomic():
        return rows.update(**values)


def before_locks(model: Any) -> None:
    """Take the turn with the table of a model that has `changes_in_turns`; before its rows.

    An import has the turn and then locks rows: it and somebody who locked one of them, and then
    asked for the turn, would wait for each other.
    """
    if getattr(model, "changes_in_turns", False):
        take_turn(model._meta.db_table)


def hold(model: Any, keys: Collection[Any], *, changes: bool = True) -> list[Any]:
    """Lock rows until the transaction ends, in the order of their keys; return those there are.

    Where it `changes` none of them, but only what belongs to them, it waits for no turn.
    """
    if changes:
        before_locks(model)
    rows = model._default_manager.select_for_update(of=("self",), no_key=True).order_by("pk")
    held = rows.values_list("pk", flat=True)
    return [pk for batch in batched(sorted(keys), MAX_KEYS) for pk in held.filter(pk__in=batch)]
