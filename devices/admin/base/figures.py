"""Figures that pages show: what takes long to count is counted once in a while."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from time import monotonic
from typing import TypeVar

from django.core.cache import cache

from devices.database.outages import OutageLog

SLOW = 0.2  # seconds; what takes longer to count is kept


@dataclass(frozen=True)
class Figures:
    """What was counted, and when; `kept` where that was for another page.

    Only figures for people are, never anything that decides.
    """

    at: datetime
    kept: bool = field(default=False, kw_only=True)


Counted = TypeVar("Counted", bound=Figures)
FAILED = "figures are counted anew for each page"

outages = OutageLog(logging.getLogger(__name__))


def kept_if_slow(key: str, seconds: int, count: Callable[[], Counted]) -> Counted:
    """Return what is counted, or was in the last seconds, where that took long.

    A cache that fails spoils no page.
    """
    found: Counted | None = None
    with outages.noting(FAILED):
        found = cache.get(key)
    if found is None:
        started = monotonic()
        found = count()
        if monotonic() - started > SLOW:
            with outages.noting(FAILED):
                cache.set(key, replace(found, kept=True), seconds)
    return found
