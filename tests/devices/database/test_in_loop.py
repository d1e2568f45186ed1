"""The event loop asks without waiting, shares statements, and hands back what it cannot ask."""

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence

import psycopg
import pytest
from django.db import DEFAULT_DB_ALIAS, OperationalError, connection

from devices.database import answers, deadlines, in_loop
from devices.database.answers import Heartbeats, Standby
from devices.database.in_loop import LoopAsker, StandbyAsker
from devices.database.slots import Slots
from devices.database.statements import MustWait, Query, Statement, Steps
from devices.models import DeviceGroup

PATIENCE = 10.0  # seconds
NAMES = Statement("SELECT name, description FROM devices_devicegroup WHERE name {among}")
Asker = LoopAsker[str, str]


def describe(names: Sequence[str]) -> Steps[dict[str, str]]:
    """Return the descriptions of groups by their names."""
    rows = yield Query(NAMES, (list(names),))
    return dict(rows)


needs_postgres = pytest.mark.skipif(
    "connection.vendor == 'sqlite'", reason="a file neither freezes nor ends connections"
)
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def asker(monkeypatch: pytest.MonkeyPatch) -> Iterator[Asker]:
    monkeypatch.setattr(in_loop, "PAUSE", 0.0)
    slots = Slots(1, max_wait=1.0)
    opened = slots.another(DEFAULT_DB_ALIAS)
    yield LoopAsker(opened, describe, [Query(NAMES, ([],))])
    opened.close()


def run(asker: Asker, body: Callable[[], Awaitable[None]]) -> None:
    """Run in a loop once the asker has its connection."""

    async def opened() -> None:
        while await asker.ask(["any"]) is None:
            await asyncio.sleep(0.01)
        await body()

    asyncio.run(asyncio.wait_for(opened(), PATIENCE))


def test_questions_of_one_turn_share_a_statement(
    asker: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    DeviceGroup.objects.create(name="one", description="first")
    DeviceGroup.objects.create(name="two", description="second")
    asked: list[Sequence[str]] = []

    def noted(names: Sequence[str]) -> Steps[dict[str, str]]:
        asked.append(names)
        return (yield from describe(names))

    async def body() -> None:
        monkeypatch.setattr(asker, "_ask_all", noted)
        questions = [["one"], ["two", "one"], ["three"]]
        for found in await asyncio.gather(*map(asker.ask, questions)):
            assert found == {"one": "first", "two": "second"}

    run(asker, body)
    assert len(asked) == 1


def test_an_answer_shows_what_was_committed_before_the_question(asker: Asker) -> None:
    group = DeviceGroup.objects.create(name="one", description="before")

    async def body() -> None:
        assert await asker.ask(["one"]) == {"one": "before"}
        await elsewhere(lambda: DeviceGroup.objects.filter(pk=group.pk).update(description="after"))
        assert await asker.ask(["one"]) == {"one": "after"}

    run(asker, body)


def test_more_questions_than_a_statement_takes_are_all_answered(
    asker: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(in_loop, "MAX_QUESTIONS", 3)
    for number in range(10):
        DeviceGroup.objects.create(name=f"group {number}", description=f"{number}")

    async def body() -> None:
        names = [f"group {number}" for number in range(10)]
        answers = await asyncio.gather(*(asker.ask([name]) for name in names), asker.ask(names))
        everything = answers.pop()
        assert everything == {name: name.split()[1] for name in names}
        for name, answer in zip(names, answers, strict=True):
            assert answer is not None
            assert answer[name] == name.split()[1]
            assert len(answer) <= 3

    run(asker, body)


def test_who_asks_for_what_takes_long_is_handed_back_and_the_next_is_answered(
    asker: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(names: Sequence[str]) -> Steps[dict[str, str]]:
        found = yield from describe(names)
        if "long" in names:
            raise MustWait
        return found

    async def body() -> None:
        monkeypatch.setattr(asker, "_ask_all", refused)
        assert await asker.ask(["long"]) is None
        assert await asker.ask(["one"]) == {}

    run(asker, body)


def down(_names: Sequence[str]) -> Steps[dict[str, str]]:
    raise OperationalError("down")
    yield


def test_what_waits_while_a_statement_fails_is_handed_back_and_later_ones_are_answered(
    asker: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(in_loop, "MAX_QUESTIONS", 1)

    async def body() -> None:
        monkeypatch.setattr(asker, "_ask_all", down)
        found = await asyncio.gather(asker.ask(["one"]), asker.ask(["two"]))
        assert list(found) == [None, None]
        monkeypatch.setattr(asker, "_ask_all", describe)
        while await asker.ask(["one"]) is None:
            await asyncio.sleep(0.01)

    run(asker, body)


def test_a_database_that_is_gone_is_tried_again_only_after_a_pause(
    asker: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[None] = []

    def gone() -> None:
        tries.append(None)
        raise OperationalError("gone")

    monkeypatch.setattr(in_loop, "PAUSE", 60.0)
    monkeypatch.setattr(asker, "_opened", gone)

    async def body() -> None:
        for _ in range(5):
            assert await asker.ask(["one"]) is None
            await asyncio.sleep(0.02)

    asyncio.run(asyncio.wait_for(body(), PATIENCE))
    assert len(tries) == 1


@needs_postgres
def test_more_than_a_socket_takes_at_once_is_sent_in_the_end(asker: Asker) -> None:
    names = [f"{number:0100}" for number in range(60_000)]
    DeviceGroup.objects.create(name=names[-1], description="last")

    async def body() -> None:
        assert await asker.ask(names) == {names[-1]: "last"}

    run(asker, body)


@needs_postgres
def test_the_deadline_of_an_answer_that_came_ends_with_it(
    asker: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deadlines, "SECONDS", 0.5)

    async def body() -> None:
        assert await asker.ask(["one"]) == {}
        await asyncio.sleep(0.7)
        assert asker.is_open

    run(asker, body)


@needs_postgres
def test_a_lost_connection_hands_questions_back_and_is_opened_again(asker: Asker) -> None:
    async def body() -> None:
        pid = asker._driver.info.backend_pid
        await elsewhere(lambda: end_backend(pid))
        assert await asker.ask(["one"]) is None
        while await asker.ask(["one"]) is None:
            await asyncio.sleep(0.01)
        assert asker._driver.info.backend_pid != pid

    run(asker, body)


@pytest.mark.once(on="sqlite")
@pytest.mark.parametrize("statements", [1, 2])  # which SQLite is asked in one transaction
def test_a_closed_file_hands_questions_back_and_is_opened_again(
    asker: Asker, statements: int
) -> None:
    asker._statements = [Query(NAMES, ([],))] * statements

    async def body() -> None:
        asker._driver.close()
        assert await asker.ask(["one"]) is None
        while await asker.ask(["one"]) is None:
            await asyncio.sleep(0.01)

    run(asker, body)


@needs_postgres
def test_a_question_just_put_is_handed_back_where_an_idle_connection_is_lost(
    asker: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(in_loop, "SOON", 0.0)

    async def body() -> None:
        pid = asker._driver.info.backend_pid
        with psycopg.connect(**connection.get_connection_params()) as other:
            other.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
        question = asker.ask(["one"])
        asker._receive()  # as the loop calls it in the turn in which the question comes
        assert await question is None

    run(asker, body)


def test_a_failure_that_nobody_waits_for_any_more_is_not_logged(
    asker: Asker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(in_loop, "SOON", -1.0)

    async def body() -> None:
        monkeypatch.setattr(asker, "_ask_all", down)
        asker.ask(["one"])  # whoever asked has left: a thread answers, or the client is gone
        while asker.is_open:
            await asyncio.sleep(0)
        gc.collect()

    run(asker, body)
    assert not caplog.records


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
                await asker.ask(["one"])
            assert time.monotonic() - began < 2
        while await asker.ask(["one"]) is None:
            await asyncio.sleep(0.01)
        assert await asker.ask(["one"]) == {}

    run(asker, body)


@needs_postgres
def test_a_table_altered_meanwhile_is_asked_by_a_thread(asker: Asker) -> None:
    async def body() -> None:
        await elsewhere(lambda: alter("TYPE varchar(9000)"))
        first = await asker.ask(["one"])
        await elsewhere(lambda: alter("TYPE text"))
        assert not first

    run(asker, body)


@needs_postgres
def test_where_nothing_is_prepared_the_text_goes_along(asker: Asker) -> None:
    options = asker._connection.settings_dict["OPTIONS"]
    asker._connection.settings_dict["OPTIONS"] = options | {"prepare_threshold": None}
    DeviceGroup.objects.create(name="one", description="first")

    async def body() -> None:
        assert await asker.ask(["one", "two"]) == {"one": "first"}
        assert asker._driver.execute("SELECT name FROM pg_prepared_statements").fetchall() == []

    run(asker, body)


class Primary(LoopAsker[str, str]):
    """What the standby hands on."""

    def put(
        self, questions: Sequence[str], future: "asyncio.Future[Mapping[str, str] | None]"
    ) -> None:
        if not future.done():
            future.set_result(dict.fromkeys(questions, "of the primary"))


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
        describe,
        [Query(NAMES, ([],))],
        standby=Standby(heartbeats, 100),
        primary=Primary(opened[1], describe, []),
    )
    monkeypatch.setattr(in_loop, "PAUSE", 0.0)
    monkeypatch.setattr(answers, "INTERVAL", 0.0)
    monkeypatch.setattr(answers, "MIN_PAUSE", 0.0)

    async def until(expected: str) -> None:
        while await asker.ask(["one"]) != {"one": expected}:
            await asyncio.sleep(0.01)

    async def body() -> None:
        await until("of the primary")  # it has no connection, or shows no number yet
        await elsewhere(heartbeats.write)
        await until("of the standby")
        await elsewhere(lambda: change(heartbeats, monkeypatch))
        handed_on = [{"one": "of the primary"}, {"two": "of the primary"}]
        assert await asyncio.gather(*map(asker.ask, [["one"], ["two"]])) == handed_on
        if change is freeze:
            answers.kept_open.close()  # type: ignore[attr-defined]
        await elsewhere(heartbeats.write)
        await until("of the standby")
        assert await asker.ask(["two"]) == {}

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
