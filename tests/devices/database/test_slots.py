"""Slots: no more requests at work than there are, none for who waits, none for ever."""

import io
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import DEFAULT_DB_ALIAS, OperationalError, connections, transaction
from django.http import HttpResponse, StreamingHttpResponse
from django.test import RequestFactory

from devices.api.base import problems
from devices.database import deadlines, drivers, slots as module
from devices.database.slots import NoSlotError, Slots, released
from rpc.wsgi import Body, MachineFastPath


@pytest.fixture
def slots() -> Iterator[Slots]:
    """Return the only slot of a process; the connection of this thread comes back."""
    own = connections[DEFAULT_DB_ALIAS]
    yield Slots(1, max_wait=0.2)
    connections[DEFAULT_DB_ALIAS] = own


def is_free(slots: Slots) -> bool:
    return not slots._free.empty()


class Watched(io.BytesIO):
    """A sender that notes whether the slot was free while it was waited for."""

    def __init__(self, body: bytes, slots: Slots) -> None:
        super().__init__(body)
        self.slots = slots
        self.seen: list[bool] = []

    def read(self, size: int | None = -1) -> bytes:
        self.seen.append(is_free(self.slots))
        return super().read(size)


def test_one_thread_at_a_time_holds_a_slot() -> None:
    slots = Slots(1, max_wait=10)
    at_work: list[int] = []
    most: list[int] = []

    def work(number: int) -> None:
        with slots:
            at_work.append(number)
            time.sleep(0.001)
            most.append(len(at_work))
            at_work.remove(number)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(100)))
    assert set(most) == {1}
    assert is_free(slots)


def test_a_wait_for_a_slot_ends(slots: Slots) -> None:
    def wait() -> float:
        began = time.monotonic()
        with pytest.raises(NoSlotError), slots:
            raise AssertionError
        return time.monotonic() - began

    with slots, ThreadPoolExecutor(1) as pool:
        assert 0.1 < pool.submit(wait).result() < 5


def test_a_released_slot_is_taken_again(slots: Slots) -> None:
    with slots:
        held = connections[DEFAULT_DB_ALIAS]
        with released():
            assert is_free(slots)
        assert connections[DEFAULT_DB_ALIAS] is held
        assert not is_free(slots)
    assert is_free(slots)


def test_a_slot_that_is_not_had_again_is_not_put_back_twice(slots: Slots) -> None:
    with pytest.raises(NoSlotError), slots, released():
        taken = slots._free.get()
    assert not is_free(slots)
    slots._free.put(taken)


def test_without_a_slot_nothing_is_released() -> None:
    own = connections[DEFAULT_DB_ALIAS]
    with released():
        assert connections[DEFAULT_DB_ALIAS] is own


@pytest.mark.parametrize("lost", [True, False])
def test_a_lost_connection_is_handed_to_nobody(
    slots: Slots, monkeypatch: pytest.MonkeyPatch, lost: bool
) -> None:
    closed: list[bool] = []
    monkeypatch.setattr(drivers, "is_lost", lambda _connection: lost)
    with slots:
        monkeypatch.setattr(connections[DEFAULT_DB_ALIAS], "close", lambda: closed.append(True))
    assert closed == [True] * lost


@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif("connections['default'].vendor == 'sqlite'", reason="it has no server")
def test_a_statement_in_a_slot_has_its_deadline(slots: Slots) -> None:
    """It never had: a page that saved a locked row waited for ever, in one of four slots."""
    slots = Slots(1, max_wait=0.2, deadline=0.1)
    for _ in range(2):
        with slots, pytest.raises(OperationalError, match=r"within 0\.1 s"):
            connections[DEFAULT_DB_ALIAS].cursor().execute("SELECT pg_sleep(5)")
    slots._free.get()[0].close()


@pytest.mark.parametrize(
    ("options", "environment"),
    [({"options": "-c search_path=own"}, "-c search_path=other"), ({}, "-c search_path=own")],
)
def test_settings_of_a_session_are_added_to_those_given(
    options: dict[str, str], environment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those in PGOPTIONS were hidden by them."""
    monkeypatch.setenv("PGOPTIONS", environment)
    config = {"OPTIONS": dict(options)}
    changed = module.with_session(config, {"lock_timeout": 1000})
    assert changed["OPTIONS"]["options"] == "-c search_path=own -c lock_timeout=1000"
    assert config == {"OPTIONS": options}


def test_who_waits_for_a_body_has_no_slot(slots: Slots) -> None:
    sender = Watched(b"one\ntwo\n", slots)
    with slots:
        held = connections[DEFAULT_DB_ALIAS]
        assert Body(sender).read(100) == b"one\ntwo\n"
        assert sender.seen == [True]
        assert connections[DEFAULT_DB_ALIAS] is held
        assert not is_free(slots)


def test_a_connection_that_breaks_has_its_request_worked_on(slots: Slots) -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise ConnectionResetError

    with slots:
        with pytest.raises(ConnectionResetError):
            Body(Broken()).read(5)
        assert not is_free(slots)
    assert is_free(slots)


@pytest.mark.django_db
def test_a_transaction_keeps_its_connection(slots: Slots) -> None:
    own = connections[DEFAULT_DB_ALIAS]
    with slots:
        connections[DEFAULT_DB_ALIAS] = own
        with transaction.atomic():
            assert Body(io.BytesIO(b"body")).read(4) == b"body"
            assert connections[DEFAULT_DB_ALIAS] is own


def test_lines_are_read_as_from_any_stream(slots: Slots) -> None:
    with slots:
        assert list(Body(io.BytesIO(b"one\ntwo"))) == [b"one\n", b"two"]


Handled = Callable[[Any], Iterable[bytes]]


@pytest.fixture
def answer(slots: Slots) -> Handled:
    def handle(django: Any) -> Iterable[bytes]:
        application = MachineFastPath(django)
        application.staff = slots
        environ = RequestFactory().get("/admin/").environ
        return application(environ, lambda *_: lambda _: None)

    return handle


def test_a_page_is_made_in_a_slot(answer: Handled, slots: Slots) -> None:
    def django(*_: object) -> HttpResponse:
        assert not is_free(slots)
        return HttpResponse(b"page")

    assert list(answer(django)) == [b"page"]
    assert is_free(slots)


def test_what_fails_leaves_its_slot(answer: Handled, slots: Slots) -> None:
    def django(*_: object) -> HttpResponse:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        answer(django)
    assert is_free(slots)


def test_who_reads_slowly_has_no_slot(answer: Handled, slots: Slots) -> None:
    closed = []
    response = StreamingHttpResponse([b"a", b"b"])
    response._resource_closers.append(lambda: closed.append(True))  # type: ignore[attr-defined]

    sent = answer(lambda *_: response)
    assert is_free(slots)
    assert list(sent) == [b"a", b"b"]
    assert closed == [True]


def test_a_form_is_read_before_a_slot_is_held(slots: Slots) -> None:
    sender = Watched(b"a=1", slots)
    read: list[bytes] = []

    def django(environ: Any, _: object) -> HttpResponse:
        assert not is_free(slots)
        read.append(environ["wsgi.input"].read(3))
        return HttpResponse(b"saved")

    application = MachineFastPath(django)
    application.staff = slots
    environ = RequestFactory().post("/admin/", b"a=1", content_type="text/plain").environ
    environ["wsgi.input"] = sender
    assert list(application(environ, lambda *_: lambda _: None)) == [b"saved"]
    assert (sender.seen, read) == ([True], [b"a=1"])


def test_staff_without_a_slot_read_why(answer: Handled, slots: Slots) -> None:
    taken = slots._free.get()
    page = b"".join(answer(lambda *_: HttpResponse(b"never made"))).decode()
    slots._free.put(taken)
    assert "Too much is going on at once" in page
    assert 'id="site-name"' in page
    assert "sends it once more" not in page
    asked = RequestFactory().post("/admin/")
    assert b"sends it once more" in problems.unavailable(asked, "503.html").content


@pytest.mark.skipif(
    connections[DEFAULT_DB_ALIAS].vendor != "postgresql", reason="a file does not freeze"
)
@pytest.mark.django_db(transaction=True)
def test_connections_to_a_frozen_server_are_given_up_together(
    slots: Slots, monkeypatch: pytest.MonkeyPatch
) -> None:
    with slots:
        connections[DEFAULT_DB_ALIAS].ensure_connection()
        first = connections[DEFAULT_DB_ALIAS].connection
        server = connections[DEFAULT_DB_ALIAS].server  # type: ignore[attr-defined]
    monkeypatch.setattr(deadlines, "overdue", {("another.example", 5432): time.monotonic()})
    with slots:
        assert connections[DEFAULT_DB_ALIAS].connection is first
    deadlines.note_overdue(first)
    assert deadlines.overdue[server]
    with slots:
        assert connections[DEFAULT_DB_ALIAS].connection is None
        connections[DEFAULT_DB_ALIAS].ensure_connection()
        second = connections[DEFAULT_DB_ALIAS].connection
    with slots:
        assert connections[DEFAULT_DB_ALIAS].connection is second, "it was opened since"
        connections[DEFAULT_DB_ALIAS].close()
