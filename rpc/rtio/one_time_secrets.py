"""The secrets with which the registry takes sessions over: each counts once, for one session.

Digests of them are in the rows of sessions to end, so that every process can answer RTIO's question
about them. (contract: RTIO, "Ending a live session".)
"""

import hmac
import secrets

from django.utils import timezone

from devices.credentials import hashing
from devices.database.turns import update_in_turn
from rpc.rtio.models import EndingState, SessionEnding
from rpc.rtio.models.session_ending import may_connect_again

PREFIX = "end."  # no generated secret has a dot
SECRET_BYTES = 32
SECRET_LENGTH = len(PREFIX) + 43  # characters; RTIO takes 24 to 64 bytes


def is_one_time(secret: str) -> bool:
    return len(secret) == SECRET_LENGTH and secret.startswith(PREFIX)


def generate() -> str:
    """Return a new one-time secret of 256 bits."""
    return PREFIX + secrets.token_urlsafe(SECRET_BYTES)


def digest(secret: str, pepper: str) -> str:
    """Return the digest of a one-time secret under a pepper, by its id."""
    key = hashing.peppers()[pepper]
    return hmac.digest(key, b"authsite one-time secret v1\x00" + secret.encode(), "sha256").hex()


def use(identifier: str, secret: str, caller: str | None) -> bool | None:
    """Use a one-time secret up; return whether it counts.

    It counts once, within its seconds, for its device, from its server, and only while the
    device's session is still to be ended. None: it is none of ours, and may be an ordinary one.
    """
    if not secret.isascii():
        return None
    digests = [digest(secret, pepper) for pepper in hashing.peppers()]
    rows = SessionEnding.objects.select_related("server__backend")
    row = rows.filter(secret_digest__in=digests).first()
    if row is None:
        return None
    backend, now = row.server.backend, timezone.now()
    is_of_caller = backend is None or backend.identifier == caller
    is_in_time = row.secret_valid_until is not None and now < row.secret_valid_until
    is_due = row.state == EndingState.WAITING and is_in_time
    if not (row.identifier == identifier and is_of_caller and is_due):
        return False
    if may_connect_again([row]):
        return False
    unused = SessionEnding.objects.filter(
        pk=row.pk, secret_digest=row.secret_digest, secret_used_at=None
    )
    return update_in_turn(unused, secret_used_at=now) > 0
