"""Wrong secrets cost a bounded amount of work, and lock nobody out who has a generated one."""

import itertools
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Self

import pytest
from django.core.cache import cache
from django.core.management import call_command
from django.db import connection

from devices.authentication import authenticate
from devices.credentials import hashing, throttle
from devices.credentials.pre_shared_keys import KEYS_OF_DEVICES
from devices.events import guesses
from devices.models import Device, PreSharedKey
from devices.verdicts import Outcome

Factory = Callable[..., Device]


def attempt(identifier: str, secret: str) -> Outcome:
    return authenticate(identifier, secret=secret).outcome


@pytest.fixture
def hashes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The secrets that were hashed, real checks and wasted ones alike."""
    made: list[str] = []
    real = hashing.argon2_matches

    def counted(secret: str, digest: str, pepper: bytes) -> bool:
        made.append(secret)
        return real(secret, digest, pepper)

    monkeypatch.setattr(hashing, "argon2_matches", counted)
    monkeypatch.setattr(hashing, "dummy_hash", made.append)
    return made


def test_after_a_handful_of_failures_nothing_is_hashed(
    make_device: Factory, hashes: list[str]
) -> None:
    device = make_device()
    PreSharedKey.objects.register(device=device, secret="a chosen secret")
    outcomes = [attempt(device.identifier, f"guess {n}") for n in range(8)]
    assert outcomes == [Outcome.WRONG_SECRET] * 5 + [Outcome.THROTTLED] * 3
    assert len(hashes) == 5


def test_the_right_chosen_secret_passes_a_throttle_if_it_was_verified_before(
    make_device: Factory,
) -> None:
    known, fresh = make_device(), make_device()
    for device in (known, fresh):
        PreSharedKey.objects.register(device=device, secret="a chosen secret")
    assert attempt(known.identifier, "a chosen secret") is Outcome.VERIFIED
    for device in (known, fresh):
        for number in range(6):
            attempt(device.identifier, f"guess {number}")
    assert attempt(known.identifier, "a chosen secret") is Outcome.VERIFIED
    assert attempt(fresh.identifier, "a chosen secret") is Outcome.THROTTLED


def test_what_was_verified_longest_ago_is_forgotten_first() -> None:
    remembered = throttle.Remembered(most=2)
    for stored in ("first", "second", "first", "third"):
        remembered.note(stored, "secret")
    assert [remembered.recalls(one, "secret") for one in ("first", "second", "third")] == [
        True, False, True,
    ]  # fmt: skip


def test_a_generated_secret_always_passes(make_device: Factory, hashes: list[str]) -> None:
    device = make_device()
    _, secret = PreSharedKey.objects.issue(device=device)
    for number in range(20):
        attempt(device.identifier, f"guess {number}")
    assert attempt(device.identifier, secret) is Outcome.VERIFIED


def test_a_new_key_starts_a_new_count(make_device: Factory) -> None:
    device = make_device()
    PreSharedKey.objects.register(device=device, secret="a chosen secret")
    for number in range(6):
        attempt(device.identifier, f"guess {number}")
    PreSharedKey.objects.register(device=device, secret="its successor")
    assert attempt(device.identifier, "its successor") is Outcome.VERIFIED


def test_the_order_in_which_keys_are_read_starts_no_new_count(
    make_device: Factory, hashes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    device = make_device()
    for number in range(3):
        PreSharedKey.objects.register(device=device, secret=f"chosen secret {number}")
    rows = KEYS_OF_DEVICES.rows
    monkeypatch.setattr(
        KEYS_OF_DEVICES, "rows", lambda *values, **options: rows(*values, **options)[::-1]
    )
    forth = [attempt(device.identifier, f"guess {n}") for n in range(3)]
    monkeypatch.setattr(KEYS_OF_DEVICES, "rows", rows)
    back = [attempt(device.identifier, f"guess {n}") for n in range(3)]
    assert [*forth, *back] == [Outcome.WRONG_SECRET] * 5 + [Outcome.THROTTLED]


def test_failures_of_one_entity_do_not_touch_another(make_device: Factory) -> None:
    victim = make_device()
    PreSharedKey.objects.register(device=victim, secret="a chosen secret")
    for number in range(30):
        attempt(f"other {number % 3}", "guess")
    assert attempt(victim.identifier, "a chosen secret") is Outcome.VERIFIED


def test_an_unknown_identifier_costs_what_a_wrong_secret_costs(
    make_device: Factory, hashes: list[str]
) -> None:
    chosen, generated, bare = make_device(), make_device(), make_device()
    PreSharedKey.objects.register(device=chosen, secret="a chosen secret")
    PreSharedKey.objects.issue(device=generated)
    for identifier in (chosen.identifier, generated.identifier, bare.identifier, "nobody"):
        before = len(hashes)
        for number in range(7):
            attempt(identifier, f"guess {number}")
        assert len(hashes) - before == 5, identifier


def test_an_unknown_identifier_stays_unknown_when_throttled(db: None, hashes: list[str]) -> None:
    assert {attempt("nobody", "guess") for _ in range(8)} == {Outcome.UNKNOWN_DEVICE}


def test_a_count_ends_with_its_window(
    make_device: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throttle, "WINDOW", 1)
    monkeypatch.setattr(hashing, "argon2_matches", lambda secret, *_: secret == "a chosen secret")
    device = make_device()
    PreSharedKey.objects.register(device=device, secret="a chosen secret")
    for number in range(6):
        attempt(device.identifier, f"guess {number}")
    assert attempt(device.identifier, "a chosen secret") is Outcome.THROTTLED
    time.sleep(1.05)
    assert attempt(device.identifier, "a chosen secret") is Outcome.VERIFIED


def test_without_a_cache_guesses_are_refused_and_generated_secrets_pass(
    make_device: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen, generated = make_device(), make_device()
    PreSharedKey.objects.register(device=chosen, secret="a chosen secret")
    _, secret = PreSharedKey.objects.issue(device=generated)

    def down(*args: Any, **kwargs: Any) -> None:
        raise ConnectionError("no cache")

    for method in ("get", "add", "incr"):
        monkeypatch.setattr(cache, method, down)
    assert attempt(chosen.identifier, "a chosen secret") is Outcome.THROTTLED
    assert attempt(generated.identifier, secret) is Outcome.VERIFIED


def test_a_guess_that_cannot_be_counted_is_not_hashed(
    make_device: Factory, monkeypatch: pytest.MonkeyPatch, hashes: list[str]
) -> None:
    device = make_device()
    PreSharedKey.objects.register(device=device, secret="a chosen secret")

    def down(*args: Any, **kwargs: Any) -> None:
        raise ConnectionError("no cache")

    monkeypatch.setattr(cache, "add", down)
    verdict = authenticate(device.identifier, secret="a chosen secret")
    assert verdict.outcome is Outcome.THROTTLED
    assert "cannot be counted" in verdict.reason
    assert not hashes


def test_a_right_guess_passes_where_its_mark_stays(
    make_device: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = make_device()
    PreSharedKey.objects.register(device=device, secret="a chosen secret")

    def down(*args: Any, **kwargs: Any) -> None:
        raise ConnectionError("no cache")

    monkeypatch.setattr(cache, "delete", down)
    assert attempt(device.identifier, "a chosen secret") is Outcome.VERIFIED


def test_staff_use_up_the_guesses_of_nobody_else() -> None:
    with throttle.tried_by("kim"):
        taken = [throttle.Guess("lamp", []).take() for _ in range(throttle.FAILURES + 1)]
    assert taken == [True] * throttle.FAILURES + [False]
    with throttle.tried_by("lee"):
        assert throttle.Guess("lamp", []).take()
    assert throttle.Guess("lamp", [], as_caller=True).take()
    assert throttle.Guess("lamp", []).take()


def test_guesses_of_staff_are_their_own(make_device: Factory) -> None:
    device = make_device()
    PreSharedKey.objects.register(device=device, secret="a chosen secret")
    with throttle.tried_by("kim"):
        outcomes = [attempt(device.identifier, f"guess {n}") for n in range(6)]
    assert outcomes[-1] is Outcome.THROTTLED
    assert attempt(device.identifier, "a chosen secret") is Outcome.VERIFIED
    assert not guesses.worker.waiting(), "nobody is told that it is guessed at"


@pytest.fixture
def in_database(db: None, settings: Any) -> Iterator[None]:
    """Count in a table, as servers that share nothing but their database do."""
    local = settings.CACHES["default"]
    settings.CACHES = {
        "default": {
            "BACKEND": "django.core.cache.backends.db.DatabaseCache",
            "LOCATION": "throttle_test",
        }
    }
    call_command("createcachetable")
    yield
    settings.CACHES = {"default": local}
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE throttle_test")


@pytest.mark.usefixtures("in_database")
def test_a_count_in_the_database_lasts_its_window() -> None:
    for number in range(throttle.FAILURES):
        guess = throttle.Guess("somebody", [])
        assert guess.hashed(f"guess {number}", lambda: None, lambda: None) is None
        assert not guess.refusal
    with connection.cursor() as cursor:
        cursor.execute("SELECT min(expires) FROM throttle_test")
        (soonest,) = cursor.fetchone()
    if isinstance(soonest, str):
        soonest = datetime.fromisoformat(soonest)
    left = soonest.replace(tzinfo=UTC) - datetime.now(UTC)
    assert left > timedelta(seconds=throttle.WINDOW - 60)


def test_guesses_at_the_same_moment_are_all_counted() -> None:
    hashed: list[int] = []
    ready = threading.Barrier(16)

    def guess(number: int) -> None:
        def work() -> None:
            time.sleep(0.02)
            hashed.append(number)

        ready.wait()
        throttle.Guess("somebody", []).hashed(f"guess {number}", work, lambda: None)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(guess, range(16)))
    assert len(hashed) == throttle.FAILURES


def test_a_success_is_not_counted(make_device: Factory) -> None:
    device = make_device()
    PreSharedKey.objects.register(device=device, secret="a chosen secret")
    for _ in range(2 * throttle.FAILURES):
        throttle.remembered = throttle.Remembered()
        assert attempt(device.identifier, "a chosen secret") is Outcome.VERIFIED


@pytest.mark.parametrize("keys", [None, 0, 4])
def test_a_throttled_answer_takes_its_time_whoever_is_asked_about(
    make_device: Factory, monkeypatch: pytest.MonkeyPatch, keys: int | None
) -> None:
    monkeypatch.setattr(throttle, "THROTTLED_TIME", (0.5, 0.5))
    monkeypatch.setattr(
        throttle.FailureMarks, "take", lambda guess: setattr(guess, "refusal", "spent")
    )
    identifier = "nobody"
    if keys is not None:
        device = make_device()
        identifier = device.identifier
        for _ in range(keys):
            PreSharedKey.objects.issue(device=device)
    began = time.monotonic()
    attempt(identifier, "guess")
    assert 0.5 <= time.monotonic() - began < 1


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nobody wait longer than a fifth of a second for a turn."""
    monkeypatch.setattr(throttle, "WAIT", (0.2, 0.2))


class Busy:
    """A hash that goes on until it is told to end."""

    def __init__(self) -> None:
        self.ends = threading.Event()
        self.begun = threading.Event()
        self._asking = threading.Thread(target=ask, args=("busy", self._work))

    def _work(self) -> str:
        self.begun.set()
        self.ends.wait(10)
        return "busy"

    def __enter__(self) -> Self:
        self._asking.start()
        assert self.begun.wait(10)
        return self

    def __exit__(self, *_error: object) -> None:
        self.ends.set()
        self._asking.join()


def ask(
    question: str, work: Callable[[], Any], *, face: str = "device", failures: int = 0
) -> throttle.Job[Any] | None:
    return throttle.queue.ask(question.encode(), work, face=face, failures=failures)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("registered", [True, False])
def test_known_and_unknown_wait_alike_for_their_turn(
    make_device: Factory, hashes: list[str], registered: bool
) -> None:
    device = make_device()
    PreSharedKey.objects.register(device=device, secret="a chosen secret")
    identifier = device.identifier if registered else "nobody"
    with Busy():
        attempt(identifier, "guess")
        assert not hashes
    attempt(identifier, "guess")
    assert hashes == ["guess"]


def test_one_hash_runs_at_a_time_without_a_pause() -> None:
    spans: list[tuple[float, float]] = []

    def work() -> bool:
        began = time.monotonic()
        time.sleep(0.03)
        spans.append((began, time.monotonic()))
        return True

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(lambda number: ask(str(number), work), range(8)))
    assert len(spans) == 8
    for (_, ended), (next_began, _) in itertools.pairwise(sorted(spans)):
        assert 0 <= next_began - ended < 0.02


def test_equal_questions_share_one_hash() -> None:
    made: list[str] = []

    def work() -> str:
        made.append("hash")
        return "yes"

    with Busy() as busy, ThreadPoolExecutor(50) as pool:
        asked = [pool.submit(ask, "the same", work) for _ in range(50)]
        while throttle.queue.waiting < 51:
            time.sleep(0.001)
        busy.ends.set()
        jobs = [one.result() for one in asked]
    assert made == ["hash"]
    assert [job and job.result() for job in jobs] == ["yes"] * 50


def test_equal_right_secrets_at_once_are_all_admitted(hashes: list[str]) -> None:
    """However the threads fall: before the hash, while it is made, after it is remembered."""
    known: list[str] = []

    def work() -> str:
        time.sleep(0.005)
        known.append("right")
        return "right"

    def verified(_number: int) -> str | None:
        guess = throttle.Guess("lamp", ["digest"])
        time.sleep(random.uniform(0, 0.02))
        return guess.hashed("a chosen secret", work, lambda: next(iter(known), None))

    with ThreadPoolExecutor(60) as pool:
        assert set(pool.map(verified, range(180))) == {"right"}
    assert known == ["right"]
    assert not cache.get_many(throttle.Guess("lamp", ["digest"])._marks)


def test_equal_questions_share_a_hash_that_none_of_them_has_queued_yet(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Five took every mark of the entity, and are not in the queue when three more come."""
    monkeypatch.setattr(throttle, "RETRIES", 1000)  # on a machine that is slow
    taken, queued = threading.Semaphore(0), threading.Event()
    ask = throttle.HashQueue.ask

    def slow_ask(queue: Any, question: bytes, work: Any, **options: Any) -> Any:
        taken.release()
        assert queued.wait(5)
        return ask(queue, question, work, **options)

    monkeypatch.setattr(throttle.HashQueue, "ask", slow_ask)

    def guess() -> str | None:
        return throttle.Guess("device", ["digest"]).hashed("secret", lambda: "right", lambda: None)

    with ThreadPoolExecutor(8) as pool:
        first = [pool.submit(guess) for _ in range(throttle.FAILURES)]
        for _ in first:
            assert taken.acquire(timeout=5)
        later = [pool.submit(guess) for _ in range(3)]
        time.sleep(0.02)
        queued.set()
        assert [one.result() for one in first + later] == ["right"] * 8


def test_equal_questions_leave_the_other_marks_to_other_processes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Others took all five for as long as a hash takes, and refused a right secret meanwhile."""
    all_taken, take = threading.Barrier(throttle.FAILURES), throttle.FailureMarks.take
    begun, answer = threading.Event(), threading.Event()

    def take_together(marks: throttle.FailureMarks) -> bool:
        assert take(marks)
        all_taken.wait(5)
        return True

    def work() -> str | None:
        begun.set()
        return "right" if answer.wait(5) else None

    monkeypatch.setattr(throttle.FailureMarks, "take", take_together)
    equal = [throttle.Guess("device", ["digest"]) for _ in range(throttle.FAILURES)]
    with ThreadPoolExecutor(throttle.FAILURES) as pool:
        asked = [pool.submit(one.hashed, "secret", work, lambda: None) for one in equal]
        assert begun.wait(5)
        deadline = time.monotonic() + 5
        while (left := len(cache.get_many(equal[0]._marks))) != 1 and time.monotonic() < deadline:
            time.sleep(0.001)
        answer.set()
        assert [one.result() for one in asked] == ["right"] * throttle.FAILURES
    assert left == 1
    assert not cache.get_many(equal[0]._marks)


@pytest.mark.parametrize("is_remembered", [True, False])
def test_an_equal_question_that_is_answered_while_marks_are_looked_at_locks_nobody_out(
    monkeypatch: pytest.MonkeyPatch, is_remembered: bool
) -> None:
    guess, take = throttle.Guess("device", ["digest"]), throttle.FailureMarks.take
    question = throttle.remembered.digest(guess._marks[0], "secret")
    cache.set_many(dict.fromkeys(guess._marks, True))
    known: list[str] = []
    with ExitStack() as others:
        if not is_remembered:
            others.enter_context(throttle.queue.arriving(question))

        def take_while_others_end(marks: throttle.FailureMarks) -> bool:
            taken = take(marks)
            others.close()
            if is_remembered:
                known.append("right")
            else:
                cache.delete_many(guess._marks)
            return taken

        monkeypatch.setattr(throttle.FailureMarks, "take", take_while_others_end)
        assert guess.hashed("secret", lambda: "right", lambda: next(iter(known), None)) == "right"
    assert not guess.refusal
    assert not guesses.worker.waiting(), "nobody is told that it is guessed at"


@pytest.mark.usefixtures("quick")
def test_who_waits_too_long_is_refused() -> None:
    with Busy():
        started = time.monotonic()
        assert ask("another", lambda: True) is None
        assert 0.19 < time.monotonic() - started < 2


@pytest.mark.usefixtures("quick")
def test_a_refused_question_is_not_hashed_afterwards(hashes: list[str]) -> None:
    with Busy():
        assert ask("another", lambda: hashes.append("another")) is None
    assert ask("the next", lambda: True)
    assert not hashes


def test_who_joined_a_question_and_leaves_takes_nobody_along() -> None:
    with Busy() as busy, ThreadPoolExecutor(1) as pool:
        first = pool.submit(ask, "the same", lambda: "yes")
        while throttle.queue.waiting < 2:
            time.sleep(0.001)
        with throttle.within(0.1):
            assert ask("the same", lambda: "yes") is None
        busy.ends.set()
        job = first.result()
    assert job is not None
    assert job.result() == "yes"


def test_who_brings_no_work_asks_only_what_others_ask() -> None:
    with pytest.raises(KeyError):
        throttle.queue.ask(b"nobody's", None, face="device", failures=0)
    assert throttle.queue.waiting == 0


def test_who_comes_when_too_many_wait_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throttle, "MAX_WAITING", 1)
    with Busy():
        started = time.monotonic()
        assert ask("another", lambda: True) is None
        assert time.monotonic() - started < 1


def test_a_request_that_asks_much_stops_waiting_for_turns() -> None:
    with throttle.within(0.5):
        assert ask("early", lambda: True)
        time.sleep(0.55)
        assert ask("late", lambda: True) is None
    assert ask("afterwards", lambda: True)


def served(*questions: tuple[str, str, int]) -> list[str]:
    """Return the names of questions, with face and failures, in the order of their turns."""
    order: list[str] = []
    with Busy() as busy, ThreadPoolExecutor(len(questions)) as pool:
        for waiting, (name, face, failures) in enumerate(questions, 2):
            pool.submit(ask, name, partial(order.append, name), face=face, failures=failures)
            while throttle.queue.waiting < waiting:
                time.sleep(0.001)
        busy.ends.set()
    return order


def test_devices_and_callers_take_turns() -> None:
    callers = [(f"caller {n}", "caller", 0) for n in range(4)]
    devices = [(f"device {n}", "device", 0) for n in range(2)]
    order = served(*callers, *devices)
    assert order.index("device 0") < order.index("caller 2")
    assert order.index("device 1") < order.index("caller 3")


def test_who_asked_nothing_for_a_while_does_not_catch_up() -> None:
    for number in range(10):
        assert ask(f"earlier {number}", lambda: True, face="caller")
    order = served(("caller", "caller", 0), *((f"device {n}", "device", 0) for n in range(3)))
    assert order.index("caller") < order.index("device 1")


def test_entities_that_failed_lately_go_behind() -> None:
    order = served(("failed", "device", 1), ("first", "device", 0), ("second", "device", 0))
    assert order == ["first", "second", "failed"]


def test_a_failure_of_the_hash_is_everybody_s(hashes: list[str]) -> None:
    def work() -> bool:
        raise MemoryError

    with pytest.raises(MemoryError):
        ask("one", work)
    assert ask("another", lambda: True)


def test_a_panic_of_the_hash_leaves_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    class Panic(BaseException):
        pass

    def work() -> bool:
        raise Panic("out of bounds")

    monkeypatch.setattr(throttle, "WAIT", (0.2, 0.2))
    raised: list[BaseException] = []

    def asks() -> None:
        try:
            ask("one", work)
        except BaseException as error:  # noqa: BLE001
            raised.append(error)

    thread = threading.Thread(target=asks, daemon=True)
    thread.start()
    thread.join(5)
    assert [type(error) for error in raised] == [RuntimeError]
    assert ask("one", lambda: True)


def test_the_thread_that_hashes_ends_and_begins_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throttle, "IDLE", 0.01)
    for number in range(3):
        assert ask(str(number), lambda: True)
        time.sleep(0.05)


@pytest.mark.usefixtures("quick")
def test_a_guess_that_finds_no_turn_says_so(make_device: Factory) -> None:
    device = make_device()
    PreSharedKey.objects.register(device=device, secret="a chosen secret")
    with Busy():
        for _ in range(throttle.FAILURES):  # none of which counts
            verdict = authenticate(device.identifier, secret="a chosen secret")
            assert verdict.outcome is Outcome.THROTTLED
            assert "at once" in verdict.reason
    for _ in range(throttle.FAILURES + 1):
        throttle.remembered = throttle.Remembered()
        assert attempt(device.identifier, "a chosen secret") is Outcome.VERIFIED
