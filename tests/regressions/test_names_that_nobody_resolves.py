"""A question waited 10 s for the address of the database, where no name server answered.

A public report of this kind: https://github.com/PostHog/posthog/pull/67238.
"""

import asyncio
import socket
import threading
from concurrent.futures import wait
from typing import Any

import psycopg
import pytest
import redis

from devices.database import names
from devices.database.cache import ConnectionPool
from devices.database.postgresql import base
from rpc.rtio.session_ending import MAX_PER_SERVER, SessionEnder

pytestmark = pytest.mark.once(on="postgres")

NAMED = {"host": "db.example", "port": "5432", "dbname": "authsite"}


@pytest.fixture(autouse=True)
def _nothing_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "_under_way", {})


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Return the addresses that the system's resolver knows; it fails for other names."""
    known: dict[str, list[str]] = {}

    def getaddrinfo(name: str, *_: Any, **__: Any) -> list[Any]:
        if name not in known:
            raise socket.gaierror(-2, "Name or service not known")
        return [(None, None, None, "", (address, 0)) for address in known[name]]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return known


def test_a_name_server_that_does_not_answer_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    is_over = threading.Event()
    asked: list[str] = []

    def getaddrinfo(name: str, *_: Any, **__: Any) -> list[Any]:
        asked.append(name)
        is_over.wait(10)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(base, "LOOKUP_SECONDS", 0.05)
    monkeypatch.setattr(names, "SHARED_FOR", 0.0)
    monkeypatch.setattr(names, "MAX_UNFINISHED", 2)
    try:
        for _ in range(3):  # the second is too late to share the first one's thread, not the third
            with pytest.raises(psycopg.OperationalError, match=r"'db.example' .* within 0.05 s"):
                base.with_addresses(NAMED)
    finally:
        is_over.set()
    assert asked == ["db.example", "db.example"]


@pytest.mark.parametrize("failing", ["threading.Thread.start", "socket.getaddrinfo"])
def test_whoever_waits_is_told_what_failed(monkeypatch: pytest.MonkeyPatch, failing: str) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(failing, fail)
    with pytest.raises(psycopg.OperationalError, match=r"'db.example' is not known: can't start"):
        base.with_addresses(NAMED)


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        (NAMED, {**NAMED, "hostaddr": "192.0.2.1"}),
        ({"host": "db.example"}, {"host": "db.example", "hostaddr": "192.0.2.1"}),  # or of PGPORT
        (
            {"host": "a,10.0.0.7,two", "port": "1,2,3"},
            {"host": "10.0.0.7,two,two", "hostaddr": "10.0.0.7,192.0.2.2,::2", "port": "2,3,3"},
        ),
        (
            {"host": "two,/run", "port": 5},
            {"host": "two,two,/run", "hostaddr": "192.0.2.2,::2,", "port": "5,5,5"},
        ),
    ],
)
def test_addresses_stand_beside_the_names(
    resolver: dict[str, list[str]], parameters: dict[str, Any], expected: dict[str, Any]
) -> None:
    resolver |= {"db.example": ["192.0.2.1", "192.0.2.1"], "two": ["192.0.2.2", "::2"]}
    assert base.with_addresses(parameters) == expected


@pytest.mark.parametrize(
    "parameters",
    [{}, {"host": ""}, {"host": "/run"}, {"host": "::1,10.0.0.7"}, {**NAMED, "hostaddr": "::1"}],
)
def test_what_has_no_name_is_left_alone(parameters: dict[str, Any]) -> None:
    assert base.with_addresses(parameters) is parameters


def test_without_any_address_the_name_is_said(resolver: dict[str, list[str]]) -> None:
    with pytest.raises(psycopg.OperationalError, match=r"'db.example' is not known: .*not known"):
        base.with_addresses(NAMED)


def test_a_cache_s_name_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guesses waited for it in all slots, and right chosen secrets were refused after 1 to 10 s."""
    is_over = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [is_over.wait(10)][1:])
    pool = ConnectionPool.from_url("redis://cache.example", socket_connect_timeout=0.05)
    try:
        with pytest.raises(redis.ConnectionError, match=r"no name server answered within 0.05 s"):
            pool.get_connection()
    finally:
        is_over.set()


def test_a_name_that_hangs_holds_up_no_attempt_at_another_host(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An event loop looks up six names at once on two cores, and RTIO servers wait in one loop."""
    is_over = threading.Event()

    def getaddrinfo(name: str, *_: Any, **__: Any) -> list[Any]:
        if name.startswith("hanging"):
            is_over.wait(10)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    worker = SessionEnder()
    loop = worker._event_loop()
    hanging = [
        asyncio.run_coroutine_threadsafe(loop.getaddrinfo(f"hanging{server}.example", 1), loop)
        for server in range(13)
        for _ in range(MAX_PER_SERVER)
    ]
    try:
        other = asyncio.run_coroutine_threadsafe(loop.getaddrinfo("rtio.example", 1), loop)
        assert other.result(2) == []
    finally:
        is_over.set()
        wait(hanging)
        worker.end_loop()
