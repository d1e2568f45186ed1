"""Bound how long a commit waits for standbys, and follow up on what was not confirmed.

With synchronous replication a commit ends once the standbys show it, and waits without end for one
that is gone; no timeout of the server's ends that wait, but a cancellation does: the change is then
committed on the primary, and may not be on every standby. Whoever made it is told, and a thread
waits for the confirmation in their place: `pending()` is 0 again once everything is on every
standby.
"""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection, transaction

WAIT_AGAIN = 0.2  # seconds that a commit waits while another one is not confirmed
ESCALATE_EVERY = 30.0  # seconds
WAITED = "SyncRepWaitForLSN"  # the server's function that a cancelled wait's warning names

# A condition that always holds: a statement with it, in no transaction, waits neither for a standby
# nor for the disk. SQLite waits for no disk either (`synchronous=NORMAL`).
WITHOUT_WAITING = {
    "sqlite": "TRUE",
    "postgresql": "(SELECT set_config('synchronous_commit', 'off', true)) = 'off'",
}

log = logging.getLogger(__name__)

_thread = threading.local()
_lock = threading.Lock()
_pending = 0
_confirmer: threading.Thread | None = None


@contextmanager
def without_waiting() -> Iterator[None]:
    """Write in one short transaction that waits neither for a standby nor for the disk.

    It may be lost with the primary; where PostgreSQL itself is killed, that of its last second.
    """
    with transaction.atomic():
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute("SET LOCAL synchronous_commit = off")
        yield


@contextmanager
def bounded(driver: "psycopg.Connection[Any]", seconds: float | None = None) -> Iterator[None]:
    """End the wait for standbys, of a commit in the block, after a while."""
    limit = settings.CONFIRM_SECONDS if seconds is None else seconds
    if not limit:
        yield
        return
    if seconds is None and _pending:
        limit = WAIT_AGAIN
    is_over = threading.Lock()
    cancelled = threading.Event()

    def cancel() -> None:
        with is_over:
            if not timer.finished.is_set():
                cancelled.set()
                with suppress(psycopg.Error):
                    driver.cancel_safe(timeout=2)

    timer = threading.Timer(limit, cancel)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.finished.set()
        with is_over:
            if cancelled.is_set():
                _take_late_cancellation(driver)


def _take_late_cancellation(driver: "psycopg.Connection[Any]") -> None:
    """Take a cancellation that came too late, which would hit the next statement otherwise."""
    with suppress(psycopg.Error):
        driver.execute("SELECT 1")
    with suppress(psycopg.Error):
        driver.rollback()


def on_notice(notice: psycopg.errors.Diagnostic) -> None:
    """Take the server's word that a change is committed and not confirmed by every standby."""
    if notice.source_function != WAITED:
        return
    _thread.unconfirmed = True
    if threading.current_thread() is _confirmer:
        return
    log.warning("a change is committed, but not confirmed by every standby yet")
    _await_confirmation()


def follow_up_earlier() -> None:
    """Follow up on what processes that have ended left unconfirmed, if there is any such change.

    A commit that every standby confirms has confirmed all that was committed before it.
    """
    _await_confirmation()


def pending() -> int:
    """Return how many changes of this process are committed and not confirmed."""
    return _pending


def take_unconfirmed() -> bool:
    """Return whether this thread made such a change since it was asked last."""
    found: bool = getattr(_thread, "unconfirmed", False)
    _thread.unconfirmed = False
    return found


def _await_confirmation() -> None:
    global _pending, _confirmer  # noqa: PLW0603 - one a process
    with _lock:
        _pending += 1
        if _confirmer is None:
            _confirmer = threading.Thread(target=_confirm, name="confirmation", daemon=True)
            _confirmer.start()


def _confirm() -> None:
    """Commit something that all standbys must confirm, and with it all that was before."""
    global _pending, _confirmer  # noqa: PLW0603
    began, wait = time.monotonic(), settings.CONFIRM_SECONDS or ESCALATE_EVERY
    while True:
        seen = _pending
        try:
            if _is_confirmed(wait):
                with _lock:
                    _pending -= seen
                    if not _pending:
                        _confirmer = None
                        break
                continue
        except (DatabaseError, InterfaceError) as error:
            log.warning("not known whether changes are confirmed: %s", " ".join(str(error).split()))
            time.sleep(1)
        finally:
            connection.close()
        wait = ESCALATE_EVERY
        log.error(
            "%d changes are committed and not confirmed by every standby for %d s: a standby that "
            "still answers may answer from before them",
            _pending,
            time.monotonic() - began,
        )
    log.info("all changes are confirmed, after %d s", time.monotonic() - began)


def _is_confirmed(wait: float) -> bool:
    """Wait for every standby for so many seconds; return whether all have confirmed."""
    take_unconfirmed()
    connection.ensure_connection()
    with bounded(connection.connection, wait), connection.cursor() as cursor:
        cursor.execute("SELECT pg_logical_emit_message(true, 'authsite', 'confirmed')")
    return not take_unconfirmed()
