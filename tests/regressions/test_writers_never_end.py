"""One failure outside a batch ended the thread that writes the journal, silently and for good.

A public report of this kind: https://github.com/camunda-community-hub/pyzeebe/issues/80.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
from django.db import InternalError
from django.utils import timezone

from devices.database import write_behind
from devices.database.last_used import LastUsedWorker
from devices.verdicts import Outcome, Verdict
from rpc.journal import Entry, Journal
from rpc.models import CallReason, CallRecord, Question


@pytest.fixture
def journal(settings: Any) -> Iterator[Journal]:
    settings.EVIDENCE_INTERVAL = 0.05
    worker = Journal()
    yield worker
    worker._finish()


@pytest.mark.django_db
@pytest.mark.parametrize("call", ["drain", "requeue"])
def test_a_failure_outside_a_batch_is_survived(
    call: str, journal: Journal, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    again = threading.Event()
    calls: list[str] = []
    real = getattr(journal, call)

    def fail_twice(*arguments: Any) -> Any:
        calls.append(call)
        if len(calls) <= 2:
            raise RuntimeError("odd")
        again.set()
        return real(*arguments)

    monkeypatch.setattr(journal, call, fail_twice)
    monkeypatch.setattr(journal, "write", lambda _: None)
    with caplog.at_level(logging.ERROR):
        journal.record("verifier", "10.0.0.1", [Entry(Question.CALL, CallReason.ANSWERED)])
        assert again.wait(5)
    assert caplog.text.count("RuntimeError: odd") == 2


class Broken:
    """A connection that cannot even be closed."""

    vendor = "none"

    def __init__(self, close: Callable[..., None]) -> None:
        self.close = close

    @staticmethod
    def execute_wrapper(_: object) -> AbstractContextManager[None]:
        return nullcontext()


@pytest.mark.django_db
@pytest.mark.parametrize("call", ["truncate_wal", "connection"])
def test_a_failure_after_the_batches_is_survived(
    call: str, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = threading.Semaphore(0)

    def fail(*_: object) -> None:
        failed.release()
        raise RuntimeError("odd")

    broken = fail if call == "truncate_wal" else Broken(fail)
    with monkeypatch.context() as patch:
        patch.setattr(write_behind, call, broken)
        patch.setattr(journal, "write", lambda _: None)
        journal.record("verifier", "10.0.0.1", [Entry(Question.CALL, CallReason.ANSWERED)])
        assert failed.acquire(timeout=5)
        assert failed.acquire(timeout=5)
        assert journal._thread is not None
        assert journal._thread.is_alive()
        journal._ended = True
        journal._wake.set()
        journal._thread.join(5)


def test_what_a_standby_refuses_is_kept(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a failover the old address may answer as a standby, which only reads."""
    read_only = InternalError("cannot execute INSERT in a read-only transaction")
    read_only.__cause__ = type("ReadOnlySqlTransaction", (Exception,), {"sqlstate": "25006"})()

    def refuse(*_: object) -> None:
        raise read_only

    journal, last_used = Journal(), LastUsedWorker()
    journal.record("verifier", "10.0.0.1", [Entry(Question.CALL, CallReason.ANSWERED)])
    last_used.record_use(Verdict(Outcome.VERIFIED, device=1, key=2), timezone.now())
    with monkeypatch.context() as patch:
        patch.setattr("rpc.models.CallQuerySet.add", refuse)
        patch.setattr(LastUsedWorker, "write", refuse)
        journal.flush()
        last_used.flush()
    assert last_used.waiting() == 2
    journal.flush()
    assert CallRecord.objects.total() == 1
