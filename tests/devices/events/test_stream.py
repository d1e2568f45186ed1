"""The stream: events in the order of their commits, cursors, and what is forgotten."""

import threading
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from devices.events import models, stream
from devices.events.kinds import Kind
from devices.events.models import Event, EventStream
from devices.events.stream import BEGINNING, LATEST, CursorError, CursorGoneError

pytestmark = pytest.mark.django_db


def write(count: int, kind: Kind = Kind.DEVICE_CHANGED, **fields: Any) -> list[int]:
    made = [Event.objects.create(kind=kind, data={"n": n}, **fields) for n in range(count)]
    stream.number()
    return [event.pk for event in made]


def positions(page: stream.Page) -> list[int | None]:
    return [event.position for event in page.events]


def test_events_are_numbered_in_order_and_once() -> None:
    first = write(3)
    assert stream.number() == 0
    second = write(2)
    rows = Event.objects.order_by("position").values_list("pk", "position")
    assert list(rows) == [(pk, nth) for nth, pk in enumerate([*first, *second], 1)]
    assert stream.head() == 5


def test_many_are_numbered_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "NUMBERED", 4)
    Event.objects.bulk_create([Event(kind=Kind.DEVICE_CHANGED, data={}) for _ in range(10)])
    with CaptureQueriesContext(connection) as asked:
        assert [stream.number(), stream.number()] == [10, 0]
    assert len([one for one in asked if "ROW_NUMBER" in one["sql"]]) == 3


def test_a_filter_looks_at_so_many_events_for_a_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "READ", 3)
    monkeypatch.setattr(stream, "MAX_READS", 2)
    write(8)
    write(1, Kind.DEVICE_DISABLED)
    page = stream.read("", 5, kinds={Kind.DEVICE_DISABLED})
    assert (positions(page), page.position, page.more) == ([], 6, True)
    page = stream.read(page.cursor, 5, kinds={Kind.DEVICE_DISABLED})
    assert (positions(page), page.more) == ([9], False)


def test_what_is_forgotten_while_a_page_is_read_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    write(3)
    cursor, place = stream.read("", 1).cursor, stream._place

    def placed_before_it_is_forgotten(after: str, row: EventStream) -> tuple[int, str]:
        found = place(after, row)
        Event.objects.filter(position=1).update(moment=timezone.now() - timedelta(days=9))
        Event.objects.filter(position=2).update(moment=timezone.now() - timedelta(days=9))
        assert stream.prune(timezone.now() - timedelta(days=8)) == 2
        return found

    monkeypatch.setattr(stream, "_place", placed_before_it_is_forgotten)
    with pytest.raises(CursorGoneError):
        stream.read(cursor, 5)


@pytest.mark.parametrize("after", ["", BEGINNING])
def test_what_is_forgotten_between_two_reads_of_a_page_is_told(
    after: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "READ", 2)
    write(8)
    cursor_of = stream.cursor_of

    def forgotten_after_the_first_read(event: Event) -> str:
        if event.position == 2:
            moment = timezone.now() - timedelta(days=9)
            Event.objects.filter(position__lte=6).update(moment=moment)
            assert stream.prune(timezone.now() - timedelta(days=8)) == 6
        return cursor_of(event)

    monkeypatch.setattr(stream, "cursor_of", forgotten_after_the_first_read)
    with pytest.raises(CursorGoneError):
        stream.read(after, 8, kinds={Kind.DEVICE_CHANGED})
    assert positions(stream.read(after="", limit=8)) == [7, 8]


def test_a_reader_goes_on_where_it_was() -> None:
    write(5)
    page = stream.read("", 2)
    assert (positions(page), page.more) == ([1, 2], True)
    page = stream.read(page.cursor, 2)
    assert (positions(page), page.more) == ([3, 4], True)
    page = stream.read(page.cursor, 2)
    assert (positions(page), page.more) == ([5], False)
    again = stream.read(page.cursor, 2)
    assert (again.events, again.cursor, again.more) == ([], page.cursor, False)
    write(1)
    assert positions(stream.read(page.cursor, 2)) == [6]


def test_an_empty_stream_has_a_cursor_to_begin_with() -> None:
    assert stream.read("", 10).cursor == stream.read(LATEST, 10).cursor == BEGINNING
    write(2)
    assert positions(stream.read(BEGINNING, 10)) == [1, 2]


def test_from_now_on() -> None:
    write(2)
    page = stream.read(LATEST, 10)
    assert page.events == []
    write(1)
    assert positions(stream.read(page.cursor, 10)) == [3]


def test_a_filter_moves_the_cursor_past_what_it_leaves_out() -> None:
    write(3, Kind.DEVICE_CHANGED, groups=[7])
    write(2, Kind.DEVICE_DISABLED, groups=[8, 9])
    page = stream.read("", 10, kinds=[Kind.DEVICE_DISABLED])
    assert positions(page) == [4, 5]
    page = stream.read("", 10, groups=[7])
    assert (positions(page), page.position) == ([1, 2, 3], 5)
    assert positions(stream.read("", 10, groups=[9], kinds=[Kind.DEVICE_CHANGED])) == []
    assert positions(stream.read("", 10, groups=[])) == []
    page = stream.read("", 1, groups=[8])
    assert (positions(page), page.position, page.more) == ([4], 4, True)


@pytest.mark.parametrize(
    "cursor", ["x", "-1", "1", "1-", "1-xyz", "1-1234567", "00", "1-" + "0" * 9]
)
def test_what_is_no_cursor(cursor: str) -> None:
    write(1)
    with pytest.raises(CursorError):
        stream.read(cursor, 10)


def test_a_cursor_of_another_history_is_found_out() -> None:
    write(2)
    page = stream.read("", 10)
    Event.objects.all().delete()  # as a backup is restored, and other things happen
    EventStream.objects.update(position=1)
    with pytest.raises(CursorGoneError, match="backup"):
        stream.read(page.cursor, 10)
    write(1)
    with pytest.raises(CursorGoneError, match="backup"):
        stream.read(page.cursor, 10)


def test_what_is_forgotten_is_gone_and_who_read_it_goes_on() -> None:
    write(3, moment=timezone.now() - timedelta(days=40))
    early, read = stream.read("", 2).cursor, stream.read("", 10).cursor
    month_ago = timezone.now() - timedelta(days=30)
    assert stream.prune(month_ago) == 3
    assert stream.read(read, 10).events == []
    write(1)
    assert positions(stream.read(read, 10)) == [4]
    assert positions(stream.read("", 10)) == [4]
    for cursor in (early, BEGINNING):
        with pytest.raises(CursorGoneError, match="kept"):
            stream.read(cursor, 10)
    assert stream.read("", 10).cursor == stream.read(LATEST, 10).cursor


def test_pruning_ends_at_the_first_event_that_is_kept() -> None:
    write(1, moment=timezone.now() - timedelta(days=40))
    write(1)
    write(1, moment=timezone.now() - timedelta(days=40))
    assert stream.prune(timezone.now() - timedelta(days=30)) == 1
    assert positions(stream.read("", 10)) == [2, 3]


@pytest.mark.django_db(transaction=True)
def test_a_transaction_that_commits_late_comes_later_and_is_not_passed_over() -> None:
    if connection.vendor == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    begun, may_commit = threading.Event(), threading.Event()

    def late() -> None:
        with transaction.atomic():
            Event.objects.record(Kind.DEVICE_CHANGED, {"who": "late"})
            begun.set()
            may_commit.wait(10)
        connection.close()

    thread = threading.Thread(target=late)
    thread.start()
    assert begun.wait(10)
    Event.objects.record(Kind.DEVICE_CHANGED, {"who": "early"})
    stream.number()
    page = stream.read("", 10)
    assert [event.data["who"] for event in page.events] == ["early"]
    may_commit.set()
    thread.join()
    stream.number()
    rest = stream.read(page.cursor, 10)
    assert [event.data["who"] for event in rest.events] == ["late"]
    assert rest.events[0].pk < page.events[0].pk


@pytest.mark.django_db(transaction=True)
def test_writers_and_numberers_at_once_leave_no_gap_and_no_repeat() -> None:
    if connection.vendor == "sqlite":
        pytest.skip("in memory, threads share a connection")
    writers, each = 4, 40
    stop = threading.Event()

    def run(work: Any) -> threading.Thread:
        def body() -> None:
            try:
                work()
            finally:
                connection.close()

        thread = threading.Thread(target=body)
        thread.start()
        return thread

    def write_some() -> None:
        for n in range(each):
            with transaction.atomic():
                Event.objects.record(Kind.DEVICE_CHANGED, {"n": n})

    def number_on() -> None:
        while not stop.is_set():
            stream.number()

    numberers = [run(number_on) for _ in range(3)]
    threads = [run(write_some) for _ in range(writers)]
    seen: list[int | None] = []
    cursor = ""
    while len(seen) < writers * each:
        page = stream.read(cursor, 50)
        seen += positions(page)
        cursor = page.cursor
    stop.set()
    for thread in (*threads, *numberers):
        thread.join()
    assert seen == list(range(1, writers * each + 1))
