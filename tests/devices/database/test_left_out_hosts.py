"""Of several hosts, one that hangs is left out: it takes connections, and answers nothing."""

from typing import Any

import psycopg
import pytest
from django.db.backends.postgresql.base import DatabaseWrapper

from devices.database import deadlines
from devices.database.postgresql import base

pytestmark = pytest.mark.once(on="sqlite")

THREE = {"host": "a,b,c", "port": "5432,,5434", "dbname": "authsite"}


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the moment that it is, in a process that has seen nothing yet."""
    now = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    monkeypatch.setattr("time.sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    monkeypatch.setattr(deadlines, "overdue", {})
    monkeypatch.setattr(base, "_opened", {})
    monkeypatch.setattr(base, "_try_all_at", 0.0)
    monkeypatch.setattr(base, "with_addresses", lambda parameters: parameters)
    return now


@pytest.mark.parametrize(
    ("parameters", "hosts"),
    [
        (THREE, [("a", 5432), ("b", 5432), ("c", 5434)]),
        ({"host": "a,b", "port": 6432}, [("a", 6432), ("b", 6432)]),
        ({"host": "a,b"}, [("a", 5432), ("b", 5432)]),
        ({"host": "a", "port": "5432"}, []),
        ({"host": ""}, []),
        ({}, []),
    ],
)
def test_hosts_are_read_as_libpq_reads_them(parameters: Any, hosts: list[Any]) -> None:
    assert base.hosts_of(parameters) == hosts


@pytest.mark.parametrize("ends", ["it took a connection", "a minute is over"])
def test_a_host_that_hangs_is_left_out_for_a_while(clock: list[float], ends: str) -> None:
    assert base.without_hung(THREE) is THREE
    deadlines.overdue["b", 5432] = clock[0] = 1001.0
    assert base.without_hung(THREE) == {**THREE, "host": "a,c", "port": "5432,5434"}
    if ends == "it took a connection":
        base._opened["b", 5432] = 1001.5
    else:
        clock[0] += base.LEFT_OUT + 1
    assert base.without_hung(THREE) is THREE


def test_where_all_hang_none_is_left_out(clock: list[float]) -> None:
    deadlines.overdue.update(dict.fromkeys(base.hosts_of(THREE), clock[0]))
    assert base.without_hung(THREE) is THREE


def connections_tried(
    monkeypatch: pytest.MonkeyPatch, clock: list[float], promoted: float = float("inf")
) -> tuple[str, list[str]]:
    """Return the host that a new connection leads to, and which were tried each time."""
    tried: list[str] = []

    def connect(_self: object, parameters: dict[str, Any]) -> str:
        tried.append(parameters["host"])
        if clock[0] < promoted:
            raise psycopg.OperationalError("session is read-only")
        return "b"

    monkeypatch.setattr(DatabaseWrapper, "get_new_connection", connect)
    try:
        return object.__new__(base.DatabaseWrapper)._driver(THREE), tried
    except psycopg.OperationalError:
        return "", tried


def test_one_connection_a_second_tries_all(
    clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert connections_tried(monkeypatch, clock) == ("", ["a,b,c"])
    deadlines.overdue["a", 5432] = clock[0]
    assert connections_tried(monkeypatch, clock) == ("", ["a,b,c"])
    host, tried = connections_tried(monkeypatch, clock, promoted=clock[0])
    assert (host, tried) == ("b", ["b,c"])
    clock[0] += base.TRIED_EVERY
    assert connections_tried(monkeypatch, clock) == ("", ["a,b,c"])


@pytest.mark.parametrize(("after", "host"), [(0.45, "b"), (9.0, "")])
def test_others_wait_a_while_for_another_host_to_take_writes(
    clock: list[float], monkeypatch: pytest.MonkeyPatch, after: float, host: str
) -> None:
    deadlines.overdue["a", 5432] = clock[0]
    connections_tried(monkeypatch, clock)
    began = clock[0]
    found, tried = connections_tried(monkeypatch, clock, promoted=began + after)
    assert found == host
    assert set(tried) == {"b,c"}, "it waits for none that hangs"
    assert clock[0] - began == pytest.approx(min(after, base.PATIENCE), abs=base.AGAIN * 2)
