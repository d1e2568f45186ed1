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
Result = TypeVar("Result")

outages = OutageLog(logging.getLogger(__name__))


def kept_if_slow(key: str, seconds: int, count: Callable[[], Counted]) -> Counted:
    """Return what is counted, or was in the last seconds, where that took long."""
    found: Counted | None = _in_cache(lambda: cache.get(key))
    if found is None:
        started = monotonic()
        counted = found = count()
        if monotonic() - started > SLOW:
            _in_cache(lambda: cache.set(key, replace(counted, kept=True), seconds))
    return found


def _in_cache(do: Callable[[], Result]) -> Result | None:
    """Return what the cache returns; None where it fails, which spoils no page."""
    try:
        return do()
    except Exception as error:  # noqa: BLE001 - whatever a cache raises
        outages.note("figures are counted anew for each page", error)
        return None
