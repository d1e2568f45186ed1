"""Places to work: no more than there are, and none for who waits."""

import io
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import DEFAULT_DB_ALIAS, connections, transaction
from django.http import HttpResponse, StreamingHttpResponse
from django.test import RequestFactory

from rpc.places import Body, Places
from rpc.wsgi import MachineFastPath


@pytest.fixture
def places() -> Iterator[Places]:
    """Return the only place of a process; the connection of this thread comes back."""
    own = connections[DEFAULT_DB_ALIAS]
    yield Places(1)
    connections[DEFAULT_DB_ALIAS] = own


def is_free(places: Places) -> bool:
    return not places._free.empty()


class Watched(io.BytesIO):
    """A sender that notes whether the place was free while it was waited for."""

    def __init__(self, body: bytes, places: Places) -> None:
        super().__init__(body)
        self.places = places
        self.seen: list[bool] = []

    def read(self, size: int | None = -1) -> bytes:
        self.seen.append(is_free(self.places))
        return super().read(size)


def test_a_place_is_one_threads_at_a_time(places: Places) -> None:
    at_work: list[int] = []
    most: list[int] = []

    def work(number: int) -> None:
        place = places.take()
        at_work.append(number)
        time.sleep(0.001)
        most.append(len(at_work))
        at_work.remove(number)
        places.leave(place)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(100)))
    assert set(most) == {1}
    assert is_free(places)


def test_who_waits_for_a_body_has_no_place(places: Places) -> None:
    sender = Watched(b"one\ntwo\n", places)
    body = Body(sender, places)
    held = connections[DEFAULT_DB_ALIAS]

    assert body.read(100) == b"one\ntwo\n"
    assert sender.seen == [True]
    assert connections[DEFAULT_DB_ALIAS] is held
    assert not is_free(places)


def test_a_connection_that_breaks_has_its_request_worked_on(places: Places) -> None:
    class Broken:
        def read(self, size: int, /) -> bytes:
            raise ConnectionResetError

    body = Body(Broken(), places)
    with pytest.raises(ConnectionResetError):
        body.read(5)
    assert not is_free(places)
    body.leave()
    assert is_free(places)


@pytest.mark.django_db
def test_a_transaction_keeps_its_connection(places: Places) -> None:
    own = connections[DEFAULT_DB_ALIAS]
    body = Body(io.BytesIO(b"body"), places)
    held = connections[DEFAULT_DB_ALIAS] = body.place = own
    with transaction.atomic():
        assert body.read(4) == b"body"
        assert connections[DEFAULT_DB_ALIAS] is held


def test_lines_are_read_as_from_any_stream(places: Places) -> None:
    assert list(Body(io.BytesIO(b"one\ntwo"), places)) == [b"one\n", b"two"]


Handled = Callable[[Any], Iterable[bytes]]


@pytest.fixture
def answer(places: Places) -> Handled:
    def handle(django: Any) -> Iterable[bytes]:
        application = MachineFastPath(django)
        application.places = places
        environ = RequestFactory().get("/admin/").environ
        return application(environ, lambda *_: lambda _: None)

    return handle


def test_a_page_is_made_in_a_place(answer: Handled, places: Places) -> None:
    def django(*_: object) -> HttpResponse:
        assert not is_free(places)
        return HttpResponse(b"page")

    assert list(answer(django)) == [b"page"]
    assert is_free(places)


def test_what_fails_leaves_its_place(answer: Handled, places: Places) -> None:
    def django(*_: object) -> HttpResponse:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        answer(django)
    assert is_free(places)


def test_who_reads_slowly_has_no_place(answer: Handled, places: Places) -> None:
    closed = []
    response = StreamingHttpResponse([b"a", b"b"])
    response._resource_closers.append(lambda: closed.append(True))  # type: ignore[attr-defined]

    sent = answer(lambda *_: response)
    assert is_free(places)
    assert list(sent) == [b"a", b"b"]
    assert closed == [True]
