"""Of several hosts, one that hangs is left out: it takes connections, and answers nothing."""

from typing import Any

import psycopg
import pytest

from devices.database import deadlines
from devices.database.postgresql import base

THREE = {"host": "a,b,c", "port": "5432,,5434", "dbname": "authsite"}


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the moment that it is, in a process that has seen nothing yet."""
    now = [1000.0]
    monkeypatch.setattr(base.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(base.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    monkeypatch.setattr(deadlines, "overdue", {})
    monkeypatch.setattr(base, "_opened", {})
    monkeypatch.setattr(base, "_try_all_at", 0.0)
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


def tried() -> str:
    return str(base.without_hung(THREE)["host"])


def test_a_host_that_hangs_is_left_out_and_tried_once_a_second(clock: list[float]) -> None:
    assert base.without_hung(THREE) is THREE
    deadlines.overdue["b", 5432] = clock[0] = 1001.0
    assert [tried(), tried(), tried()] == ["a,b,c", "a,c", "a,c"]
    assert base.without_hung(THREE)["port"] == "5432,5434"
    clock[0] += base.TRIED_EVERY
    assert [tried(), tried()] == ["a,b,c", "a,c"]


@pytest.mark.parametrize("ends", ["it took a connection", "a minute is over"])
def test_it_comes_back(clock: list[float], ends: str) -> None:
    deadlines.overdue["b", 5432] = clock[0] = 1001.0
    assert [tried(), tried()] == ["a,b,c", "a,c"]
    if ends == "it took a connection":
        base._opened["b", 5432] = 1001.5
    else:
        clock[0] += base.LEFT_OUT + 1
    assert [tried(), tried()] == ["a,b,c", "a,b,c"]


def test_where_all_hang_all_are_tried(clock: list[float]) -> None:
    deadlines.overdue.update(dict.fromkeys(base.hosts_of(THREE), clock[0]))
    assert base.without_hung(THREE) is THREE


@pytest.mark.parametrize("promoted", [1000.45, None])
def test_it_waits_a_while_for_another_host_to_take_writes(
    clock: list[float], monkeypatch: pytest.MonkeyPatch, promoted: float | None
) -> None:
    deadlines.overdue["a", 5432] = clock[0]
    assert tried() == "a,b,c", "another connection is waiting for it"
    monkeypatch.setattr(base, "TRIED_EVERY", 100.0)
    monkeypatch.setattr(base, "_try_all_at", 2000.0)

    def connect(_self: object, parameters: dict[str, Any]) -> str:
        assert parameters["host"] == "b,c"
        if promoted is None or clock[0] < promoted:
            raise psycopg.OperationalError("session is read-only")
        return "a connection"

    monkeypatch.setattr(base.base.DatabaseWrapper, "get_new_connection", connect)
    wrapper = object.__new__(base.DatabaseWrapper)
    if promoted is None:
        with pytest.raises(psycopg.OperationalError):
            wrapper._driver(THREE)
        assert clock[0] == pytest.approx(1000 + base.PATIENCE, abs=0.3)
    else:
        assert wrapper._driver(THREE) == "a connection"
        assert clock[0] == pytest.approx(promoted, abs=0.11)
