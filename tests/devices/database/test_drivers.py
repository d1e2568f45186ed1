"""The low-level names that `drivers`, `deadlines` and `slots` use, and what is relied on.

Each test fails when a library changes what stands behind one of them.
"""

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from django.db import DatabaseError, OperationalError, connection

from devices.database import deadlines, drivers
from devices.database.deadlines import Overdue
from devices.database.statements import Statement, execute
from devices.database.write_behind import cannot_write

MOMENT = datetime(2026, 6, 1, 12, 30, 0, 125, tzinfo=UTC)

needs_postgres = pytest.mark.skipif("connection.vendor == 'sqlite'", reason="psycopg's names")
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def driver() -> Iterator[Any]:
    connection.close()
    connection.connect()
    yield connection.connection
    connection.close()


def test_values_go_out_and_come_back_as_they_were() -> None:
    texts = ["plain", 'quo"te', "back\\slash", "{a,b}", "", "ü", " "]
    if connection.vendor == "sqlite":
        rows = Statement("SELECT value, %s FROM json_each(%s)").rows(7, texts)
        assert rows == [(text, 7) for text in texts]
        return
    statement = Statement("SELECT unnest(%s::text[]), %s::timestamptz, %s::bool, %s::int, %s::text")
    rows = statement.rows(texts, MOMENT, True, 7, None)
    assert rows == [(text, MOMENT, True, 7, None) for text in texts]
    assert rows == statement.rows(texts, MOMENT, True, 7, None)


@needs_postgres
def test_a_text_with_nul_is_no_other_text(driver: Any) -> None:
    with pytest.raises(psycopg.DataError):
        drivers._for_postgres("one\x00two")


@needs_postgres
def test_a_statement_is_named_by_its_text(driver: Any) -> None:
    first, second = Statement("SELECT 1 + %s::int"), Statement("SELECT 2 + %s::int")
    for _ in range(2):
        assert (first.rows(1), second.rows(1)) == ([(2,)], [(3,)])
    named = "SELECT name, statement FROM pg_prepared_statements ORDER BY statement"
    before = dict(driver.execute(named).fetchall())
    assert len(before) == 2
    connection.close()
    assert second.rows(1) == [(3,)]
    after = dict(connection.connection.execute(named).fetchall())
    assert after.items() <= before.items()


@needs_postgres
@pytest.mark.parametrize("pooler", ["another server knows it", "this server does not"])
def test_a_pooler_may_hand_on_another_server(pooler: str, driver: Any) -> None:
    statement = Statement("SELECT 1 + %s::int")
    if pooler == "another server knows it":
        name = drivers.Prepared("SELECT 1 + %s::int").name.decode()
        driver.execute(f"PREPARE {name} (int) AS SELECT 1 + $1")
    else:
        statement.rows(1)
        driver.execute("DEALLOCATE ALL")
    assert statement.rows(1) == [(2,)]


@needs_postgres
def test_without_prepared_statements_none_is_made(driver: Any) -> None:
    driver.prepare_threshold = None
    assert Statement("SELECT 1 + %s::int").rows(1) == [(2,)]
    assert driver.execute("SELECT count(*) FROM pg_prepared_statements").fetchone() == (0,)


@needs_postgres
def test_an_error_is_one_of_djangos(driver: Any) -> None:
    driver.execute("SET statement_timeout = 100")
    with pytest.raises(OperationalError, match="statement timeout"):
        Statement("SELECT pg_sleep(%s)::text").rows(5)
    assert connection.connection is driver, "the connection is as good as before"


@needs_postgres
@pytest.mark.parametrize(
    ("setting", "statement"),
    [
        ("SET default_transaction_read_only = on", "UPDATE devices_device SET name = name"),
        (None, "DO $$ BEGIN RAISE 'on the way' USING ERRCODE = '57Z99'; END $$"),
    ],
    ids=["a standby, which only reads", "a code that psycopg does not know"],
)
def test_a_writer_learns_that_it_has_to_wait(
    driver: Any, setting: str | None, statement: str
) -> None:
    if setting:
        driver.execute(setting)
    with pytest.raises(DatabaseError) as caught:
        execute(connection, statement, [])
    assert cannot_write(caught.value)


@needs_postgres
def test_what_is_overdue_fails_and_is_not_asked_again(driver: Any) -> None:
    began = time.monotonic()
    with pytest.raises(OperationalError, match=r"within 0\.2 s"):
        execute(connection, "SELECT pg_sleep(%s)::text", [5], 0.2)
    assert time.monotonic() - began < 3
    assert connection.connection is None
    assert Statement("SELECT 1 + %s::int").rows(1) == [(2,)]


@needs_postgres
def test_a_deadline_leaves_others_of_its_connection_alone(driver: Any) -> None:
    with deadlines.Deadline(driver, 5):
        with deadlines.Deadline(driver, 5):
            pass
        assert driver.execute("SELECT 1").fetchone() == (1,)


@needs_postgres
def test_a_cursor_has_a_deadline_too(driver: Any) -> None:
    with (
        connection.execute_wrapper(deadlines.guard(0.2)),
        connection.cursor() as cursor,
        pytest.raises(OperationalError) as caught,
    ):
        cursor.execute("SELECT pg_sleep(5)")
    assert isinstance(caught.value.__cause__, Overdue)
    assert driver.closed
