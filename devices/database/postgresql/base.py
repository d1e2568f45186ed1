"""Django's PostgreSQL backend, whose commits wait for standbys no longer than CONFIRM_SECONDS."""

import time
from typing import Any

from django.db.backends.postgresql import base

from devices.database import confirmation, deadlines


class DatabaseWrapper(base.DatabaseWrapper):
    """A connection that says when a commit was not confirmed by every standby in time."""

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        """Connect, and listen for the server's word that a commit waited in vain."""
        driver = super().get_new_connection(deadlines.overdue_last(conn_params))
        self.opened, self.server = time.monotonic(), deadlines.connected(driver)
        driver.add_notice_handler(confirmation.hear)
        return driver

    def commit(self) -> None:
        """Commit; what the primary has committed stays, confirmed or not."""
        with confirmation.bounded(self.connection):
            super().commit()
