"""Authenticate requests to the API by `Authorization: Bearer authsite_…`, and by nothing else.

Whoever is refused learns nothing but that: why, is in the log. (RFC 6750; docs/tokens.md)
"""

import hashlib
import logging
import time
from typing import Any

from django.contrib.auth.models import User
from django.core.cache import cache
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed, Throttled
from rest_framework.request import Request

from authsite.accounts.login import client_address, whole_address
from authsite.accounts.tokens import last_used
from authsite.accounts.tokens.models import ApiToken, TokenOutcome
from devices.database.outages import OutageLog
from rpc.authentication import source_address

GUESSES = 30  # of wrong tokens from one address, before more are refused without a look-up
MAX_VERIFIED = 10_000  # tokens that a process remembers
WINDOW = 15 * 60  # seconds in which they are counted

log = logging.getLogger(__name__)
outages = OutageLog(log)


class TokenAuthentication(BaseAuthentication):
    """Lets the owner of a token in, as `request.user`; the token is the grant, `request.auth`.

    Raises AuthenticationFailed (401), or Throttled (429) where too many wrong tokens came from the
    address. A request without a token is nobody's.
    """

    def authenticate(self, request: Request) -> tuple[User, ApiToken] | None:
        scheme, _space, text = str(request.META.get("HTTP_AUTHORIZATION", "")).partition(" ")
        if scheme.lower() != "bearer":
            return None
        text, guesses = text.strip(), Guesses(request)
        fingerprint = hashlib.sha256(text.encode()).digest()  # of 190 random bits
        if fingerprint not in verified:
            guesses.check()
        address, now = source_address(request.META), timezone.now()
        verdict = ApiToken.objects.verify(text, address, now)
        if verdict.outcome is TokenOutcome.UNKNOWN:  # whoever sent it knew no secret
            guesses.count()
        token = verdict.token
        if token is None or verdict.outcome is not TokenOutcome.VERIFIED:
            known = token.identifier if token is not None else "-"
            log.warning("a token was refused: %s, %s, from %s", verdict.outcome, known, address)
            raise AuthenticationFailed(_("This token is not valid here and now."), "invalid_token")
        remember(fingerprint)
        last_used.worker.record(
            token, text, now, whole_address(request) or request.META.get("REMOTE_ADDR") or None
        )
        view = (request.parser_context or {}).get("view")
        token.operation = getattr(view, "action", None) or str(request.method).lower()
        return token.owner, token

    def authenticate_header(self, request: Request) -> str:
        """Return the challenge of a 401; it names an error where a token was presented."""
        challenge = 'Bearer realm="authsite"'
        presented = str(request.META.get("HTTP_AUTHORIZATION", "")).lower().startswith("bearer")
        return f'{challenge}, error="invalid_token"' if presented else challenge


# Hashes of tokens that were right once in this process: they are asked about at any time, so that
# whoever guesses from an address keeps no program out that shares it and had been let in. This
# decides nothing else: each is verified as ever.
verified: set[bytes] = set()


def remember(fingerprint: bytes) -> None:
    """Count a token among those that were right; where these are too many, forget them first."""
    if len(verified) >= MAX_VERIFIED:
        verified.clear()
    verified.add(fingerprint)


class Guesses:
    """Wrong tokens from one address (of IPv6: one /64) within WINDOW.

    They are counted to bound work, not to protect secrets of 190 bits: where the cache fails,
    tokens are verified on. A right token that has ended is no guess, and one whose checksum is
    wrong costs nothing.
    """

    def __init__(self, request: Any) -> None:
        now = time.time()
        address = hashlib.sha256(str(client_address(request)).encode()).hexdigest()
        self._key = f"token-guesses:{address}:{int(now // WINDOW)}"
        self._left = WINDOW - now % WINDOW

    def check(self) -> None:
        made = 0
        with outages.noting("wrong tokens cannot be counted"):
            made = cache.get(self._key, 0)
        if made >= GUESSES:
            raise Throttled(wait=self._left)

    def count(self) -> None:
        with outages.noting("a wrong token was not counted"):
            cache.add(self._key, 0, WINDOW)
            cache.incr(self._key)
