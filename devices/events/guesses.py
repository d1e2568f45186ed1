"""Telling that wrong secrets are tried at a device: written behind the requests, once a while.

A refusal only adds a name to a set of its process; the thread that writes looks who is registered,
and leaves one event in TOLD_EVERY for each, whichever process was asked.
"""

import hashlib
from collections.abc import Iterable

from django.apps import apps
from django.core.cache import cache
from django.db import transaction

from devices.database.write_behind import WriteBehindWorker
from devices.events.kinds import Kind
from devices.events.models import Event
from devices.events.recording import with_groups

TOLD_EVERY = 15 * 60  # seconds
MAX_NAMES = 1000  # that a process collects between two writes


class GuessWorker(WriteBehindWorker[list[str]]):
    """Collects the identifiers whose guesses are refused, and leaves events of them."""

    name = "guesses"

    def __init__(self) -> None:
        super().__init__()
        self._names: set[str] = set()

    def note(self, identifier: str) -> None:
        with self._lock:
            if len(self._names) < MAX_NAMES:
                self._names.add(identifier)
        self._start()

    def waiting(self) -> int:
        return len(self._names)

    def drain(self) -> Iterable[list[str]]:
        with self._lock:
            names, self._names = self._names, set()
        return [sorted(names)] if names else []

    def requeue(self, batches: Iterable[list[str]]) -> None:
        with self._lock:
            self._names.update(name for batch in batches for name in batch)

    def write(self, batch: list[str]) -> None:
        """Leave an event for each registered device that has had none for TOLD_EVERY seconds."""
        devices = apps.get_model("devices.Device")._default_manager
        found = with_groups(devices.filter(identifier__in=batch))
        with transaction.atomic():
            for pk, (identifier, groups) in found.items():
                if cache.add(f"guessed:{_digest(identifier)}", True, TOLD_EVERY):
                    Event.objects.record(
                        Kind.CREDENTIAL_GUESSED,
                        {"device": {"id": pk, "identifier": identifier}},
                        groups=groups,
                    )


def _digest(identifier: str) -> str:
    return hashlib.sha256(identifier.encode(errors="surrogatepass")).hexdigest()


worker = GuessWorker()
