"""A device and the rule about its group changed together; a decision saw half of it, and allowed.

One statement finds the groups, another the rules. Of what was committed between the two, the second
saw the whole: no rule was left for the groups of before (CWE-367, time of check to time of use).
On SQLite both are in one transaction; on PostgreSQL what was read first is read again.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.db import DEFAULT_DB_ALIAS, DatabaseError, OperationalError, connection, connections
from django.utils import timezone

from acl.engine import decisions
from acl.engine.decisions import MAX_ROUNDS, Decision, Reason, Request
from acl.models import CommandPermission
from devices.database import drivers
from devices.database.in_loop import LoopAsker
from devices.database.slots import Slots
from devices.database.statements import Statement, answered, one_state

pytestmark = pytest.mark.django_db(transaction=True)

Run = Callable[..., Any]


@pytest.fixture
def run() -> Iterator[Run]:
    """Return what runs statements in one transaction of another session."""
    own = connection.settings_dict
    if connection.vendor == "sqlite":
        other: Any = sqlite3.connect(own["NAME"], uri=True)
    else:
        url = {"host": own["HOST"], "port": own["PORT"], "user": own["USER"]}
        other = psycopg.connect(dbname=own["NAME"], password=own["PASSWORD"], **url)

    def run_all(*statements: str) -> None:
        for one in statements:
            other.execute(one)
        other.commit()

    with closing(other):
        yield run_all


@contextmanager
def in_file(path: Path) -> Iterator[None]:
    """Have SQLite's registry in a file, as it is in use: in memory, who reads keeps writers out."""
    if connection.vendor == "sqlite":
        in_memory = connections[DEFAULT_DB_ALIAS]
        with in_memory.cursor() as cursor:
            cursor.execute("VACUUM INTO %s", [str(path)])
        connections[DEFAULT_DB_ALIAS] = own = in_memory.copy()
        own.settings_dict = {**in_memory.settings_dict, "NAME": str(path)}
        yield
        own.close()
        connections[DEFAULT_DB_ALIAS] = in_memory
    else:
        yield


def decide(between: Callable[[], None]) -> tuple[Decision, int]:
    """Return a decision, with something done after each query, and their number."""
    request = Request("lamp", "wall", "/v1/Config.Get")
    steps = decisions.find_decisions([request], now=timezone.now(), vendor=connection.vendor)
    query, asked = next(steps), 1
    with one_state() if connection.vendor == "sqlite" else nullcontext():
        while True:
            rows = query.statement.rows(*query.values)
            between()
            try:
                query = steps.send(rows)
            except StopIteration as end:
                return end.value[0], asked
            asked += 1


@pytest.fixture(params=[decisions.MAX_COMBINATIONS, 0], ids=["few", "many"])
def moved(
    request: Any,
    monkeypatch: pytest.MonkeyPatch,
    make_device: Any,
    make_group: Any,
    tmp_path: Path,
) -> Iterator[Iterator[list[str]]]:
    """Yield moves of a device to the other group, with the denial that is about its own."""
    monkeypatch.setattr(decisions, "MAX_COMBINATIONS", request.param)
    one, two = make_group("one"), make_group("two")
    lamp, wall = make_device("lamp"), make_device("wall")
    lamp.groups.set([one])
    about: Any = {"destination_kind": "device", "destination_device": wall, "pattern": "/v1/*"}
    CommandPermission.objects.create(effect="allow", source_kind="everyone", **about)
    denial = CommandPermission.objects.create(
        effect="deny", source_kind="group", source_group=one, **about
    )
    moves = cycle(
        [
            f"UPDATE devices_device_groups SET devicegroup_id = {group.pk}",
            f"UPDATE acl_commandpermission SET source_group_id = {group.pk} WHERE id = {denial.pk}",
        ]
        for group in (two, one)
    )
    with in_file(tmp_path / "registry.sqlite3"):
        yield moves


def once(run: Run, *statements: str) -> Callable[[], None]:
    """Return what runs the statements when it is called first, and then nothing."""
    left = [statements]
    return lambda: run(*left.pop()) if left else None


def test_what_changes_between_two_statements_is_seen_whole(
    moved: Iterator[list[str]], run: Run
) -> None:
    decision, _asked = decide(once(run, *next(moved)))
    assert decision.reason is Reason.DENIED


def test_what_concerns_nobody_costs_a_statement_more(moved: Iterator[list[str]], run: Run) -> None:
    touch = "UPDATE devices_device SET name = 'Lamp' WHERE identifier = 'lamp'"
    decision, asked = decide(once(run, touch))
    assert (decision.reason, asked) == (Reason.DENIED, 2 if connection.vendor == "sqlite" else 3)
    assert decide(lambda: None)[1] == 2


@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite is asked two statements")
def test_the_loop_sees_one_state_by_one_statement(moved: Iterator[list[str]], run: Run) -> None:
    request = Request("lamp", "wall", "/v1/Config.Get")
    for _ in range(4):
        steps = decisions.find_decisions_by_request([request], vendor=connection.vendor)
        query = next(steps)
        rows = query.statement.rows(*query.values)
        run(*next(moved))
        with pytest.raises(StopIteration) as end:
            steps.send(rows)
        assert end.value.value[request].reason is Reason.DENIED


@pytest.mark.skipif(connection.vendor != "sqlite", reason="a transaction by Django begins it")
def test_a_transaction_that_cannot_begin_is_an_error_of_django(
    moved: Iterator[list[str]],
) -> None:
    connection.ensure_connection()
    connection.connection.close()
    with pytest.raises(DatabaseError), one_state():
        pass
    connection.close()


@pytest.mark.skipif(connection.vendor == "sqlite", reason="SQLite is asked in a transaction")
def test_the_loop_sees_one_state_where_rules_are_too_many_for_one_statement(
    moved: Iterator[list[str]], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decisions, "MAX_RULES_AT_ONCE", 1)
    known = dict(decisions.statements_in_loop("postgresql"))
    move, plain = once(run, *next(moved)), Statement.rows

    def rows(statement: Statement, *values: object) -> Any:
        assert statement in known
        found = plain(statement, *values)
        move()
        return found

    monkeypatch.setattr(Statement, "rows", rows)
    request = Request("lamp", "wall", "/v1/Config.Get")
    found = answered(decisions.find_decisions_by_request([request], vendor="postgresql"))
    assert found[request].reason is Reason.DENIED


@pytest.mark.skipif(connection.vendor != "sqlite", reason="PostgreSQL is asked one statement")
def test_the_loop_asks_sqlite_in_one_transaction(
    moved: Iterator[list[str]], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = Request("lamp", "wall", "/v1/Valve.Open")
    own = Slots(1, max_wait=1.0).another(DEFAULT_DB_ALIAS)
    own.settings_dict = connection.settings_dict  # of the file
    ask_all = partial(decisions.find_decisions_by_request, vendor="sqlite")
    asker = LoopAsker(own, ask_all, decisions.statements_in_loop("sqlite"))

    async def ask() -> Decision:
        while (found := await asker.ask([request])) is None:  # until its connection is open
            await asyncio.sleep(0.01)
        return found[request]

    async def ask_often() -> list[Decision]:
        await ask()
        plain = drivers.run

        def run_and_move(*args: Any) -> Any:
            rows = plain(*args)
            run(*next(moved))
            return rows

        monkeypatch.setattr(drivers, "run", run_and_move)
        return [await ask() for _ in range(3)]

    monkeypatch.setattr(decisions, "MAX_COMBINATIONS", 2_000)  # else a thread is asked
    with closing(own):
        assert {one.reason for one in asyncio.run(ask_often())} == {Reason.DENIED}


@pytest.mark.skipif(connection.vendor == "sqlite", reason="SQLite is asked in a transaction")
def test_what_changes_all_the_time_is_no_answer(moved: Iterator[list[str]], run: Run) -> None:
    with pytest.raises(OperationalError, match="too often"):
        decide(lambda: run(*next(moved)))
    assert MAX_ROUNDS > 2


def test_what_changes_all_the_time_is_read_in_one_transaction(
    moved: Iterator[list[str]], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = Statement.rows

    def rows(*args: Any, **options: Any) -> Any:
        found = plain(*args, **options)
        run(*next(moved))
        return found

    monkeypatch.setattr(Statement, "rows", rows)
    decision = decisions.decide("lamp", "wall", "/v1/Config.Get", now=timezone.now())
    assert decision.reason is Reason.DENIED
