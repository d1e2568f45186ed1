"""Encryption of what must be read again: AES-256-GCM, under a key derived from a pepper.

One key for each purpose (HKDF), so that nothing that was sealed for one is taken for another.
"""

import os
from functools import cache

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from devices.credentials import hashing

NONCE_BYTES = 12


class SealedError(Exception):
    """What is sealed cannot be read: its pepper is missing, or it was changed."""


def seal(content: bytes, purpose: bytes) -> bytes:
    """Return the content encrypted under the newest pepper; other bytes at each call."""
    nonce = os.urandom(NONCE_BYTES)
    key = hashing.peppers()[hashing.newest_pepper()]
    return nonce + _cipher(key, purpose).encrypt(nonce, content, purpose)


def unseal(sealed: bytes, pepper: str, purpose: bytes) -> bytes:
    """Return what was sealed under a pepper, by its id; raises SealedError."""
    key = hashing.peppers().get(pepper)
    if key is None:
        raise SealedError(f"the pepper {pepper} is missing")
    nonce, text = sealed[:NONCE_BYTES], sealed[NONCE_BYTES:]
    try:
        return _cipher(key, purpose).decrypt(nonce, text, purpose)
    except (InvalidTag, ValueError) as error:
        raise SealedError("what was sealed is damaged") from error


@cache
def _cipher(pepper: bytes, purpose: bytes) -> AESGCM:
    return AESGCM(HKDF(SHA256(), length=32, salt=None, info=purpose).derive(pepper))
