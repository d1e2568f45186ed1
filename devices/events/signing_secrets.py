"""Signing secrets of webhooks: made here, and stored so that they can be read again.

Who signs must have the secret itself: it is not stored one-way but encrypted under a key
derived from the newest pepper. Peppers rotate as for devices' keys: `deliver` seals again under
the newest one, and `pepper_status` counts what needs each. (docs/events.md)
"""

import base64
import os

from devices.credentials import sealing
from devices.credentials.sealing import SealedError

PREFIX = "whsec_"
SECRET_BYTES = 32
PURPOSE = b"authsite signing secrets of webhooks v1"


def generate() -> str:
    """Return a new signing secret as Standard Webhooks writes it."""
    return PREFIX + base64.b64encode(os.urandom(SECRET_BYTES)).decode()


def key_of(secret: str) -> bytes:
    """Return the bytes that a secret signs with."""
    return base64.b64decode(secret.removeprefix(PREFIX))


def seal(secret: str) -> str:
    """Return what is stored for a secret under the newest pepper; another text at each call."""
    return base64.b64encode(sealing.seal(secret.encode(), PURPOSE)).decode()


def unseal(stored: str, pepper: str) -> str:
    """Return the secret that was sealed under a pepper, by its id; raises SealedError."""
    try:
        sealed = base64.b64decode(stored, validate=True)
    except ValueError as error:
        raise SealedError("a stored signing secret is damaged") from error
    return sealing.unseal(sealed, pepper, PURPOSE).decode()
