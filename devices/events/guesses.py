"""Telling that wrong secrets are tried at a device: written behind the requests, once a while.

A refusal only adds a name to a set of its process; the thread that writes looks who is registered,
and leaves one event in TOLD_EVERY for each, whichever process was asked.
"""

import hashlib

from django.apps import apps
from django.core.cache import cache
from django.db import transaction

from devices.database.write_behind import WriteBehindWorker, outages
from devices.events.kinds import Kind
from devices.events.models import Event
from devices.events.recording import with_groups
from devices.history.context import by_itself
from devices.values.addresses import is_storable

TOLD_EVERY = 15 * 60  # seconds
MAX_NAMES = 1000  # that a process collects between two writes


class GuessWorker(WriteBehindWorker[str, None]):
    """Collects the identifiers whose guesses are refused, and leaves events of them."""

    name = "guesses"
    batch_rows = MAX_NAMES

    def note(self, identifier: str) -> None:
        """Collect a name; one that no database stores is no device's, and would spoil its batch."""
        if not is_storable(identifier):
            return
        with self._lock:
            if len(self._collected) < MAX_NAMES:
                self._collected[identifier] = None
        self._start()

    def write(self, batch: list[tuple[str, None]]) -> None:
        """Leave an event for each registered device that has had none for TOLD_EVERY seconds.

        Those that a cache which fails was not asked about wait for the next time, as all do where
        the database takes no event.
        """
        devices = apps.get_model("devices.Device")._default_manager
        left = list(with_groups(devices.filter(identifier__in=dict(batch))).items())
        told = []
        with outages.noting("guesses are told once the cache takes what is noted of them"):
            while left:
                if cache.add(_mark(left[-1][1][0]), True, TOLD_EVERY):
                    told.append(left[-1])
                left.pop()
        for _pk, (identifier, _groups) in left:
            self.note(identifier)
        try:
            with transaction.atomic(), by_itself():
                for pk, (identifier, groups) in told:
                    Event.objects.record(
                        Kind.CREDENTIAL_GUESSED,
                        {"device": {"id": pk, "identifier": identifier}},
                        groups=groups,
                    )
        except BaseException:
            with outages.noting("guesses are told once their marks have ended"):
                cache.delete_many([_mark(identifier) for _pk, (identifier, _groups) in told])
            raise


def _mark(identifier: str) -> str:
    return f"guessed:{hashlib.sha256(identifier.encode(errors='surrogatepass')).hexdigest()}"


worker = GuessWorker()
