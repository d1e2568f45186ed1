"""Changes of many rows: in batches, each locked before it is written."""

from collections.abc import Iterator
from typing import Any, TypeVar

from django.db import models

from devices.history.recording import BATCH_SIZE

Row = TypeVar("Row", bound=models.Model)


def locked(rows: "models.QuerySet[Row]") -> Iterator[list[Row]]:
    """Yield the rows, a batch at a time, locked until the transaction ends and still as asked."""
    manager: Any = rows.model._default_manager
    keys = list(rows.order_by("pk").values_list("pk", flat=True))
    for start in range(0, len(keys), BATCH_SIZE):
        batch = keys[start : start + BATCH_SIZE]
        held = set(
            manager.select_for_update().filter(pk__in=batch).order_by("pk").values_list("pk")
        )
        yield list(rows.filter(pk__in=[pk for (pk,) in held]).order_by("pk"))
