"""Judge whether this process should be sent requests: `/readyz`.

A stranger is told nothing but that; the log says why not, once for each reason. A process that
verifies devices is sent them, whatever else it cannot do: without the pepper of a token or of a
webhook's secret it says *degraded*.
"""

import io
import logging
import os
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

from django.core.management import call_command
from django.db import DatabaseError, InterfaceError, connection
from django.db.models import QuerySet
from django.utils import timezone

from authsite.operations import RUNTIME
from authsite.operations.server import DRAINING
from devices.credentials import hashing
from devices.database.slots import Slots
from devices.extension_points import PEPPERED
from devices.models import PreSharedKey

PEPPERS_EVERY = 30.0  # seconds: the question reads all keys, in a thread of its own
IN_USE = timedelta(hours=1)

log = logging.getLogger(__name__)


class State(StrEnum):
    """What is said of this process, in a word."""

    READY = "ok"
    DEGRADED = "degraded"  # it verifies devices, and lacks the pepper of something else
    UNAVAILABLE = "unavailable"


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

    def state(self) -> State:
        """Return the judgement; a new reason against it leaves one log line."""
        state, said = State.READY, ""
        try:
            peppers = self._judge()
        except NotReadyError as reason:
            state, said = State.UNAVAILABLE, f"not ready: {reason}"
        else:
            if peppers.others:
                state, said = State.DEGRADED, f"ready, but {peppers.others}"
        if said != self._said:
            self._said = said
            log.warning("%s", said or "ready again")
        return state

    def _judge(self) -> "PepperWatch":
        if is_draining():
            raise NotReadyError("the server was told to stop")
        try:
            with self._slots:
                self._question()
                self._check_migrations()
            self._peppers = peppers = self._peppers or PepperWatch()
        except (DatabaseError, InterfaceError) as error:
            reason = " ".join(str(error).split())
            raise NotReadyError(f"{type(error).__name__}: {reason}") from error
        if missing := peppers.missing():
            raise NotReadyError(f"keys in use need the peppers {', '.join(sorted(missing))}")
        return peppers

    def _check_migrations(self) -> None:
        """Look for migrations that are not applied; once there are none, that stays so."""
        if self._is_migrated:
            return
        if missing := missing_migrations():
            raise NotReadyError(f"{len(missing)} migrations are not applied")
        self._is_migrated = True


def missing_migrations() -> list[str]:
    """Return the migrations that the database has not seen yet, as `app.name`."""
    listed = io.StringIO()
    call_command("showmigrations", plan=True, no_color=True, stdout=listed)
    lines = listed.getvalue().splitlines()
    return [line.removeprefix("[ ]").strip() for line in lines if line.startswith("[ ]")]


class PepperWatch:
    """Reads now and then which peppers are needed and this process does not have.

    `missing()` names those of keys in use; `others` says of what else, and is empty otherwise.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._next = time.monotonic() + PEPPERS_EVERY
        self._missing = missing_peppers()
        self.others = missing_beside_keys()

    def missing(self) -> frozenset[str]:
        """Return what was read last; has it read again where that was a while ago."""
        if time.monotonic() >= self._next and self._lock.acquire(blocking=False):
            self._next = time.monotonic() + PEPPERS_EVERY
            threading.Thread(target=self._read, name="peppers", daemon=True).start()
        return self._missing

    def _read(self) -> None:
        try:
            self._missing, self.others = missing_peppers(), missing_beside_keys()
        except (DatabaseError, InterfaceError) as error:
            log.warning("peppers in use are not known: %s", " ".join(str(error).split()))
        finally:
            connection.close()
            self._lock.release()


def missing_peppers() -> frozenset[str]:
    """Return the missing peppers of keys that another process verified within the last hour.

    A key that no process can verify says nothing against this one.
    """
    used = PreSharedKey.objects.filter(revoked_at=None, last_used__gte=timezone.now() - IN_USE)
    return frozenset(_missing_for(used))


def missing_beside_keys() -> str:
    """Say which live tokens and webhooks need peppers that this process does not have."""
    now = timezone.now()
    found = {name: _missing_for(model.objects.live_at(now)) for name, model in PEPPERED.items()}
    return "; ".join(
        f"{name} need the peppers {', '.join(ids)}" for name, ids in found.items() if ids
    )


def _missing_for(rows: "QuerySet[Any]") -> list[str]:
    """Return the peppers that rows need and this process does not have, in order."""
    lacking = rows.exclude(pepper__in=list(hashing.peppers()))
    return sorted(lacking.order_by().values_list("pepper", flat=True).distinct())


def is_draining() -> bool:
    """Whether the server was told to stop and waits for its callers to look elsewhere."""
    folder = os.environ.get(RUNTIME)
    return folder is not None and (Path(folder) / DRAINING).exists()
