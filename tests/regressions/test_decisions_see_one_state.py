"""A device and the rule about its group changed together; a decision saw half of it, and allowed.

One statement finds the groups, another the rules. Of what was committed between the two, the second
saw the whole: no rule was left for the groups of before (CWE-367, time of check to time of use).
"""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import cycle
from typing import Any

import psycopg
import pytest
from django.db import OperationalError, connection
from django.utils import timezone

from acl.engine import decisions
from acl.engine.decisions import MAX_ROUNDS, Decision, Reason, Request
from acl.models import CommandPermission
from devices.database.statements import Statement

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


def decide(between: Callable[[], None]) -> tuple[Decision, int]:
    """Return a decision, with something done after each query but the last, and their number."""
    request = Request("lamp", "wall", "/v1/Config.Get")
    steps = decisions.find_decisions([request], now=timezone.now(), vendor=connection.vendor)
    query, asked = next(steps), 1
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
    request: Any, monkeypatch: pytest.MonkeyPatch, make_device: Any, make_group: Any
) -> Iterator[list[str]]:
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
    return cycle(
        [
            f"UPDATE devices_device_groups SET devicegroup_id = {group.pk}",
            f"UPDATE acl_commandpermission SET source_group_id = {group.pk} WHERE id = {denial.pk}",
        ]
        for group in (two, one)
    )


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
    assert (decision.reason, asked) == (Reason.DENIED, 3)
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
        if connection.vendor == "postgresql" or not connection.in_atomic_block:
            run(*next(moved))  # SQLite has one writer, and a transaction is one
        return found

    monkeypatch.setattr(Statement, "rows", rows)
    decision = decisions.decide("lamp", "wall", "/v1/Config.Get", now=timezone.now())
    assert decision.reason is Reason.DENIED
