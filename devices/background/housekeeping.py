"""Forgetting what nobody may ask for any more: one way for all tables that grow by themselves.

Each server process looks once an hour; what another has forgotten, it does not find. History and
the journal stay until a command prunes them: how long they are kept is the operator's to say.
(docs/operations.md)
"""

import logging
import random
import time
from datetime import datetime, timedelta

from django.conf import settings
from django.db import Error
from django.utils import timezone

from devices.events import stream
from devices.extension_points import FORGETS
from devices.models import IdempotentAnswer, Job

EVERY = 3600.0  # seconds between two looks
FIRST = (10.0, 300.0)  # after the start, by chance: processes start together

log = logging.getLogger(__name__)


def forget(now: datetime) -> dict[str, int]:
    """Delete what is too old, table by table; return how many rows of each.

    One that fails is logged and leaves the others alone.
    """
    found = {}
    for name, delete in FORGETS.items():
        try:
            found[name] = delete(now)
        except Error as error:
            log.warning("old %s were not forgotten: %s", name, " ".join(str(error).split()))
    return found


FORGETS["events"] = lambda now: stream.prune(now - timedelta(days=settings.EVENT_DAYS))
FORGETS["jobs"] = Job.objects.forget
FORGETS["idempotent answers"] = IdempotentAnswer.objects.forget


class Housekeeper:
    """Deletes what is too old, once in EVERY seconds."""

    def __init__(self) -> None:
        self.next_look = time.monotonic() + random.uniform(*FIRST)  # noqa: S311 - no secret

    def look(self) -> None:
        now = time.monotonic()
        if now < self.next_look:
            return
        self.next_look = now + EVERY
        done = forget(timezone.now())
        if any(done.values()):
            log.info("Forgot %s", ", ".join(f"{n} old {name}" for name, n in done.items() if n))
