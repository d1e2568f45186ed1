"""A request that is sent again is answered again, and done once (`Idempotency-Key`).

The draft of the HTTP working group, "The Idempotency-Key HTTP Header Field", says what a client may
expect: 422 for the key of another request, 409 while the first one is still being answered.

An answer may hold a secret that is shown once. So it is kept encrypted under a key that is made of
a pepper and of the Idempotency-Key itself, which only the client has: neither the database nor the
database with the pepper gives it away.
"""

import hashlib
import hmac
import json
import re
import secrets
from contextlib import suppress
from datetime import timedelta
from http import HTTPStatus
from uuid import uuid4

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.db import DatabaseError, IntegrityError, transaction
from django.utils import timezone
from django.utils.translation import gettext as _
from rest_framework.request import Request
from rest_framework.response import Response

from devices.api.base import problems
from devices.credentials import hashing
from devices.database.turns import update_in_turn
from devices.models import IdempotentAnswer
from devices.models.idempotent_answer import KEPT

HEADER = "Idempotency-Key"
REPLAYED = "Idempotency-Replayed"
LEASE = timedelta(minutes=5)  # after which a request that never ended may be sent again
KEY = re.compile(r"[\x21-\x7e]{16,255}\Z")
NONCE = 12  # bytes
KEPT_HEADERS = ("ETag", "Location")


class Claim:
    """One use of a key by one account or token."""

    def __init__(self, request: Request, key: str) -> None:
        if not KEY.match(key):
            raise problems.HeaderError(
                HEADER, _("Write 16 to 255 characters without spaces, such as a random UUID.")
            )
        asks = request.auth if hasattr(request.auth, "pk") else request.user
        owner = f"{type(asks).__name__} {asks.pk}"
        self._secret = hashlib.sha256(f"{owner}\n{key}".encode()).digest()
        self._name = self._made_for("name").hex()
        self._fingerprint = self._made_for("request", _content_of(request)).hex()
        self._holder = uuid4()

    def _made_for(self, purpose: str, about: bytes = b"") -> bytes:
        return hmac.digest(self._secret, purpose.encode() + b"\n" + about, "sha256")

    def take(self) -> Response | None:
        """Return the answer that was given before, or None for who may answer now.

        Raises Problem (422) for another request, Conflict while the first one is being answered.
        """
        now = timezone.now()
        fields = {"fingerprint": self._fingerprint, "holder": self._holder, "created": now}
        with suppress(IntegrityError), transaction.atomic():
            IdempotentAnswer.objects.create(name=self._name, **fields)
            return None
        row = IdempotentAnswer.objects.filter(name=self._name).first()
        if row is not None and row.created > now - KEPT:
            if not hmac.compare_digest(row.fingerprint, self._fingerprint):
                text = _("This Idempotency-Key was sent with another request before.")
                status = HTTPStatus.UNPROCESSABLE_ENTITY
                raise problems.Problem(text, "idempotency-key-reused", status)
            if row.answer is not None:
                return self._opened(row)
            if row.created > now - LEASE:
                raise _in_progress()
        stands = {"pk": row.pk, "holder": row.holder} if row is not None else {"pk": None}
        stale = IdempotentAnswer.objects.filter(**stands)
        if not update_in_turn(stale, **fields, answer=None):
            raise _in_progress()
        return None

    def keep(self, response: Response) -> None:
        """Keep the answer, in the transaction of what was done."""
        said = json.dumps(
            {
                "status": response.status_code,
                "headers": {name: response[name] for name in KEPT_HEADERS if name in response},
                "data": response.data,
            },
            default=str,
        )
        nonce, pepper = secrets.token_bytes(NONCE), hashing.newest_pepper()
        sealed = nonce + self._cipher(hashing.peppers()[pepper]).encrypt(nonce, said.encode(), None)
        rows = IdempotentAnswer.objects.filter(name=self._name, holder=self._holder)
        if not rows.update(answer=sealed, pepper=pepper):  # taken over, and perhaps answered
            raise problems.Conflict(_("The request took too long. Ask again."), code="in-progress")

    def release(self) -> None:
        """Let the key be used again where nothing was done. Without a database the lease does.

        A commit that was not confirmed may have been made: then there is an answer, which stays.
        """
        with suppress(DatabaseError), transaction.atomic():
            rows = IdempotentAnswer.objects.filter(name=self._name, holder=self._holder)
            rows.filter(answer=None).delete()

    def _cipher(self, pepper: bytes) -> AESGCM:
        return AESGCM(hmac.digest(pepper, self._made_for("answer"), "sha256"))

    def _opened(self, row: IdempotentAnswer) -> Response:
        pepper, sealed = hashing.peppers().get(row.pepper), bytes(row.answer or b"")
        if pepper is None:
            raise problems.Conflict(
                _("The request was answered; its answer cannot be read any more."), code="lost"
            )
        said = json.loads(self._cipher(pepper).decrypt(sealed[:NONCE], sealed[NONCE:], None))
        headers = {**said["headers"], REPLAYED: "true"}
        return Response(said["data"], status=said["status"], headers=headers)


def _in_progress() -> problems.Conflict:
    text = _("The same request is being answered. Ask again in a moment.")
    return problems.Conflict(text, code="in-progress")


def _content_of(request: Request) -> bytes:
    """Return what makes a request another one: its method, its address and its body."""
    data = request.data
    body = data if isinstance(data, bytes) else json.dumps(data, sort_keys=True).encode()
    address = f"{request.method} {request.get_full_path()}\n".encode()
    return address + hashlib.sha256(body).digest()
