"""A standby's state stayed the same after a commit, so a decision saw half of a change there.

PostgreSQL's snapshot is the state that both statements of a decision must see. Taken by a standby,
it names no transaction that is under way: where an older one is, and a later one has ended, a
commit between the two leaves it as it was (CWE-367, time of check to time of use).
"""

import time

import psycopg
import pytest

from devices.database.statements import Statement
from drills.nodes import Node, cluster

pytestmark = pytest.mark.once(on="processes")
PATIENCE = 10  # seconds
STATE = Statement("SELECT {state}, pg_current_snapshot()::text FROM {each} AS one").sql


def shown(standby: Node) -> tuple[list[int], tuple[str, str]]:
    """Return the numbers that a standby shows, its state, and its snapshot alone."""
    numbers = [row[0] for row in standby.execute("SELECT n FROM numbers ORDER BY n")]
    ((state, snapshot),) = standby.execute(STATE["postgresql"].replace("%s", "'{one}'"))
    return numbers, (state, snapshot)


def shown_with(number: int, standby: Node) -> tuple[str, str]:
    """Return what `shown` does of the states, once the standby shows a number."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        numbers, states = shown(standby)
        if number in numbers:
            return states
        time.sleep(0.05)
    raise AssertionError(f"the standby does not show {number}")


def test_a_commit_that_the_snapshot_does_not_tell_is_another_state() -> None:
    with cluster(1) as nodes:
        (standby,) = nodes.standbys
        nodes.primary.execute("CREATE TABLE numbers (n int)")
        oldest, between, last = (psycopg.connect(nodes.primary.url()) for _ in range(3))
        with oldest, between, last:
            for number, one in enumerate((oldest, between, last)):
                one.execute("INSERT INTO numbers VALUES (%s)", [number])
            last.commit()
            before = shown_with(2, standby)
            assert shown(standby)[1] == before
            between.commit()
            after = shown_with(1, standby)
        assert before[1] == after[1]  # or this shows nothing
        assert before[0] != after[0]
