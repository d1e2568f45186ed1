"""Django's SQLite backend, whose transactions wait for the one writer in short steps.

SQLite's own wait looks again after 1 ms, 2 ms, and at last every 100 ms. Beside those who began to
wait later it came too late each time, until its time was over.
"""

import random
import time

from django.db import OperationalError
from django.db.backends.sqlite3 import base

from devices.database.conflicts import is_locked

AGAIN = (0.002, 0.01)  # seconds between two attempts, by chance


class DatabaseWrapper(base.DatabaseWrapper):
    """A connection on which each transaction that begins has an equal chance to be next."""

    def _start_transaction_under_autocommit(self) -> None:
        """Begin; raises OperationalError where others write for all of the `timeout`."""
        seconds = self.settings_dict["OPTIONS"]["timeout"]
        end = time.monotonic() + seconds
        self.connection.execute("PRAGMA busy_timeout = 0")
        try:
            while True:
                try:
                    super()._start_transaction_under_autocommit()  # type: ignore[misc]
                    break
                except OperationalError as error:
                    if not is_locked(error) or time.monotonic() > end:
                        raise
                time.sleep(random.uniform(*AGAIN))  # noqa: S311 - no secret
        finally:
            self.connection.execute(f"PRAGMA busy_timeout = {seconds * 1000:.0f}")
