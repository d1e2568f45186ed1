"""Tokens with which apps reach a device through RTIO's HTTP gateway.

RTIO checks a token against one public key that it reads at its start, and against nothing else:
no token can be revoked. (contract: RTIO, "Tokens for apps".)
"""

import base64
import secrets
import time

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from django.conf import settings

ISSUER = "rtio"
COMMAND = "/rtio/Jwt.Issue"  # what a caller needs a rule for, with the device as destination
MAX_SECONDS = 7 * 24 * 60 * 60  # RTIO's page on its JWT issuer; also what is meant without a number


def issue(identifier: str, seconds: int, *, key: str, now: float | None = None) -> str:
    """Return a token for a device that lives so long, or as long as is configured at most."""
    issued = int(time.time() if now is None else now)
    claims = {
        "iss": ISSUER,
        "sub": identifier,
        "iat": issued,
        "exp": issued + min(seconds, settings.JWT_MAX_SECONDS),
        "jti": secrets.token_urlsafe(12),
    }
    return jwt.encode(
        claims, settings.JWT_SIGNING_KEYS[key], algorithm="EdDSA", headers={"kid": key}
    )


def public_pem(key: Ed25519PrivateKey) -> str:
    """Return a key's public half, as RTIO's option -jwt.ed25519 reads it."""
    pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return pem.decode()


def setting(key_id: str, key: Ed25519PrivateKey) -> str:
    """Return a key as an entry of JWT_SIGNING_KEYS."""
    der = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    return f"{key_id}:{base64.b64encode(der).decode()}"
