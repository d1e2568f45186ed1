"""Waiting for bodies that come slowly, or never."""

import io
from collections.abc import Callable, Iterator
from functools import partial
from queue import SimpleQueue
from typing import Any

import pytest

from rpc import senders
from rpc.senders import PIECE, Body, Crowd, SenderTooSlow
from rpc.wire import BodyCutOff, body_of


@pytest.fixture(autouse=True)
def crowd(monkeypatch: pytest.MonkeyPatch, settings: Any) -> Crowd:
    settings.THREADS = 4
    monkeypatch.setattr(senders, "crowd", Crowd())
    monkeypatch.setattr(senders, "ROUND", 0.01)
    return senders.crowd


@pytest.fixture
def full(crowd: Crowd) -> Iterator[Crowd]:
    while crowd.enter():
        pass
    yield crowd
    assert crowd.stuck == 2


class Stalled:
    """A sender of whom come only the pieces that are put here."""

    def __init__(self) -> None:
        self.pieces: SimpleQueue[bytes] = SimpleQueue()

    def read(self, size: int, /) -> bytes:
        return self.pieces.get(timeout=5)


def test_half_of_the_threads_wait_as_long_as_it_takes(crowd: Crowd) -> None:
    assert [crowd.enter() for _ in range(3)] == [True, True, False]
    crowd.leave()
    assert crowd.enter()


def test_a_place_is_given_back_whatever_reading_does(crowd: Crowd) -> None:
    class Broken:
        def read(self, size: int, /) -> bytes:
            assert crowd.stuck == 1
            raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        Body(Broken()).read(5)
    assert crowd.stuck == 0


@pytest.mark.parametrize("length", [0, 1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE])
@pytest.mark.parametrize("asked", [1, PIECE, 2 * PIECE, 9 * PIECE])
def test_a_body_reads_the_same_among_many(full: Crowd, length: int, asked: int) -> None:
    stream = io.BytesIO(bytes(range(256)) * (length // 256 + 1))
    stream.truncate(length)
    body = Body(stream)

    assert body.read(asked) == stream.getvalue()[:asked]
    assert body.read(9 * PIECE) == stream.getvalue()[asked:]


def test_a_stalled_sender_among_many_is_given_up_on(full: Crowd) -> None:
    stalled = Stalled()
    with pytest.raises(SenderTooSlow):
        Body(stalled).read(2 * PIECE)
    for _ in range(2):
        stalled.pieces.put(bytes(PIECE))
    with pytest.raises(SenderTooSlow):
        body_of({"wsgi.input": Body(Stalled()), "CONTENT_LENGTH": "5"}, limit=5)


def test_a_slow_sender_is_waited_for_once_there_is_room(
    full: Crowd, monkeypatch: pytest.MonkeyPatch
) -> None:
    stalled = Stalled()
    deliver = partial(stalled.pieces.put, b"late")
    steps: Iterator[Callable[[], None]] = iter([full.leave, lambda: None, deliver])

    class Fetched(SimpleQueue[Any]):
        def get(self, block: bool = True, timeout: float | None = None) -> Any:
            step = next(steps, None)
            if step is not None:
                step()
            return super().get(block, timeout)

    monkeypatch.setattr(senders, "SimpleQueue", Fetched)
    assert Body(stalled).read(PIECE) == b"late"
    full.enter()


def test_nobody_is_waited_for_without_end(full: Crowd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(senders, "ROUNDS", 3)
    monkeypatch.setattr(senders, "CROWDED_ROUNDS", 9)
    with pytest.raises(SenderTooSlow):
        Body(Stalled()).read(5)


def test_a_connection_that_breaks_is_a_cut_among_many_too(full: Crowd) -> None:
    class Broken:
        def read(self, size: int, /) -> bytes:
            raise ConnectionResetError

    with pytest.raises(BodyCutOff):
        body_of({"wsgi.input": Body(Broken()), "CONTENT_LENGTH": "5"}, limit=5)


def test_lines_are_read_as_from_any_stream() -> None:
    assert list(Body(io.BytesIO(b"one\ntwo"))) == [b"one\n", b"two"]
