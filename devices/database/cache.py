"""Connections to Valkey or Redis (CACHE_URL), whose name is looked up for no longer than they wait.

The library bounds how long it connects and waits for an answer, but not how long it asks the
system's resolver for the name: 10 s and more where name servers do not answer.
"""

from typing import Any

import redis

from devices.database.names import look_up


class ConnectionPool(redis.ConnectionPool):
    """Connections that fail where the address of their host is not known in time."""

    def __init__(self, connection_class: type[Any] = redis.Connection, **options: Any) -> None:
        super().__init__(connection_class=_bounded(connection_class), **options)


def _bounded(kind: type[Any]) -> type[Any]:
    class Bounded(kind):  # type: ignore[misc]
        def connect_check_health(self, *args: Any, **options: Any) -> None:
            if not self.is_connected and (host := getattr(self, "host", "")):  # a socket has none
                found = look_up([host], self.socket_connect_timeout).get(host)
                if isinstance(found, OSError):
                    raise redis.ConnectionError(str(found)) from found
            super().connect_check_health(*args, **options)

    return Bounded
