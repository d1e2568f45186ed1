"""The question whether an entity is who it says, by a secret."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from devices.authentication import authenticate
from devices.credentials import hashing, throttle
from devices.models import Device, PreSharedKey
from devices.verdicts import Outcome

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)

Factory = Callable[..., Device]


def outcome(device: Device | str, secret: str, **options: Any) -> Outcome:
    identifier = device if isinstance(device, str) else device.identifier
    return authenticate(identifier, secret=secret, now=NOW, **options).outcome


def test_a_generated_secret_verifies_and_names_its_rows(make_device: Factory) -> None:
    device = make_device()
    key, secret = PreSharedKey.objects.issue(device=device)
    verdict = authenticate(device.identifier, secret=secret)
    assert verdict.verified
    assert (verdict.device, verdict.key, verdict.kind) == (device.pk, key.pk, "device")


def test_a_chosen_secret_verifies_byte_for_byte(make_device: Factory) -> None:
    device = make_device()
    PreSharedKey.objects.register(device=device, secret=" qwérty ")
    assert outcome(device, " qwérty ") is Outcome.VERIFIED
    assert outcome(device, "qwérty") is Outcome.WRONG_SECRET
    assert outcome(device, " qwe\u0301rty ") is Outcome.WRONG_SECRET


@pytest.mark.parametrize("secret", ["", "\x00", "\ud800", "x" * 10_000])
@pytest.mark.parametrize("chosen", [True, False])
def test_no_text_fails_the_question(make_device: Factory, secret: str, chosen: bool) -> None:
    device = make_device()
    if chosen:
        PreSharedKey.objects.register(device=device, secret="a chosen secret")
    else:
        PreSharedKey.objects.issue(device=device)
    assert outcome(device, secret) is Outcome.WRONG_SECRET


@pytest.mark.parametrize("identifier", ["nobody", "", "nul\x00", "\ud800", "x" * 300])
def test_who_is_not_registered_is_unknown(db: None, identifier: str) -> None:
    assert outcome(identifier, "a secret") is Outcome.UNKNOWN_DEVICE


def test_an_identifier_is_compared_exactly(make_device: Factory) -> None:
    device = make_device("Device-A")
    _, secret = PreSharedKey.objects.issue(device=device)
    assert outcome("device-a", secret) is Outcome.UNKNOWN_DEVICE
    assert outcome("Device-A", secret) is Outcome.VERIFIED


@pytest.mark.parametrize(
    ("window", "expected"),
    [
        ({}, Outcome.VERIFIED),
        ({"not_before": NOW}, Outcome.VERIFIED),
        ({"not_before": NOW + HOUR}, Outcome.NOT_YET_VALID),
        ({"not_after": NOW + HOUR}, Outcome.VERIFIED),
        ({"not_after": NOW}, Outcome.EXPIRED),
        ({"not_before": NOW - 2 * HOUR, "not_after": NOW - HOUR}, Outcome.EXPIRED),
    ],
)
@pytest.mark.parametrize("chosen", [True, False])
def test_a_key_admits_within_its_window(
    make_device: Factory, window: dict[str, Any], expected: Outcome, chosen: bool
) -> None:
    device = make_device()
    secret = "a chosen secret"
    if chosen:
        PreSharedKey.objects.register(device=device, secret=secret, **window)
    else:
        _, secret = PreSharedKey.objects.issue(device=device, **window)
    assert outcome(device, secret) is expected


@pytest.mark.parametrize("chosen", [True, False])
def test_a_revoked_key_admits_nobody(make_device: Factory, chosen: bool) -> None:
    device = make_device()
    secret = "a chosen secret"
    if chosen:
        key = PreSharedKey.objects.register(device=device, secret=secret)
    else:
        key, secret = PreSharedKey.objects.issue(device=device)
    assert outcome(device, secret) is Outcome.VERIFIED
    key.revoke(by="ops")
    assert outcome(device, secret) is Outcome.REVOKED


def test_a_disabled_device_is_refused_with_its_own_secret(make_device: Factory) -> None:
    device = make_device(enabled=False)
    _, secret = PreSharedKey.objects.issue(device=device)
    assert outcome(device, secret) is Outcome.DISABLED
    assert outcome(device, "another") is Outcome.DISABLED


def test_a_device_without_a_key_is_told_from_a_wrong_secret(make_device: Factory) -> None:
    assert outcome(make_device(), "any") is Outcome.NO_CREDENTIAL


def test_a_secret_in_two_keys_counts_if_one_of_them_is_usable(make_device: Factory) -> None:
    device = make_device()
    secret = hashing.generate()
    for end in (NOW, None):
        PreSharedKey.objects.register(device=device, secret=secret, random=True, not_after=end)
    assert outcome(device, secret) is Outcome.VERIFIED
    PreSharedKey.objects.get(not_after=None).revoke(by="ops")
    assert outcome(device, secret) in {Outcome.REVOKED, Outcome.EXPIRED}


def test_a_missing_pepper_fails_its_keys_closed_and_says_so(
    make_device: Factory, settings: Any
) -> None:
    device = make_device()
    _, secret = PreSharedKey.objects.issue(device=device)
    settings.PEPPERS = {"other": bytes(32)}
    verdict = authenticate(device.identifier, secret=secret)
    assert verdict.outcome is Outcome.PEPPER_MISSING
    assert "test-2" in verdict.reason


@pytest.mark.parametrize("keys", [1, 5])
def test_a_secret_costs_one_statement_however_many_keys(
    make_device: Factory, django_assert_num_queries: Any, keys: int
) -> None:
    device = make_device()
    _, secret = next(PreSharedKey.objects.issue(device=device) for _ in range(keys))
    for presented in (secret, "wrong"):
        with django_assert_num_queries(1):
            authenticate(device.identifier, secret=presented)
    with django_assert_num_queries(1):
        authenticate("nobody", secret=secret)


def test_the_statement_finds_its_device_in_an_index(
    make_device: Factory,
) -> None:
    make_device("x")
    with CaptureQueriesContext(connection) as captured:
        authenticate("x", secret="y")
    (query,) = captured.captured_queries
    with connection.cursor() as cursor:
        prefix = "EXPLAIN QUERY PLAN " if connection.vendor == "sqlite" else "EXPLAIN "
        if connection.vendor == "postgresql":
            cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute(prefix + query["sql"])
        plan = str(cursor.fetchall())
    assert "SCAN devices" not in plan
    assert "Seq Scan" not in plan


def test_nothing_presented_is_a_mistake_of_the_caller(db: None) -> None:
    with pytest.raises(ValueError, match="present"):
        authenticate("x")


def test_a_chosen_secret_is_hashed_once_and_then_remembered(
    make_device: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = make_device()
    key = PreSharedKey.objects.register(device=device, secret="a chosen secret")
    assert outcome(device, "a chosen secret") is Outcome.VERIFIED
    monkeypatch.setattr(hashing, "argon2_matches", lambda *args: pytest.fail("hashed again"))
    assert outcome(device, "a chosen secret") is Outcome.VERIFIED
    PreSharedKey.objects.filter(pk=key.pk).update(digest="$argon2id$changed")
    monkeypatch.setattr(hashing, "argon2_matches", lambda *args: False)
    assert outcome(device, "a chosen secret") is Outcome.WRONG_SECRET


def test_of_several_chosen_secrets_the_one_presented_is_named(make_device: Factory) -> None:
    device = make_device()
    for end in (NOW + HOUR, None):
        secret = f"a chosen secret until {end}"
        key = PreSharedKey.objects.register(device=device, secret=secret, not_after=end)
        assert authenticate(device.identifier, secret=secret, now=NOW).key == key.pk


def test_what_is_remembered_holds_no_secret() -> None:
    memory = throttle.Remembered(most=2)
    for number in range(3):
        memory.note(f"digest {number}", "the secret")
    assert not memory.recalls("digest 0", "the secret")
    assert memory.recalls("digest 2", "the secret")
    assert not memory.recalls("digest 2", "another")
    assert b"the secret" not in b"".join(memory._verified.values())
