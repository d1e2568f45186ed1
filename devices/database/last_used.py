"""Record what successes leave behind: last seen, last used, digests with a newer pepper.

Written behind the request, in bulk, by one thread of each process, and at most once a minute for
a row. A crash loses what is not written yet, of twice EVIDENCE_INTERVAL at most, and nothing else.
"""

from collections import defaultdict
from datetime import datetime, timedelta
from typing import NamedTuple

import msgspec
from django.apps import apps
from django.db import connections, router

from devices.database.confirmation import WITHOUT_WAITING, without_waiting
from devices.database.statements import execute
from devices.database.write_behind import STATEMENT_SECONDS, WriteBehindWorker
from devices.verdicts import Verdict

EVERY = timedelta(minutes=1)  # one write a row and minute
DIGESTS = "digests"
FIELDS = {"Device": "last_seen", "PreSharedKey": "last_used", "Certificate": "last_used"}


# Each row gets its own moment: those that waited may be hours old. They go along as JSON,
# {"<id>": "<moment in UTC>"}, one parameter whatever the number of rows: a query of Django's has a
# placeholder for each, and costs four times as much. One statement without BEGIN and COMMIT: they
# would be three round trips more, and a thread that watches over the commit.
# Every writer locks rows newest first, so that no two wait for each other. Rows that somebody else
# has locked, perhaps for long, are returned, and left for the next time. OFFSET 0 has the rows
# looked up one by one, where PostgreSQL would read a table of 20,000 as a whole.
WRITE = {
    "sqlite": """
    UPDATE {table} SET {field} = replace(rtrim(used.value, 'Z'), 'T', ' ')
      FROM json_each(%s) AS used
     WHERE {table}.id = CAST(used.key AS INTEGER)
       AND ({field} IS NULL OR {field} <= datetime(used.value, '-{seconds} seconds'))
    """,
    "postgresql": """
    WITH due AS MATERIALIZED (
        SELECT id, used.value::timestamptz AS moment
          FROM json_each_text(%s) AS used
               CROSS JOIN LATERAL (
                   SELECT id, {field} FROM {table} WHERE id = used.key::bigint OFFSET 0
               ) AS found
         WHERE {field} IS NULL OR {field} <= used.value::timestamptz - interval '{seconds} seconds'
    ), free AS (
        SELECT id, due.moment
          FROM due JOIN {table} USING (id)
         ORDER BY id DESC
           FOR NO KEY UPDATE OF {table} SKIP LOCKED
    ), written AS (
        UPDATE {table} SET {field} = free.moment
          FROM free
         WHERE {table}.id = free.id
           AND ({field} IS NULL OR {field} <= free.moment - interval '{seconds} seconds')
           AND {without_waiting}
        RETURNING {table}.id
    )
    SELECT id FROM due EXCEPT SELECT id FROM written
    """,
}


class NewDigest(NamedTuple):
    """A key's digest as it was verified, and the one that takes its place."""

    old: str
    new: str
    pepper: str


Row = tuple[str, int]  # a model, or DIGESTS; and a primary key
Evidence = datetime | NewDigest  # what a success leaves in a row


class LastUsedWorker(WriteBehindWorker[Row, Evidence]):
    """Collects uses from request threads and writes them every few seconds."""

    name = "last-used"

    def record_use(self, verdict: Verdict, moment: datetime) -> None:
        """Record that a credential was used and its device seen.

        Not where both rows tell of a use within the last minute (`Verdict.used_lately`).
        """
        if verdict.used_lately:
            return
        with self._lock:
            for model, pk in (
                ("Device", verdict.device),
                ("PreSharedKey", verdict.key),
                ("Certificate", verdict.certificate),
            ):
                if pk is not None:
                    self._collected[model, pk] = moment
        if self._thread is None:
            self._start()

    def replace_digest(self, key: int, *, old: str, new: str, pepper: str) -> None:
        """Have a key's digest replaced, if it is still `old` when that is written."""
        with self._lock:
            self._collected[DIGESTS, key] = NewDigest(old, new, pepper)
        self._start()

    def awaits_new_digest(self, key: int) -> bool:
        return (DIGESTS, key) in self._collected

    def write(self, batch: list[tuple[Row, Evidence]]) -> None:
        """Write a batch: one statement for each model in it."""
        digests: dict[int, NewDigest] = {}
        uses: defaultdict[str, dict[int, datetime]] = defaultdict(dict)
        for (model, pk), evidence in batch:
            if isinstance(evidence, NewDigest):
                digests[pk] = evidence
            else:
                uses[model][pk] = evidence
        if digests:
            self._write_digests(digests)
        for model, moments in uses.items():
            self._write_uses(model, moments)

    @staticmethod
    def _write_digests(digests: dict[int, NewDigest]) -> None:
        keys = apps.get_model("devices", "PreSharedKey")
        with without_waiting():
            free = keys.objects.select_for_update(skip_locked=True, no_key=True)
            for key, change in sorted(digests.items(), reverse=True):
                keys.objects.filter(
                    pk__in=free.filter(pk=key).values("pk"), digest=change.old
                ).update(digest=change.new, pepper=change.pepper)

    def _write_uses(self, model: str, moments: dict[int, datetime]) -> None:
        table = apps.get_model("devices", model)
        connection = connections[router.db_for_write(table)]
        statement = WRITE[connection.vendor].format(
            table=table._meta.db_table,
            field=FIELDS[model],
            seconds=EVERY.seconds,
            without_waiting=WITHOUT_WAITING[connection.vendor],
        )
        uses = msgspec.json.encode(moments).decode()
        left = execute(connection, statement, [uses], STATEMENT_SECONDS)
        with self._lock:
            for (pk,) in left:
                self._collected.setdefault((model, pk), moments[pk])


worker = LastUsedWorker()
