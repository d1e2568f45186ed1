"""Who changed what, when, from where and why: a row of history beside each change.

`with origin("import", reason=…)` says where the changes within it come from. A save and a delete
record themselves; what Django does in bulk does not, and is done through `bulk_create`,
`bulk_update` and `bulk_delete` instead. `timeline` reads. Migrations name `current_origin`.
"""

from devices.history.context import Origin, by_itself, current_batch, current_origin, origin
from devices.history.models import (
    ChangeType,
    Recorded,
    Records,
    all_histories,
    history_of,
    visible_to,
)
from devices.history.recording import (
    bulk_create,
    bulk_delete,
    bulk_update,
    locked,
    record,
    record_stored,
)

__all__ = [
    "ChangeType",
    "Origin",
    "Recorded",
    "Records",
    "all_histories",
    "bulk_create",
    "bulk_delete",
    "bulk_update",
    "by_itself",
    "current_batch",
    "current_origin",
    "history_of",
    "locked",
    "origin",
    "record",
    "record_stored",
    "visible_to",
]
