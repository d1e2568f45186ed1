"""The event loop asks without waiting, shares statements, and hands back what it cannot ask."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import psycopg
import pytest
from django.db import DEFAULT_DB_ALIAS, OperationalError, connection

from devices.database import answers, deadlines, in_loop
from devices.database.answers import Heartbeats, Standby
from devices.database.in_loop import LoopAsker, StandbyAsker
from devices.database.slots import Slots
from devices.database.statements import Statement
from devices.models import DeviceGroup

PATIENCE = 10.0  # seconds
NAMES = Statement("SELECT name, description FROM devices_devicegroup WHERE name {among}")
Asker = LoopAsker[str]

needs_postgres = pytest.mark.skipif(
    "connection.vendor == 'sqlite'", reason="a file neither freezes nor ends connections"
)
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def asker(monkeypatch: pytest.MonkeyPatch) -> Iterator[Asker]:
    monkeypatch.setattr(in_loop, "PAUSE", 0.0)
    slots = Slots(1, max_wait=1.0)
    opened = slots.another(DEFAULT_DB_ALIAS)
    yield LoopAsker(opened, NAMES, dict, "nothing")
    opened.close()


def run(asker: Asker, body: Callable[[], Awaitable[None]]) -> None:
    """Run in a loop once the asker has its connection."""

    async def opened() -> None:
        while await asker.ask("any") is None:
            await asyncio.sleep(0.01)
        await body()

    asyncio.run(asyncio.wait_for(opened(), PATIENCE))


def test_questions_of_one_turn_share_a_statement(
    asker: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    DeviceGroup.objects.create(name="one", description="first")
    DeviceGroup.objects.create(name="two", description="second")
    asked: list[list[Any]] = []

    def answers_of(rows: list[Any]) -> dict[str, str]:
        asked.append(rows)
        return dict(rows)

    async def body() -> None:
        monkeypatch.setattr(asker, "_answers_of", answers_of)
        answers = await asyncio.gather(*map(asker.ask, ["one", "two", "one", "three"]))
        assert answers == ["first", "second", "first", "nothing"]

    run(asker, body)
    assert len(asked) == 1


def test_an_answer_shows_what_was_committed_before_the_question(asker: Asker) -> None:
    group = DeviceGroup.objects.create(name="one", description="before")

    async def body() -> None:
        assert await asker.ask("one") == "before"
        await elsewhere(lambda: DeviceGroup.objects.filter(pk=group.pk).update(description="after"))
        assert await asker.ask("one") == "after"

    run(asker, body)


def test_more_questions_than_a_statement_takes_are_all_answered(
    asker: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(in_loop, "MAX_QUESTIONS", 3)
    for number in range(10):
        DeviceGroup.objects.create(name=f"group {number}", description=f"{number}")

    async def body() -> None:
        names = [f"group {number}" for number in range(10)]
        assert await asyncio.gather(*map(asker.ask, names)) == [str(n) for n in range(10)]

    run(asker, body)


@needs_postgres
def test_a_lost_connection_hands_questions_back_and_is_opened_again(asker: Asker) -> None:
    async def body() -> None:
        pid = asker._driver.info.backend_pid
        await elsewhere(lambda: end_backend(pid))
        assert await asker.ask("one") is None
        while await asker.ask("one") is None:
            await asyncio.sleep(0.01)
        assert asker._driver.info.backend_pid != pid

    run(asker, body)


@needs_postgres
def test_a_question_that_waits_too_long_fails(
    asker: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deadlines, "SECONDS", 0.3)
    monkeypatch.setattr(in_loop, "SOON", 0.1)

    async def body() -> None:
        with psycopg.connect(**connection.get_connection_params()) as other:
            other.execute("LOCK TABLE devices_devicegroup IN ACCESS EXCLUSIVE MODE")
            began = time.monotonic()
            with pytest.raises(OperationalError):
                await asker.ask("one")
            assert time.monotonic() - began < 2
        while await asker.ask("one") is None:
            await asyncio.sleep(0.01)
        assert await asker.ask("one") == "nothing"

    run(asker, body)


@needs_postgres
def test_a_table_altered_meanwhile_is_asked_by_a_thread(asker: Asker) -> None:
    async def body() -> None:
        await elsewhere(lambda: alter("TYPE varchar(9000)"))
        first = await asker.ask("one")
        await elsewhere(lambda: alter("TYPE text"))
        assert first in {None, "nothing"}

    run(asker, body)


@needs_postgres
def test_where_nothing_is_prepared_the_text_goes_along(asker: Asker) -> None:
    options = asker._connection.settings_dict["OPTIONS"]
    asker._connection.settings_dict["OPTIONS"] = options | {"prepare_threshold": None}
    DeviceGroup.objects.create(name="one", description="first")

    async def body() -> None:
        assert await asyncio.gather(*map(asker.ask, ["one", "two"])) == ["first", "nothing"]
        assert asker._driver.execute("SELECT name FROM pg_prepared_statements").fetchall() == []

    run(asker, body)


class Primary(LoopAsker[str]):
    """What the standby hands on."""

    def put(self, question: str, answer: "asyncio.Future[str | None]") -> None:
        if not answer.done():
            answer.set_result("of the primary")


def lapse(heartbeats: Heartbeats, monkeypatch: pytest.MonkeyPatch) -> None:
    heartbeats._moments.clear()


def freeze(heartbeats: Heartbeats, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hold what the standby's statement reads for longer than an answer may take."""
    monkeypatch.setattr(answers, "SECONDS", 0.2)
    other = psycopg.connect(**connection.get_connection_params())
    other.execute("LOCK TABLE devices_heartbeat IN ACCESS EXCLUSIVE MODE")
    monkeypatch.setattr(answers, "kept_open", other, raising=False)


def lose(heartbeats: Heartbeats, monkeypatch: pytest.MonkeyPatch) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE query LIKE '%devices_heartbeat%' AND pid <> pg_backend_pid()"
        )


@needs_postgres
@pytest.mark.parametrize("change", [lapse, freeze, lose])
def test_the_primary_is_asked_what_the_standby_must_not_answer(
    change: Callable[[Heartbeats, pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    DeviceGroup.objects.create(name="one", description="of the standby")
    heartbeats = Heartbeats()
    opened = [Slots(1, max_wait=1.0).another(DEFAULT_DB_ALIAS) for _ in range(2)]
    asker = StandbyAsker(
        opened[0],
        NAMES,
        dict,
        "nothing",
        standby=Standby(heartbeats, 100),
        primary=Primary(opened[1], NAMES, dict, "nothing"),
    )
    monkeypatch.setattr(in_loop, "PAUSE", 0.0)
    monkeypatch.setattr(answers, "INTERVAL", 0.0)
    monkeypatch.setattr(answers, "SHORTEST_PAUSE", 0.0)

    async def until(expected: str) -> None:
        while await asker.ask("one") != expected:
            await asyncio.sleep(0.01)

    async def body() -> None:
        await until("of the primary")  # it has no connection, or shows no number yet
        await elsewhere(heartbeats.write)
        await until("of the standby")
        await elsewhere(lambda: change(heartbeats, monkeypatch))
        assert await asyncio.gather(*map(asker.ask, ["one", "two"])) == ["of the primary"] * 2
        if change is freeze:
            answers.kept_open.close()  # type: ignore[attr-defined]
        await elsewhere(heartbeats.write)
        await until("of the standby")
        assert await asker.ask("two") == "nothing"

    asyncio.run(asyncio.wait_for(body(), PATIENCE))
    opened[0].close()


async def elsewhere(do: Callable[[], object]) -> None:
    """Do something with a connection of another thread."""

    def done() -> None:
        try:
            do()
        finally:
            connection.close()

    await asyncio.to_thread(done)


def end_backend(pid: int) -> None:
    """End a connection as an administrator would."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])


def alter(words: str) -> None:
    """Change the type of a column that the statement reads."""
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE devices_devicegroup ALTER COLUMN description {words}")
