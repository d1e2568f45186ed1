"""Record what successes leave behind: last seen, last used, digests with a newer pepper.

Written behind the request, in bulk, by one thread of each process, and at most once a minute for
a row. A crash loses what is not written yet, of twice EVIDENCE_INTERVAL at most, and nothing else.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from django.apps import apps
from django.db import connections, router

from devices.database.confirmation import WITHOUT_WAITING, without_waiting
from devices.database.drivers import for_cursor
from devices.database.statements import Statement
from devices.database.write_behind import WriteBehindWorker, in_batches
from devices.verdicts import Verdict

EVERY = timedelta(minutes=1)  # one write a row and minute
BATCH_ROWS = 200  # named in one statement
FIELDS = {"Device": "last_seen", "PreSharedKey": "last_used", "Certificate": "last_used"}


# Every writer locks rows newest first, so that no two wait for each other. One parameter whatever
# the number of rows: a query of Django's has a placeholder for each, and costs four times as much.
# One statement without BEGIN and COMMIT: they would be three round trips more, and a thread that
# watches over the commit.
WRITE = """UPDATE {table} SET {field} = %s
 WHERE id IN (SELECT id FROM {table}
               WHERE id {among} AND ({field} IS NULL OR {field} <= %s)
               ORDER BY id DESC {lock})
   AND {without_waiting}
"""


class Uses(NamedTuple):
    """When rows of a model were used last, by their primary keys."""

    model: str
    moments: dict[int, datetime]


class NewDigest(NamedTuple):
    """A key's digest as it was verified, and the one that takes its place."""

    old: str
    new: str
    pepper: str


Digests = dict[int, NewDigest]


class LastUsedWorker(WriteBehindWorker[Uses | Digests]):
    """Collects uses from request threads and writes them every few seconds."""

    name = "last-used"
    capacity = 40_000  # of twice as many rows a request as the journal's

    def __init__(self) -> None:
        super().__init__()
        self._uses: dict[str, dict[int, datetime]] = {model: {} for model in FIELDS}
        self._digests: Digests = {}

    def record_use(self, verdict: Verdict, moment: datetime) -> None:
        """Record that a credential was used and its device seen."""
        with self._lock:
            for model, row in (
                ("Device", verdict.device),
                ("PreSharedKey", verdict.key),
                ("Certificate", verdict.certificate),
            ):
                if row is not None:
                    self._uses[model][row] = moment
        if self._thread is None:
            self._start()

    def replace_digest(self, key: int, *, old: str, new: str, pepper: str) -> None:
        """Have a key's digest replaced, if it is still `old` when that is written."""
        with self._lock:
            self._digests[key] = NewDigest(old, new, pepper)
        self._start()

    def awaits_new_digest(self, key: int) -> bool:
        return key in self._digests

    def waiting(self) -> int:
        return len(self._digests) + sum(map(len, self._uses.values()))

    def drain(self) -> list[Uses | Digests]:
        """Return what was collected: the digests, then the uses of each model by BATCH_ROWS."""
        with self._lock:
            uses, self._uses = self._uses, {model: {} for model in FIELDS}
            digests, self._digests = self._digests, {}
        batches: list[Uses | Digests] = [digests] if digests else []
        for model, moments in uses.items():
            parts = in_batches(moments, BATCH_ROWS, order=int)
            batches += [Uses(model, dict(part)) for part in parts]
        return batches

    def requeue(self, batches: Sequence[Uses | Digests]) -> None:
        """Collect again what was not written; what was collected since is newer."""
        with self._lock:
            for batch in batches:
                if isinstance(batch, Uses):
                    self._uses[batch.model] = batch.moments | self._uses[batch.model]
                else:
                    self._digests = batch | self._digests

    def write(self, batch: Uses | Digests) -> None:
        if isinstance(batch, Uses):
            self._write_uses(*batch)
        else:
            self._write_digests(batch)

    @staticmethod
    def _write_digests(digests: Digests) -> None:
        keys = apps.get_model("devices", "PreSharedKey")
        with without_waiting():
            for key, change in sorted(digests.items(), reverse=True):
                keys.objects.filter(pk=key, digest=change.old).update(
                    digest=change.new, pepper=change.pepper
                )

    @staticmethod
    def _write_uses(model: str, moments: dict[int, datetime]) -> None:
        table = apps.get_model("devices", model)
        connection = connections[router.db_for_write(table)]
        sql = WRITE.format(
            table=table._meta.db_table,
            field=FIELDS[model],
            among=Statement.AMONG[connection.vendor],
            lock="FOR NO KEY UPDATE" if connection.features.has_select_for_no_key_update else "",
            without_waiting=WITHOUT_WAITING[connection.vendor],
        )
        now = max(moments.values())
        moment, before = map(connection.ops.adapt_datetimefield_value, (now, now - EVERY))
        with connection.cursor() as cursor:
            cursor.execute(sql, [moment, *for_cursor(connection, [list(moments)]), before])


worker = LastUsedWorker()
