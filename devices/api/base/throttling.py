"""How many requests a token may make in a minute, counted for all processes in the shared cache."""

import logging
import time
from typing import Any

from django.conf import settings
from django.core.cache import cache
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from devices.database.outages import OutageLog

PERIOD = 60  # seconds

outages = OutageLog(logging.getLogger(__name__))


class TokenThrottle(BaseThrottle):
    """Counts what each token asks, or each account where it asks itself, by the minute.

    A cache's `add` and `incr` are atomic; DRF's own throttle reads a list and writes it back.
    """

    def allow_request(self, request: Request, view: Any) -> bool:
        self._now = time.time()
        if not settings.API_RATE:
            return True
        asks = getattr(request.auth, "pk", None)
        who = f"token-{asks}" if asks is not None else f"user-{request.user.pk}"
        key = f"api-rate:{who}:{int(self._now // PERIOD)}"
        # What is counted guards against clients that run wild, not against guesses at tokens.
        with outages.noting("the cache does not count the API's requests"):
            cache.add(key, 0, timeout=2 * PERIOD)
            return bool(cache.incr(key) <= settings.API_RATE)
        return True

    def wait(self) -> float:
        return PERIOD - self._now % PERIOD
