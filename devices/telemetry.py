"""What a request is called, and what the machine paths report of themselves.

`authsite.operations` sets the id of each request. Nobody listens to the reports unless
METRICS_PORT or METRICS_NETWORKS is set; then `authsite.operations.metrics` calls `watch`.
"""

from contextvars import ContextVar
from typing import Literal

MAX_REQUEST_ID_LENGTH = 64
# Of the request that the running code works on, as its answer and its log lines have it.
request_id: ContextVar[str] = ContextVar("request_id", default="")

Wait = Literal["slot", "hash"]
Source = Literal["primary", "standby"]


class Telemetry:
    """Listens to nothing; what takes its place counts. Called in the threads of requests."""

    def called(self, endpoint: str, question: str, reason: str) -> None:
        """Take note of a question that was answered."""

    def timed(self, endpoint: str, seconds: float) -> None:
        """Take note of how long a request took, its body included."""

    def waited(self, kind: Wait, seconds: float) -> None:
        """Take note of a wait for a slot, or for the turn of a hash."""

    def turned_away(self, kind: Wait) -> None:
        """Take note of a request that waited for long enough."""

    def database_failed(self, alias: str) -> None:
        """Take note of a question that a database did not answer."""

    def answered_by(self, source: Source) -> None:
        """Take note of which database a question was put to, where there are two."""


NOBODY = Telemetry()
listener = NOBODY


def watch(telemetry: Telemetry) -> None:
    """Report to `telemetry` from now on."""
    global listener  # noqa: PLW0603 - one a process
    listener = telemetry
