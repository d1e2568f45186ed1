"""Give up a connection whose server does not answer in time.

`tcp_user_timeout` notices a server that is gone, and `statement_timeout` one that works too long.
A server whose processes are frozen while its kernel still acknowledges is noticed by neither: one
thread of each process watches what is being asked and shuts down the socket of what is overdue,
so that whoever waits for it fails at once.
"""

import contextlib
import itertools
import os
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, Self
from weakref import WeakKeyDictionary

import psycopg
from django.db import OperationalError

SECONDS = 1.5  # for a question of the machine endpoints: RTIO waits 5 s in all
INTERVAL = 0.2  # seconds between two looks

Server = tuple[str, int]  # host and port

# By server: when it last kept a question waiting for too long, on this clock. Connections that were
# opened before lead to a server that stands still.
overdue: dict[Server, float] = {}
_servers: WeakKeyDictionary["psycopg.Connection[Any]", Server] = WeakKeyDictionary()
# By the number of a deadline: when a driver must have answered, on this clock, and the driver. It
# may be asked again before the watcher has looked at all of them.
_due: dict[int, tuple[float, Any]] = {}
_numbers = itertools.count()
_lock = threading.Lock()
_watcher: threading.Thread | None = None


class Overdue(psycopg.OperationalError):
    """The database did not answer in time."""


class Deadline:
    """`with Deadline(driver):` fails with Overdue where the block takes too long."""

    __slots__ = ("_driver", "_number", "_seconds")

    def __init__(self, driver: "psycopg.Connection[Any]", seconds: float = SECONDS) -> None:
        self._driver = driver
        self._number = next(_numbers)
        self._seconds = seconds

    def __enter__(self) -> Self:
        if _watcher is None:
            _watch()
        _due[self._number] = (time.monotonic() + self._seconds, self._driver)
        return self

    def __exit__(self, *_error: object) -> None:
        if _due.pop(self._number, None) is None:
            note_overdue(self._driver)
            with _lock:  # its socket is being shut down: nothing may close it meanwhile
                raise Overdue(f"the database did not answer within {self._seconds:g} s")


def connected(driver: "psycopg.Connection[Any]") -> Server:
    """Take note of a new connection, and return where it leads."""
    _servers[driver] = server = driver.info.host, driver.info.port
    return server


def note_overdue(driver: "psycopg.Connection[Any]") -> None:
    """Take note that the server of a connection did not answer in time."""
    if (server := _servers.get(driver)) is not None:
        overdue[server] = time.monotonic()


def guard(seconds: float) -> Callable[..., Any]:
    """Return a wrapper for `connection.execute_wrapper` that puts a deadline on what it runs."""

    def run(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        driver = context["connection"].connection
        if not isinstance(driver, psycopg.Connection):
            return execute(sql, params, many, context)
        try:
            with Deadline(driver, seconds):
                return execute(sql, params, many, context)
        except Overdue as error:
            raise OperationalError(*error.args) from error

    return run


def _watch() -> None:
    global _watcher  # noqa: PLW0603 - one a process
    with _lock:
        if _watcher is None:
            _watcher = threading.Thread(target=_run, name="deadlines", daemon=True)
            _watcher.start()


def _run() -> None:
    while True:
        time.sleep(INTERVAL)
        now = time.monotonic()
        for number, (moment, driver) in list(_due.items()):
            if now > moment:
                with _lock:
                    if _due.pop(number, None) is not None:
                        _shut(driver)


def _shut(driver: "psycopg.Connection[Any]") -> None:
    with (
        contextlib.suppress(OSError, psycopg.Error),  # it is closed already
        socket.socket(fileno=os.dup(driver.fileno())) as connection,
    ):
        connection.shutdown(socket.SHUT_RDWR)
