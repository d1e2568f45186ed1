"""What is sealed is read again by its purpose and its pepper alone, and only as it was."""

from typing import Any

import pytest

from devices.credentials.sealing import SealedError, seal, unseal

pytestmark = pytest.mark.once(on="sqlite")


@pytest.fixture(autouse=True)
def peppers(settings: Any) -> None:
    settings.PEPPERS = {"new": bytes(32), "old": bytes(range(32))}


@pytest.mark.parametrize("content", [b"", b"secret", bytes(100_000)])
def test_what_is_sealed_is_read_again(content: bytes) -> None:
    sealed = seal(content, b"webhook")
    assert unseal(sealed, "new", b"webhook") == content
    assert sealed != seal(content, b"webhook")


@pytest.mark.parametrize(
    ("pepper", "purpose", "message"),
    [("old", b"webhook", "damaged"), ("new", b"job", "damaged"), ("gone", b"webhook", "missing")],
)
def test_another_pepper_or_purpose_reads_nothing(pepper: str, purpose: bytes, message: str) -> None:
    with pytest.raises(SealedError, match=message):
        unseal(seal(b"secret", b"webhook"), pepper, purpose)


def test_whatever_was_changed_is_not_read() -> None:
    sealed = seal(b"secret", b"webhook")
    changed = [
        sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :] for at in range(len(sealed))
    ]
    shorter = [sealed[:length] for length in range(len(sealed))]
    for text in [*changed, *shorter, sealed + b"\x00"]:
        with pytest.raises(SealedError, match="damaged"):
            unseal(text, "new", b"webhook")


def test_what_an_earlier_release_sealed_is_read() -> None:
    sealed = bytes.fromhex("9c48723982378af35e305a14e136164d8905f4f996d8ce4bf89c33ebe05551346381")
    assert unseal(sealed, "old", b"webhook") == b"secret"
