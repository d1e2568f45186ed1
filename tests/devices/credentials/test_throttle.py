"""Wrong secrets cost a bounded amount of work, and lock nobody out who has a generated one."""

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core.cache import cache
from django.core.management import call_command
from django.db import connection

from devices.authentication import authenticate
from devices.credentials import hashing, throttle
from devices.credentials.pre_shared_keys import KEYS_OF_DEVICES
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
        throttle.slot = throttle.HashingSlot()
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
    assert attempt(device.identifier, "a chosen secret") is Outcome.THROTTLED
    assert not hashes


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
def test_a_count_in_the_database_lasts_its_window(make_device: Factory) -> None:
    guess = throttle.Guess("somebody", [])
    for _ in range(throttle.FAILURES):
        with guess.attempt() as allowed:
            assert allowed
    with connection.cursor() as cursor:
        cursor.execute("SELECT min(expires) FROM throttle_test")
        (soonest,) = cursor.fetchone()
    if isinstance(soonest, str):
        soonest = datetime.fromisoformat(soonest)
    left = soonest.replace(tzinfo=UTC) - datetime.now(UTC)
    assert left > timedelta(seconds=throttle.WINDOW - 60)


def test_guesses_at_the_same_moment_are_all_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    class Unbounded(throttle.HashingSlot):
        """As many turns as there are processes."""

        @contextmanager
        def held(self) -> Iterator[bool]:
            yield True

    monkeypatch.setattr(throttle, "slot", Unbounded())
    hashed: list[int] = []
    ready = threading.Barrier(16)

    def guess(number: int) -> None:
        ready.wait()
        with throttle.Guess("somebody", []).attempt() as allowed:
            if allowed:
                time.sleep(0.05)
                hashed.append(number)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(guess, range(16)))
    assert len(hashed) == throttle.FAILURES


def test_a_success_is_not_counted(make_device: Factory) -> None:
    device = make_device()
    PreSharedKey.objects.register(device=device, secret="a chosen secret")
    for _ in range(2 * throttle.FAILURES):
        throttle.remembered = throttle.Remembered()
        throttle.slot = throttle.HashingSlot()
        assert attempt(device.identifier, "a chosen secret") is Outcome.VERIFIED


@pytest.mark.parametrize("registered", [True, False])
def test_known_and_unknown_wait_alike_for_their_turn(
    make_device: Factory, hashes: list[str], registered: bool
) -> None:
    device = make_device()
    PreSharedKey.objects.register(device=device, secret="a chosen secret")
    with throttle.slot.held():
        time.sleep(0.1)  # and so long a rest
    started = time.monotonic()
    attempt(device.identifier if registered else "nobody", "guess")
    assert hashes == ["guess"]
    assert time.monotonic() - started > 0.05


def test_a_long_pause_of_the_machine_is_followed_by_no_long_rest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slot = throttle.HashingSlot()
    with slot.held():
        moment = time.monotonic
        monkeypatch.setattr(time, "monotonic", lambda: moment() + 60)
    started = time.perf_counter()
    with slot.held() as allowed:
        assert allowed
    assert time.perf_counter() - started < 2


def test_one_hash_at_a_time_and_a_rest_as_long() -> None:
    slot = throttle.HashingSlot()
    spans: list[tuple[float, float]] = []

    def work() -> None:
        with slot.held() as allowed:
            if allowed:
                started = time.monotonic()
                time.sleep(0.02)
                spans.append((started, time.monotonic()))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    spans.sort()
    assert len(spans) >= 2
    for (began, ended), (next_began, _) in itertools.pairwise(spans):
        assert next_began - ended >= 0.9 * (ended - began)


def test_who_exceeds_the_cap_waits_briefly_and_is_refused() -> None:
    slot = throttle.HashingSlot()
    with slot.held() as first:
        assert first
        started = time.monotonic()
        with slot.held() as second:
            assert not second
        assert 0.9 * throttle.SLOT_WAIT < time.monotonic() - started < 4 * throttle.SLOT_WAIT


def test_a_request_that_asks_much_stops_waiting_for_turns() -> None:
    slot = throttle.HashingSlot()
    with throttle.within(0.05):
        with slot.held() as early:
            assert early
        time.sleep(0.06)
        with slot.held() as late:
            assert not late
    with slot.held() as afterwards:
        assert afterwards


def test_few_wait_and_the_others_are_refused_at_once() -> None:
    slot = throttle.HashingSlot()
    refused_after: list[float] = []

    def queue() -> None:
        started = time.monotonic()
        with slot.held() as allowed:
            assert not allowed
            refused_after.append(time.monotonic() - started)

    with slot.held():
        threads = [threading.Thread(target=queue) for _ in range(throttle.MAX_WAITING + 6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sum(after < throttle.SLOT_WAIT / 2 for after in refused_after) == 6


@pytest.mark.parametrize(("threads", "waiting"), [(1, 0), (4, 0), (5, 1), (8, 4), (64, 4)])
def test_waiting_guesses_leave_threads_for_everything_else(
    settings: Any, threads: int, waiting: int
) -> None:
    settings.THREADS = threads
    slot = throttle.HashingSlot()
    refused_after: list[float] = []

    def queue() -> None:
        started = time.monotonic()
        with slot.held() as allowed:
            assert not allowed
            refused_after.append(time.monotonic() - started)

    with slot.held() as allowed:
        assert allowed
        with ThreadPoolExecutor(10) as pool:
            for _ in range(10):
                pool.submit(queue)
    assert sum(after > throttle.SLOT_WAIT / 2 for after in refused_after) == waiting


def test_a_guess_that_finds_no_slot_says_so(
    make_device: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throttle, "SLOT_WAIT", 0.01)
    device = make_device()
    PreSharedKey.objects.register(device=device, secret="a chosen secret")
    with throttle.slot.held():
        verdict = authenticate(device.identifier, secret="a chosen secret")
    assert verdict.outcome is Outcome.THROTTLED
    assert "at once" in verdict.reason
