"""The secrets with which the registry takes sessions over: each counts once, for one session.

Digests of them are in the rows of sessions to end, so that every process can answer RTIO's question
about them. (contract: RTIO, "Ending a live session".)
"""

import hmac
import secrets
from dataclasses import dataclass

from django.db import transaction
from django.utils import timezone

from devices.credentials import hashing
from rpc.rtio.models import EndingState, SessionEnding
from rpc.rtio.models.session_ending import may_connect_again

PREFIX = "end."  # no generated secret has a dot
SECRET_BYTES = 32
SECRET_LENGTH = len(PREFIX) + 43  # characters; RTIO takes 24 to 64 bytes


def is_one_time(secret: str) -> bool:
    """Whether a secret has the form of those that end sessions."""
    return len(secret) == SECRET_LENGTH and secret.startswith(PREFIX)


def generate() -> str:
    """Return a new one-time secret of 256 bits."""
    return PREFIX + secrets.token_urlsafe(SECRET_BYTES)


def digest(secret: str, pepper: str) -> str:
    """Return the digest of a one-time secret under a pepper, by its id."""
    key = hashing.peppers()[pepper]
    return hmac.digest(key, b"authsite one-time secret v1\x00" + secret.encode(), "sha256").hex()


@dataclass(frozen=True, slots=True)
class Use:
    """What became of a one-time secret that was shown: whether it counts, else why not."""

    accepted: bool
    problem: str = ""


def use(identifier: str, secret: str, caller: str | None) -> Use | None:
    """Use a one-time secret up; None where it is none of ours and may be an ordinary one.

    It counts once, within its seconds, for its device, from its server, and only while the
    device's session is still to be ended.
    """
    if not secret.isascii():
        return None
    digests = [digest(secret, pepper) for pepper in hashing.peppers()]
    rows = SessionEnding.objects.select_related("server__backend")
    row = rows.filter(secret_digest__in=digests).first()
    if row is None:
        return None
    backend = row.server.backend
    for problem, present in (
        ("another device", row.identifier != identifier),
        ("another caller", backend is not None and backend.identifier != caller),
        ("not waiting", row.state != EndingState.WAITING),
        ("late", row.secret_valid_until is None or row.secret_valid_until <= timezone.now()),
        ("may connect again", identifier in may_connect_again([row])),
    ):
        if present:
            return Use(accepted=False, problem=problem)
    unused = SessionEnding.objects.filter(
        pk=row.pk, secret_digest=row.secret_digest, secret_used_at=None
    )
    with transaction.atomic():  # SQLite's writers take turns by transactions
        is_first = unused.update(secret_used_at=timezone.now())
    if not is_first:
        return Use(accepted=False, problem="used")
    return Use(accepted=True)
