"""Judge whether this process should be sent requests: `/readyz`.

A stranger is told nothing but that; the log says why not, once for each reason.
"""

import logging
import os
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from django.db import DEFAULT_DB_ALIAS, DatabaseError, InterfaceError, connection, connections
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone

from authsite.operations.server import DRAINING, RUNTIME
from devices.credentials import hashing
from devices.database.slots import Slots
from devices.models import PreSharedKey

PEPPERS_EVERY = 30.0  # seconds: the question reads all keys, in a thread of its own
IN_USE = timedelta(hours=1)

log = logging.getLogger(__name__)


class NotReadyError(Exception):
    """Why this process should be sent no request."""


class Readiness:
    """Asks for a slot, an answer of the database, applied migrations, and the peppers in use."""

    def __init__(self, slots: Slots, question: Callable[[], object]) -> None:
        """Judge by `question`, one statement of the hot path, in one of `slots`."""
        self._slots = slots
        self._question = question
        self._is_migrated = False
        self._peppers: PepperWatch | None = None
        self._said = ""

    def is_ready(self) -> bool:
        """Return the judgement; a new reason against it leaves one log line."""
        try:
            self._judge()
        except NotReadyError as reason:
            said = str(reason)
        else:
            said = ""
        if said != self._said:
            self._said = said
            log.warning("not ready: %s" if said else "ready again%s", said)
        return not said

    def _judge(self) -> None:
        if is_draining():
            raise NotReadyError("the server was told to stop")
        try:
            with self._slots:
                self._question()
                self._check_migrations()
        except (DatabaseError, InterfaceError) as error:
            reason = " ".join(str(error).split())
            raise NotReadyError(f"{type(error).__name__}: {reason}") from error
        if self._peppers is None:
            self._peppers = PepperWatch()
        if missing := self._peppers.missing():
            raise NotReadyError(f"keys in use need the peppers {', '.join(sorted(missing))}")

    def _check_migrations(self) -> None:
        """Look for migrations that are not applied; once there are none, that stays so."""
        if self._is_migrated:
            return
        executor = MigrationExecutor(connections[DEFAULT_DB_ALIAS])
        plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
        if plan:
            raise NotReadyError(f"{len(plan)} migrations are not applied")
        self._is_migrated = True


class PepperWatch:
    """Reads now and then which peppers keys in use need and this process does not have."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._next = 0.0
        self._missing = missing_peppers()

    def missing(self) -> frozenset[str]:
        """Return what was read last; has it read again where that was a while ago."""
        if time.monotonic() >= self._next and self._lock.acquire(blocking=False):
            self._next = time.monotonic() + PEPPERS_EVERY
            threading.Thread(target=self._read, name="peppers", daemon=True).start()
        return self._missing

    def _read(self) -> None:
        try:
            self._missing = missing_peppers()
        except (DatabaseError, InterfaceError) as error:
            log.warning("peppers in use are not known: %s", " ".join(str(error).split()))
        finally:
            connection.close()
            self._lock.release()


def missing_peppers() -> frozenset[str]:
    """Return the peppers that keys hang on which another process verified within the last hour.

    A key that no process can verify says nothing against this one.
    """
    used = PreSharedKey.objects.filter(
        revoked_at=None, last_used__gte=timezone.now() - IN_USE
    ).exclude(pepper__in=list(hashing.peppers()))
    return frozenset(used.order_by().values_list("pepper", flat=True).distinct())


def is_draining() -> bool:
    """Whether the server was told to stop and waits for its callers to look elsewhere."""
    folder = os.environ.get(RUNTIME)
    return folder is not None and (Path(folder) / DRAINING).exists()
