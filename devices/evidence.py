"""What successes leave behind: last seen, last used, digests made anew.

Written behind the request, in bulk, by one thread of each process, and at most once a minute for
a row. A crash loses up to a minute of it and nothing else.
"""

import logging
from datetime import datetime, timedelta
from typing import NamedTuple

from django.apps import apps
from django.db import InterfaceError, OperationalError, transaction
from django.db.models import Q

from devices.background import Writer
from devices.verdicts import Verdict

EVERY = timedelta(minutes=1)  # one write a row and minute
BATCH = 500  # rows named in one statement

log = logging.getLogger(__name__)


class NewDigest(NamedTuple):
    """A key's digest as it was verified, and the one that takes its place."""

    old: str
    new: str
    pepper: str


class Recorder(Writer):
    """Collects evidence from request threads and writes it every few seconds."""

    name = "evidence"

    def __init__(self) -> None:
        super().__init__()
        self._noted: dict[tuple[str, int], datetime] = {}
        self._written: dict[tuple[str, int], datetime] = {}
        self._digests: dict[int, NewDigest] = {}

    def note(self, verdict: Verdict, moment: datetime) -> None:
        """Note that a credential was used and its device seen."""
        for model, row in (
            ("Device", verdict.device),
            ("PreSharedKey", verdict.key),
            ("Certificate", verdict.certificate),
        ):
            if row is None:
                continue
            written = self._written.get((model, row))
            if written is None or moment - written >= EVERY:
                with self._lock:
                    self._noted[model, row] = moment
        if self._noted:
            self._start()

    def replace_digest(self, key: int, *, old: str, new: str, pepper: str) -> None:
        """Have a key's digest replaced, if it is still `old` when that is written."""
        with self._lock:
            self._digests[key] = NewDigest(old, new, pepper)
        self._start()

    def awaits_new_digest(self, key: int) -> bool:
        """Whether a replacement for this key is waiting to be written."""
        return key in self._digests

    def flush(self) -> None:
        """Write what was noted; what the database cannot take now waits for the next time."""
        with self._lock:
            noted, self._noted = self._noted, {}
            digests, self._digests = self._digests, {}
        try:
            self._write_digests(digests)
            self._write_moments(noted)
        except (OperationalError, InterfaceError):
            log.exception("evidence of %d rows waits for the database", len(noted) + len(digests))
            with self._lock:  # what was noted since is newer
                self._noted = noted | self._noted
                self._digests = digests | self._digests
        except Exception:  # whatever it is, the thread that writes must go on
            log.exception("evidence of %d rows was not written", len(noted) + len(digests))

    def _write_digests(self, digests: dict[int, NewDigest]) -> None:
        if not digests:
            return
        keys = apps.get_model("devices", "PreSharedKey")
        with transaction.atomic():
            for key, change in sorted(digests.items(), reverse=True):
                keys.objects.filter(pk=key, digest=change.old).update(
                    digest=change.new, pepper=change.pepper
                )

    def _write_moments(self, noted: dict[tuple[str, int], datetime]) -> None:
        by_model: dict[str, list[int]] = {}
        for model, row in noted:
            by_model.setdefault(model, []).append(row)
        for model, rows in by_model.items():
            field = "last_seen" if model == "Device" else "last_used"
            moment = max(noted[model, row] for row in rows)
            stale = Q(**{field: None}) | Q(**{f"{field}__lte": moment - EVERY})
            for start in range(0, len(rows), BATCH):
                table = apps.get_model("devices", model).objects
                batch = table.filter(stale, pk__in=rows[start : start + BATCH]).values("pk")
                # Every writer locks rows newest first, so that no two wait for each other; the
                # slice keeps the order.
                locked = batch.select_for_update(no_key=True).order_by("-pk")[:BATCH]
                with transaction.atomic(savepoint=False):
                    table.filter(pk__in=locked).update(**{field: moment})
        oldest = max(noted.values(), default=None)
        if oldest is not None:
            self._written = {
                row: at for row, at in self._written.items() if oldest - at < EVERY
            } | noted


recorder = Recorder()
