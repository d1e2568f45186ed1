"""Evidence is written behind requests, whatever fails and whoever else writes."""

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import InterfaceError, OperationalError, connection, transaction
from django.utils import timezone

from devices.database import last_used, write_behind
from devices.models import Device, PreSharedKey
from devices.verdicts import Outcome, Verdict

Factory = Callable[..., Device]
NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)


def seen(device: Device) -> Verdict:
    return Verdict(Outcome.VERIFIED, device=device.pk)


@pytest.mark.django_db
@pytest.mark.parametrize("error", [InterfaceError("closed"), OSError("gone"), RuntimeError("odd")])
def test_the_writer_survives_every_failure(
    monkeypatch: pytest.MonkeyPatch, settings: Any, error: Exception
) -> None:
    settings.EVIDENCE_INTERVAL = 0.01
    worker = last_used.LastUsedWorker()
    tried: list[int] = []
    twice = threading.Event()

    def fail(_: object) -> None:
        tried.append(1)
        if len(tried) > 1:
            twice.set()
        raise error

    monkeypatch.setattr(worker, "write", fail)
    monkeypatch.setattr(worker, "batch_rows", 1)
    worker.record_use(Verdict(Outcome.VERIFIED, device=1, key=1), NOW)  # a batch of each
    try:
        assert twice.wait(5)
    finally:
        monkeypatch.setattr(worker, "write", lambda _: None)
        worker._finish()


@pytest.mark.parametrize("is_sorting", [True, False])
def test_an_end_where_much_is_to_be_sorted_loses_nothing(
    monkeypatch: pytest.MonkeyPatch, settings: Any, is_sorting: bool
) -> None:
    settings.EVIDENCE_INTERVAL = 0.05 if is_sorting else 20
    monkeypatch.setattr(write_behind, "RUN", 10)
    monkeypatch.setattr(write_behind, "PAUSE", 0.1)  # seconds: 3 in all, where nobody ends it
    worker = last_used.LastUsedWorker()
    written: list[last_used.Row] = []

    in_order = worker.order

    def order(entry: tuple[last_used.Row, Any]) -> Any:
        if threading.current_thread() is worker._thread:
            time.sleep(0.01)  # as long as it takes where much more is to be sorted
        return in_order(entry)

    monkeypatch.setattr(worker, "order", order)
    monkeypatch.setattr(worker, "write", lambda batch: written.extend(row for row, _ in batch))
    for pk in range(300):
        worker.record_use(Verdict(Outcome.VERIFIED, device=pk), NOW)
    while is_sorting and worker.waiting():
        time.sleep(0.01)
    began = time.monotonic()
    worker._finish()
    assert time.monotonic() - began < 1
    assert sorted(written) == [("Device", pk) for pk in range(300)]
    if not is_sorting and connection.vendor == "sqlite":
        assert written == sorted(written)


def test_notes_that_arrive_while_others_are_written_are_kept(make_device: Factory) -> None:
    first, second = make_device(), make_device()
    worker = last_used.LastUsedWorker()
    worker.record_use(seen(first), NOW)
    write = worker.write

    def write_slowly(batch: list[tuple[last_used.Row, last_used.Evidence]]) -> None:
        worker.record_use(seen(second), NOW)
        write(batch)

    worker.write = write_slowly  # type: ignore[method-assign]
    worker.flush()
    worker.write = write  # type: ignore[method-assign]
    worker.flush()
    assert set(Device.objects.values_list("last_seen", flat=True)) == {NOW}


@pytest.mark.parametrize("error", [OperationalError("gone"), InterfaceError("closed")])
def test_what_the_database_cannot_take_waits(
    make_device: Factory, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    device = make_device()
    key, _ = PreSharedKey.objects.issue(device=device)
    worker = last_used.LastUsedWorker()
    worker.record_use(seen(device), NOW)
    worker.replace_digest(key.pk, old=key.digest, new="made anew", pepper=key.pepper)
    write = worker.write

    def fail(_: object) -> None:
        worker.record_use(seen(device), NOW + timedelta(seconds=5))
        raise error

    monkeypatch.setattr(worker, "write", fail)
    worker.flush()
    assert worker.awaits_new_digest(key.pk)
    monkeypatch.setattr(worker, "write", write)
    worker.flush()

    device.refresh_from_db()
    key.refresh_from_db()
    assert (device.last_seen, key.digest) == (NOW + timedelta(seconds=5), "made anew")


def test_evidence_never_goes_back(make_device: Factory) -> None:
    device = make_device(last_seen=NOW + timedelta(hours=1))
    worker = last_used.LastUsedWorker()
    worker.record_use(seen(device), NOW)
    worker.flush()
    device.refresh_from_db()
    assert device.last_seen == NOW + timedelta(hours=1)


def test_each_row_gets_its_own_moment(make_device: Factory) -> None:
    """A row that was locked for an hour, or an outage, leaves old moments beside new ones."""
    moments = {make_device(): NOW, make_device(): NOW + timedelta(hours=1, microseconds=5)}
    recent = make_device(last_seen=NOW - timedelta(seconds=59))
    worker = last_used.LastUsedWorker()
    for device, moment in {**moments, recent: NOW}.items():
        worker.record_use(seen(device), moment)
    worker.flush()
    found = {device: device.last_seen for device in Device.objects.all()}
    assert found == {**moments, recent: recent.last_seen}


@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif("connection.vendor == 'sqlite'", reason="SQLite has one writer at a time")
def test_writers_of_the_same_rows_never_block_each_other_for_ever(make_device: Factory) -> None:
    """Rows are locked in one order, staff's rotation and every server's evidence alike."""
    device = make_device()
    keys = [PreSharedKey.objects.issue(device=device)[0].pk for _ in range(60)]
    failures: list[BaseException] = []
    ready = threading.Barrier(3)

    def write(order: int) -> None:
        worker = last_used.LastUsedWorker()
        ready.wait()
        try:
            for round_ in range(30):
                moment = NOW + timedelta(minutes=2 * round_)
                worker.write([(("PreSharedKey", key), moment) for key in keys[::order]])
        except OperationalError as error:
            failures.append(error)
        finally:
            connection.close()

    def rotate() -> None:
        ready.wait()
        try:
            for _ in range(30):
                with transaction.atomic():
                    for key in PreSharedKey.objects.select_for_update().filter(device=device):
                        end = timezone.now() + timedelta(days=1)
                        if key.not_after is None or key.not_after > end:
                            key.not_after = end
                            key.save(update_fields=["not_after", "not_before"])
        except OperationalError as error:
            failures.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=write, args=[order]) for order in (1, -1)]
    threads.append(threading.Thread(target=rotate))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif("connection.vendor == 'sqlite'", reason="SQLite locks no rows")
def test_a_row_that_others_have_locked_keeps_no_other_row_waiting(make_device: Factory) -> None:
    """A transaction that is left open, with a row that it changed, stopped all evidence."""
    device, locked = make_device(), make_device()
    key, _ = PreSharedKey.objects.issue(device=locked)
    worker = last_used.LastUsedWorker()
    worker.replace_digest(key.pk, old=key.digest, new="made anew", pepper=key.pepper)
    for one in (device, locked):
        worker.record_use(Verdict(Outcome.VERIFIED, device=one.pk, key=key.pk), NOW)

    def flush() -> None:
        try:
            worker.flush()
        finally:
            connection.close()

    def seen_at() -> list[datetime | None]:
        rows = Device.objects.filter(pk__in=[device.pk, locked.pk]).order_by("pk")
        return [*rows.values_list("last_seen", flat=True)]

    with transaction.atomic():
        Device.objects.filter(pk=locked.pk).update(name="changed")
        PreSharedKey.objects.filter(pk=key.pk).update(label="changed")
        thread = threading.Thread(target=flush, daemon=True)
        thread.start()
        thread.join(5)
        assert seen_at() == [NOW, None]
    thread.join()
    worker.flush()
    assert seen_at() == [NOW, NOW]
    assert not worker.waiting()
