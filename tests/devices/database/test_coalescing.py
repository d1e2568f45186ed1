"""Questions that threads ask at the same moment share a statement, and nothing else."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from django.db import OperationalError

from devices.database import coalescing
from devices.database.coalescing import Coalescer

pytestmark = pytest.mark.once(on="sqlite")

PATIENCE = 10  # seconds
Ask = Callable[[str], "Future[str | None]"]


class Registry:
    """What is asked: each batch waits until the test lets it go on."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.asked = threading.Semaphore(0)
        self.may_answer = threading.Semaphore(0)
        self.failure: BaseException | None = None
        self.version = 1

    def ask_all(self, questions: Sequence[str]) -> dict[str, str]:
        self.batches.append(list(questions))
        version = self.version
        self.asked.release()
        assert self.may_answer.acquire(timeout=PATIENCE)
        if self.failure is not None and (len(questions) > 1 or "bad" in questions):
            raise self.failure
        return {q: f"{q} v{version}" for q in questions if q != "unknown"}


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Registry:
    server = SimpleNamespace(vendor="postgresql", in_atomic_block=False)
    monkeypatch.setattr(coalescing, "connection", server)
    return Registry()


@pytest.fixture
def ask(registry: Registry) -> Iterator[Ask]:
    """Ask in a thread of its own; the first question has reached the registry on return."""
    coalescer = Coalescer(registry.ask_all)
    with ThreadPoolExecutor(16) as pool:

        def begin(question: str) -> "Future[str | None]":
            before = waiting(coalescer)
            is_first = not coalescer._asked
            future = pool.submit(coalescer.ask, question)
            if is_first:
                assert registry.asked.acquire(timeout=PATIENCE)
            while not is_first and waiting(coalescer) == before:
                pass
            return future

        yield begin


def waiting(coalescer: Coalescer[str, str]) -> int:
    gathering = coalescer._gathering
    return len(gathering.questions) if gathering else 0


def test_what_comes_meanwhile_is_one_batch(registry: Registry, ask: Ask) -> None:
    first = ask("a")
    others = [ask(question) for question in ("b", "c", "unknown", "b")]

    registry.may_answer.release(2)

    assert first.result(PATIENCE) == "a v1"
    assert [other.result(PATIENCE) for other in others] == ["b v1", "c v1", None, "b v1"]
    assert registry.batches == [["a"], ["b", "c", "unknown", "b"]]


def test_a_change_before_the_question_shows_in_its_answer(registry: Registry, ask: Ask) -> None:
    first = ask("a")
    registry.version = 2
    second = ask("a")

    registry.may_answer.release(2)

    assert first.result(PATIENCE) == "a v1"
    assert second.result(PATIENCE) == "a v2"


def test_batches_follow_each_other(registry: Registry, ask: Ask) -> None:
    first = ask("a")
    second = ask("b")
    registry.may_answer.release()
    assert registry.asked.acquire(timeout=PATIENCE)
    third = ask("c")
    registry.may_answer.release(2)

    assert [one.result(PATIENCE) for one in (first, second, third)] == ["a v1", "b v1", "c v1"]
    assert registry.batches == [["a"], ["b"], ["c"]]


def test_an_unreachable_database_fails_all_at_once(registry: Registry, ask: Ask) -> None:
    registry.failure = OperationalError("gone")
    first = ask("bad")
    others = [ask("b"), ask("c")]

    registry.may_answer.release(2)

    for one in (first, *others):
        with pytest.raises(OperationalError):
            one.result(PATIENCE)
    assert len(registry.batches) == 2


def test_another_failure_is_its_own_question_s(registry: Registry, ask: Ask) -> None:
    registry.failure = ValueError("bad")
    first = ask("a")
    others = [ask("b"), ask("bad"), ask("c")]

    registry.may_answer.release(5)

    assert first.result(PATIENCE) == "a v1"
    assert others[0].result(PATIENCE) == "b v1"
    with pytest.raises(ValueError, match="bad"):
        others[1].result(PATIENCE)
    assert others[2].result(PATIENCE) == "c v1"


def test_after_a_failure_it_goes_on(registry: Registry, ask: Ask) -> None:
    registry.failure = OperationalError("gone")
    first = ask("bad")
    registry.may_answer.release()
    with pytest.raises(OperationalError):
        first.result(PATIENCE)
    registry.failure = None

    second = ask("b")
    registry.may_answer.release()

    assert second.result(PATIENCE) == "b v1"


def test_a_leader_that_is_interrupted_fails_its_batch(registry: Registry, ask: Ask) -> None:
    first = ask("a")
    leader, follower = ask("bad"), ask("b")
    registry.failure = KeyboardInterrupt()
    registry.may_answer.release(2)

    assert first.result(PATIENCE) == "a v1"
    with pytest.raises(KeyboardInterrupt):
        leader.result(PATIENCE)
    with pytest.raises(OperationalError, match="interrupted"):
        follower.result(PATIENCE)
    registry.failure = None
    registry.may_answer.release()
    assert ask("c").result(PATIENCE) == "c v1"


def test_nobody_waits_for_ever(
    registry: Registry, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coalescing, "MAX_TURN", 0.2)
    monkeypatch.setattr(coalescing, "MAX_WAIT", 0.4)
    first = ask("a")
    leader, follower = ask("b"), ask("c")
    for late in (leader, follower):
        with pytest.raises(OperationalError, match="in time"):
            late.result(PATIENCE)
    later = ask("d")
    registry.may_answer.release(2)
    assert first.result(PATIENCE) == "a v1"
    assert later.result(PATIENCE) == "d v1"
    assert registry.batches == [["a"], ["d"]]


def test_who_follows_waits_for_an_answer_only_so_long(
    registry: Registry, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coalescing, "MAX_WAIT", 0.3)
    first, leader, follower = ask("a"), ask("b"), ask("c")
    registry.may_answer.release()
    assert first.result(PATIENCE) == "a v1"
    with pytest.raises(OperationalError, match="in time"):
        follower.result(PATIENCE)
    registry.may_answer.release()
    assert leader.result(PATIENCE) == "b v1"


def test_a_question_that_fails_alone_is_not_asked_again(registry: Registry, ask: Ask) -> None:
    registry.failure = ValueError("bad")
    alone = ask("bad")
    registry.may_answer.release(2)
    with pytest.raises(ValueError, match="bad"):
        alone.result(PATIENCE)
    assert registry.batches == [["bad"]]


@pytest.mark.parametrize(
    "alone",
    [
        pytest.param({"vendor": "sqlite"}, id="embedded"),
        pytest.param({"in_atomic_block": True}, id="in a transaction"),
    ],
)
def test_it_is_asked_alone(
    alone: dict[str, object], registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = {"vendor": "postgresql", "in_atomic_block": False} | alone
    monkeypatch.setattr(coalescing, "connection", SimpleNamespace(**server))
    coalescer = Coalescer(registry.ask_all)
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(coalescer.ask, question) for question in "abcdefgh"]
        all_at_once = [registry.asked.acquire(timeout=PATIENCE) for _ in asked]
        registry.may_answer.release(8)
        answers = [one.result(PATIENCE) for one in asked]

    assert all(all_at_once)

    assert answers == [f"{question} v1" for question in "abcdefgh"]
    assert [len(batch) for batch in registry.batches] == [1] * 8


def test_many_threads_get_their_own_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    server = SimpleNamespace(vendor="postgresql", in_atomic_block=False)
    monkeypatch.setattr(coalescing, "connection", server)
    coalescer = Coalescer[int, int](lambda asked: {number: -number for number in asked})
    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(coalescer.ask, range(20_000))) == [-n for n in range(20_000)]
