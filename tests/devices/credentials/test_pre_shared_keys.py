"""The life of a pre-shared key: issued, used, rotated, revoked, made anew."""

import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from django.core.exceptions import ValidationError
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from devices.authentication import authenticate
from devices.credentials import hashing
from devices.credentials.hashing import Scheme
from devices.database import last_used
from devices.models import Device, PreSharedKey
from devices.verdicts import Outcome

Factory = Callable[..., Device]
NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def verified(device: Device, secret: str, now: datetime | None = None) -> bool:
    return authenticate(device.identifier, secret=secret, now=now).verified


def test_a_generated_secret_fits_both_of_rtios_limits_and_is_stored_one_way(
    make_device: Factory,
) -> None:
    key, secret = PreSharedKey.objects.issue(device=make_device(), label="factory")
    assert 24 <= len(secret.encode()) <= 64
    assert secret not in key.digest
    assert len(key.digest) == 64
    assert key.scheme == Scheme.HMAC_SHA256
    assert key.hint == secret[:4] + "…"
    assert secret not in str(key)


def test_a_chosen_secret_gives_no_hint(make_device: Factory) -> None:
    key = PreSharedKey.objects.register(device=make_device(), secret="a chosen secret")
    assert key.hint == ""
    assert key.digest.startswith("$argon2id$")
    assert str(key) == f"key {key.pk}"


def test_two_digests_of_one_chosen_secret_differ() -> None:
    pepper = bytes(32)
    first, second = (hashing.argon2_digest("same", pepper) for _ in range(2))
    assert first != second
    assert hashing.argon2_matches("same", first, pepper)
    assert not hashing.argon2_matches("same", first, bytes([1]) * 32)


@pytest.mark.usefixtures("production_cost")
def test_a_chosen_secret_costs_what_the_documents_say(
    make_device: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    costs = []

    def counted(**parameters: Any) -> Argon2id:
        costs.append(parameters)
        return Argon2id(**parameters)

    monkeypatch.setattr(hashing, "Argon2id", counted)
    key = PreSharedKey.objects.register(device=make_device(), secret="a chosen secret")
    assert key.digest.startswith("$argon2id$v=19$m=32768,t=2,p=1$")
    assert hashing.is_current(key.digest, Scheme.ARGON2ID)
    hashing.dummy_hash("of a device that nobody knows")
    for cost in costs:
        assert (cost["memory_cost"], cost["iterations"], cost["lanes"]) == (32768, 2, 1)
    assert len(costs) == 2


@pytest.mark.parametrize(
    ("secret", "random", "message"),
    [
        ("ab", False, "3 to 128"),
        ("x" * 129, False, "3 to 128"),
        ("nul\x00nul", False, "ordinary"),
        ("lone \ud800", False, "ordinary"),
        ("short but varied", True, "128 random bits"),
        ("a" * 40, True, "128 random bits"),
        ("hmac-sha256$p$00", False, "hashed already"),
        ("argon2id$p$v=19$m=1", True, "hashed already"),
    ],
)
def test_a_secret_that_cannot_be_used_is_refused_with_a_reason(
    make_device: Factory, secret: str, random: bool, message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        PreSharedKey.objects.register(device=make_device(), secret=secret, random=random)
    assert not PreSharedKey.objects.exists()


@pytest.mark.parametrize("secret", ["abc", "x" * 128])
def test_the_shortest_and_the_longest_secret_can_be_used(make_device: Factory, secret: str) -> None:
    device = make_device()
    PreSharedKey.objects.register(device=device, secret=secret)
    assert verified(device, secret)


def test_a_secret_that_a_machine_made_elsewhere_is_checked_like_a_generated_one(
    make_device: Factory,
) -> None:
    device = make_device()
    secret = "mb6bgso4EChvyzA05thF9+wH"
    key = PreSharedKey.objects.register(device=device, secret=secret, random=True)
    assert key.scheme == Scheme.HMAC_SHA256
    assert key.hint == ""
    assert verified(device, secret)


@pytest.mark.parametrize(
    ("secret", "weak"),
    [
        ("qwerty", True),
        ("1234567890123456", True),
        ("iloveyou12345678", False),
        ("christopher", True),
        ("1q2w3e4r5t6y7u8i9o0p", True),
        ("abababababababab", True),
        ("abcdeabcdeabcdea", True),
        ("abcdefabcdefabcd", False),
        ("my device-7 secret", True),
        ("correct horse battery staple", False),
        ("mb6bgso4EChvyzA05thF9+wH", False),
    ],
)
def test_weakness_is_said_in_words(secret: str, weak: bool) -> None:
    assert bool(hashing.weakness(secret, identifier="device-7")) is weak


def test_several_keys_overlap(make_device: Factory) -> None:
    device = make_device()
    issued = [PreSharedKey.objects.issue(device=device)[1] for _ in range(3)]
    assert all(verified(device, secret) for secret in issued)


def test_rotation_lets_the_old_key_go_on_for_the_overlap(make_device: Factory) -> None:
    device = make_device()
    _, old = PreSharedKey.objects.issue(device=device)
    new_key, new = PreSharedKey.objects.rotate(device=device, overlap=DAY, label="2026", now=NOW)
    assert new_key.label == "2026"
    assert verified(device, old, NOW + DAY / 2)
    assert not verified(device, old, NOW + DAY)
    assert verified(device, new, NOW + 100 * DAY)


def at_once(acts: Sequence[Callable[[], object]]) -> None:
    """Do each in a thread of its own, begun together; what the registry refuses is refused."""
    ready = threading.Barrier(len(acts))

    def run(act: Callable[[], object]) -> None:
        ready.wait()
        try:
            act()
        except ValidationError:
            pass
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=[act]) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif("connection.vendor == 'sqlite'", reason="SQLite has one writer at a time")
def test_rotations_at_the_same_moment_leave_one_key_without_an_end(make_device: Factory) -> None:
    for _ in range(8):
        device = make_device()
        PreSharedKey.objects.issue(device=device)
        rotate = partial(PreSharedKey.objects.rotate, device=device, overlap=DAY)
        at_once([rotate] * 3)
        assert PreSharedKey.objects.filter(device=device, not_after=None).count() == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif("connection.vendor == 'sqlite'", reason="SQLite has one writer at a time")
def test_few_chosen_secrets_live_at_once_whoever_registers_them(make_device: Factory) -> None:
    device = make_device()
    register = partial(PreSharedKey.objects.register, device=device)
    at_once([partial(register, secret=f"chosen {n}") for n in range(8)])
    assert PreSharedKey.objects.filter(device=device).count() == 4


def test_rotation_lengthens_no_key(make_device: Factory) -> None:
    device = make_device()
    ending, _ = PreSharedKey.objects.issue(device=device, not_after=NOW + DAY / 4)
    later, _ = PreSharedKey.objects.issue(device=device, not_before=NOW + 2 * DAY)
    soon, _ = PreSharedKey.objects.issue(device=device, not_before=NOW + DAY / 2)
    PreSharedKey.objects.rotate(device=device, overlap=DAY, now=NOW)
    for key in (ending, later, soon):
        key.refresh_from_db()
    assert (ending.not_after, ending.revoked_at) == (NOW + DAY / 4, None)
    assert (soon.not_before, soon.not_after, soon.revoked_at) == (NOW + DAY / 2, NOW + DAY, None)
    assert (later.not_before, later.revoked_at) == (NOW + 2 * DAY, NOW)
    assert later.state_at(NOW) is Outcome.REVOKED


def test_a_revocation_says_who_when_and_why_and_the_first_one_stands(
    make_device: Factory,
) -> None:
    key, _ = PreSharedKey.objects.issue(device=make_device())
    assert key.revoke(by="alice", reason="lost", now=NOW)
    assert not key.revoke(by="bob", reason="again")
    key.refresh_from_db()
    assert (key.revoked_by, key.revoked_reason, key.revoked_at) == ("alice", "lost", NOW)
    assert key.state_at(NOW) is Outcome.REVOKED


@pytest.mark.parametrize("random", [True, False])
def test_a_revoked_secret_cannot_be_registered_again(make_device: Factory, random: bool) -> None:
    device, other = make_device(), make_device()
    secret = "mb6bgso4EChvyzA05thF9+wH"
    key = PreSharedKey.objects.register(device=device, secret=secret, random=random)
    key.revoke(by="ops")
    for again in (True, False):
        with pytest.raises(ValidationError, match="was revoked on"):
            PreSharedKey.objects.register(device=device, secret=secret, random=again)
    PreSharedKey.objects.register(device=other, secret=secret)


def test_few_chosen_secrets_live_at_once(make_device: Factory) -> None:
    device = make_device()
    keys = [
        PreSharedKey.objects.register(device=device, secret=f"chosen secret {n}") for n in range(4)
    ]
    with pytest.raises(ValidationError, match="at most 4"):
        PreSharedKey.objects.register(device=device, secret="one more")
    keys[0].revoke(by="ops")
    PreSharedKey.objects.register(device=device, secret="one more")


@pytest.mark.parametrize(
    ("change", "constraint"),
    [
        ({"scheme": "rot13"}, "devices_key_scheme_known"),
        ({"digest": ""}, "devices_key_digest_present"),
        ({"pepper": ""}, "devices_key_digest_present"),
        ({"not_before": NOW, "not_after": NOW}, "devices_key_window_ordered"),
        ({"scheme": "argon2id"}, "devices_key_chosen_gives_no_hint"),
    ],
)
def test_the_database_holds_what_must_always_hold(
    make_device: Factory, change: dict[str, Any], constraint: str
) -> None:
    key, _ = PreSharedKey.objects.issue(device=make_device())
    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        PreSharedKey.objects.filter(pk=key.pk).update(**change)


@pytest.mark.parametrize("chosen", [True, False])
def test_a_key_of_an_old_pepper_is_made_anew_when_it_is_next_verified(
    make_device: Factory, settings: Any, chosen: bool
) -> None:
    device = make_device()
    secret = "a chosen secret"
    if chosen:
        key = PreSharedKey.objects.register(device=device, secret=secret)
    else:
        key, secret = PreSharedKey.objects.issue(device=device)
    settings.PEPPERS = {"test-3": bytes(32), **settings.PEPPERS}
    assert verified(device, secret)
    assert verified(device, secret)  # before the change is written
    last_used.worker.flush()
    key.refresh_from_db()
    assert key.pepper == "test-3"
    settings.PEPPERS = {"test-3": bytes(32)}
    assert verified(device, secret)


def test_a_wrong_secret_makes_nothing_anew(make_device: Factory, settings: Any) -> None:
    device = make_device()
    key, secret = PreSharedKey.objects.issue(device=device)
    key.revoke(by="ops")
    settings.PEPPERS = {"test-3": bytes(32), **settings.PEPPERS}
    assert not verified(device, secret)
    assert not verified(device, "wrong")
    last_used.worker.flush()
    key.refresh_from_db()
    assert key.pepper == "test-2"


def test_a_digest_of_today_s_cost_and_pepper_stays(make_device: Factory) -> None:
    device = make_device()
    key = PreSharedKey.objects.register(device=device, secret="a chosen secret")
    assert verified(device, "a chosen secret")
    assert not last_used.worker.awaits_new_digest(key.pk)


def test_a_digest_that_changed_meanwhile_is_not_overwritten(
    make_device: Factory, settings: Any
) -> None:
    device = make_device()
    key, secret = PreSharedKey.objects.issue(device=device)
    settings.PEPPERS = {"test-3": bytes(32), **settings.PEPPERS}
    assert verified(device, secret)
    PreSharedKey.objects.filter(pk=key.pk).update(digest="f" * 64)
    last_used.worker.flush()
    key.refresh_from_db()
    assert (key.digest, key.pepper) == ("f" * 64, "test-2")


def test_a_change_of_cost_reaches_a_chosen_secret_at_its_next_use(
    make_device: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = make_device()
    key = PreSharedKey.objects.register(device=device, secret="a chosen secret")
    monkeypatch.setattr(hashing, "ARGON2_ITERATIONS", 3)
    prefix = hashing.ARGON2_PREFIX.replace("t=2", "t=3")
    monkeypatch.setattr(hashing, "ARGON2_PREFIX", prefix)
    assert verified(device, "a chosen secret")
    last_used.worker.flush()
    key.refresh_from_db()
    assert key.digest.startswith(prefix)
    assert verified(device, "a chosen secret")


def test_a_use_is_noted_once_a_minute(make_device: Factory, django_assert_num_queries: Any) -> None:
    device = make_device()
    key, secret = PreSharedKey.objects.issue(device=device)
    for second in (0, 10, 50):
        assert verified(device, secret, NOW + timedelta(seconds=second))
        last_used.worker.flush()
    key.refresh_from_db()
    device.refresh_from_db()
    assert key.last_used == device.last_seen == NOW
    assert verified(device, secret, NOW + timedelta(seconds=61))
    last_used.worker.flush()
    key.refresh_from_db()
    assert key.last_used == NOW + timedelta(seconds=61)
    with django_assert_num_queries(0):
        last_used.worker.flush()


@pytest.mark.django_db(transaction=True)
def test_a_use_that_its_rows_tell_already_does_not_wait_to_be_written(make_device: Factory) -> None:
    device = make_device()
    key, secret = PreSharedKey.objects.issue(device=device)
    assert _waiting_after_a_use(device, secret) == 2
    assert _waiting_after_a_use(device, secret) == 0
    long_ago = timezone.now() - timedelta(seconds=61)
    for model, pk, field in ((Device, device.pk, "last_seen"), (PreSharedKey, key.pk, "last_used")):
        for told in (long_ago, None):
            model.objects.filter(pk=pk).update(**{field: told})
            assert _waiting_after_a_use(device, secret) == 2
            assert model.objects.filter(pk=pk, **{f"{field}__gt": long_ago}).exists()


def _waiting_after_a_use(device: Device, secret: str) -> int:
    assert authenticate(device.identifier, secret=secret).verified
    waiting = last_used.worker.waiting()
    last_used.worker.flush()
    return waiting


def test_many_uses_are_written_in_few_statements(make_device: Factory) -> None:
    devices = [make_device() for _ in range(20)]
    for device in devices:
        _, secret = PreSharedKey.objects.issue(device=device)
        assert verified(device, secret, NOW)
    with CaptureQueriesContext(connection) as queries:
        last_used.worker.flush()
    assert len(queries) == 2  # devices, keys
    assert Device.objects.filter(last_seen=NOW).count() == 20


def test_a_failure_or_a_trial_of_staff_leaves_no_evidence(make_device: Factory) -> None:
    device = make_device()
    _, secret = PreSharedKey.objects.issue(device=device)
    assert not verified(device, "wrong")
    authenticate(device.identifier, secret=secret, record=False)
    last_used.worker.flush()
    device.refresh_from_db()
    assert device.last_seen is None
