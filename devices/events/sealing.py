"""Signing secrets of webhooks: made here, and stored so that they can be read again.

Who signs must have the secret itself: it is not stored one-way but encrypted (AES-256-GCM) under a
key derived from the newest pepper. Peppers rotate as for devices' keys: `deliver` seals again under
the newest one, and `pepper_status` counts what hangs on each. (docs/events.md)
"""

import base64
import binascii
import os
from functools import cache

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from devices.credentials import hashing

PREFIX = "whsec_"
SECRET_BYTES = 32
NONCE_BYTES = 12
PURPOSE = b"authsite signing secrets of webhooks v1"


class SealedError(Exception):
    """A stored secret cannot be read: its pepper is missing, or it was changed."""


def generate() -> str:
    """Return a new signing secret as Standard Webhooks writes it."""
    return PREFIX + base64.b64encode(os.urandom(SECRET_BYTES)).decode()


def key_of(secret: str) -> bytes:
    """Return the bytes that a secret signs with."""
    return base64.b64decode(secret.removeprefix(PREFIX))


def seal(secret: str) -> str:
    """Return what is stored for a secret under the newest pepper; another text at each call."""
    nonce = os.urandom(NONCE_BYTES)
    key = hashing.peppers()[hashing.newest_pepper()]
    return base64.b64encode(nonce + _cipher(key).encrypt(nonce, secret.encode(), PURPOSE)).decode()


def unseal(stored: str, pepper: str) -> str:
    """Return the secret that was sealed under a pepper, by its id; raises SealedError."""
    key = hashing.peppers().get(pepper)
    if key is None:
        raise SealedError(f"the pepper {pepper} is missing")
    try:
        sealed = base64.b64decode(stored, validate=True)
        nonce, text = sealed[:NONCE_BYTES], sealed[NONCE_BYTES:]
        return _cipher(key).decrypt(nonce, text, PURPOSE).decode()
    except (InvalidTag, binascii.Error, ValueError) as error:
        raise SealedError("a stored signing secret is damaged") from error


@cache
def _cipher(pepper: bytes) -> AESGCM:
    return AESGCM(HKDF(SHA256(), length=32, salt=None, info=PURPOSE).derive(pepper))
