"""What clients are answered while the database, a worker or other clients misbehave."""

import json
import os
import signal
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support import postgres
from tests.support.load import Answer, Load, Question, slowest
from tests.support.servers import Server, demo_server

pytestmark = pytest.mark.slow

IDENTIFIER = "5f0c7127-9a0e-4a59-9a1c-d3bb6f1f3e01"
UNKNOWN = "00000000-0000-4000-8000-000000000000"
SENSOR, THERMOSTAT = "//api.cesanta.com/device_123", "//api.cesanta.com/thermostat"
IS_POSTGRES = os.environ.get("DATABASE_URL", "").startswith(postgres.SCHEMES)
NOISE = 0.5  # seconds that other programs of the machine may take from one answer


def verification(identifier: str, secret: str, code: str) -> Question:
    """Return RTIO's question and its answer."""
    content = {"id": 5, "method": "verify", "deviceid": identifier, "devicesecret": secret}
    refusal = {"id": 5, "code": "INTERNAL_SERVER_ERROR"}
    return Question("/deviceverifier", content, {"id": 5, "code": code}, (200, refusal))


def frame(path: str, command: str, args: object, *, answer: bool) -> Question:
    """Return a frame with one command and its answer."""
    content = {"v": 1, "cmds": [{"cmd": command, "id": 7, "args": args}]}
    right = {"v": 1, "resp": [{"id": 7, "status": 0, "resp": answer}]}
    unavailable = {"id": 7, "status": 503, "status_msg": "service unavailable"}
    return Question(path, content, right, (200, {"v": 1, "resp": [unavailable]}))


def questions(secret: str) -> list[Question]:
    """Return one of each kind, about a device with this secret and the demo's."""
    authenticate, authorize = "/v1/Auth.Authenticate", "/v1/Auth.AuthorizeCommand"
    right = {"id": IDENTIFIER, "credentials": {"psk": secret}}
    wrong = {"id": IDENTIFIER, "credentials": {"psk": "no" + secret}}
    may = {"src": SENSOR, "dst": THERMOSTAT, "cmd": "/v1/Config.Set"}
    may_not = {"src": SENSOR, "dst": THERMOSTAT, "cmd": "/v1/Config.Erase"}
    unavailable = (200, {"v": 2, "error": {"code": 503, "message": "service unavailable"}})
    return [
        verification(IDENTIFIER, secret, "OK"),
        verification(IDENTIFIER, "no" + secret, "VERIFICATION_FAILED"),
        verification(UNKNOWN, secret, "NOT_FOUND"),
        frame("/rpc", authenticate, right, answer=True),
        frame("/", authenticate, wrong, answer=False),
        frame("/rpc", authorize, may, answer=True),
        frame("/", authorize, may_not, answer=False),
        Question(authenticate, right, {"v": 2, "result": True}, unavailable),
        Question(authorize, may_not, {"v": 2, "result": False}, unavailable),
    ]


def asked(server: Server) -> list[Question]:
    """Return the questions, about a device that is registered for them."""
    printed = server.manage("add_device", IDENTIFIER, "--generate-secret", "--json")
    return questions(json.loads(printed)["secret"])


def journalled(server: Server) -> int:
    """Return how many questions the journal has counted."""
    printed = server.manage(
        *("shell", "--no-imports", "-c"),
        "from django.db.models import Sum; from rpc.models import CallRecord; "
        "print(CallRecord.objects.aggregate(n=Sum('count'))['n'])",
    )
    return int(printed)


def assert_all_right(answers: list[Answer]) -> None:
    wrong = [answer for answer in answers if not answer.is_right]
    assert answers
    assert not wrong, f"{len(wrong)} of {len(answers)}, such as {wrong[0]}"


@pytest.mark.skipif(not IS_POSTGRES, reason="PostgreSQL's turn")
def test_with_postgres_stopped_everyone_is_told_at_once_and_served_once_it_is_back(
    own_cluster: postgres.Cluster,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    report: Callable[[str], None],
) -> None:
    monkeypatch.setenv("DATABASE_URL", own_cluster.url)
    with demo_server(tmp_path) as server, Load(server, asked(server)) as load:
        time.sleep(2)
        before = time.monotonic()
        own_cluster.stop()
        stopped = time.monotonic()
        time.sleep(4)
        starting = time.monotonic()
        own_cluster.start()
        back = time.monotonic()
        time.sleep(5)
        end = time.monotonic()

    assert_all_right(load.between(0, before - NOISE))
    outage = load.between(stopped, starting - NOISE)
    assert len(outage) > 100
    assert all(answer.is_refusal for answer in outage)
    assert all(answer.is_right or answer.is_refusal for answer in load.answers)
    assert slowest(load.answers) < 1 + NOISE
    assert_all_right(load.between(back + 2, end))
    assert not load.broken
    returned = max(answer.asked for answer in load.answers if answer.is_refusal) - back
    report(
        f"database stopped: {len(outage)} refusals, slowest {slowest(outage):.2f} s; "
        f"last refusal {returned:.2f} s after its return"
    )


@pytest.mark.skipif(IS_POSTGRES, reason="SQLite's turn")
def test_with_sqlite_locked_for_ten_seconds_all_is_answered_and_nothing_lost(
    tmp_path: Path, report: Callable[[str], None]
) -> None:
    with demo_server(tmp_path) as server:
        file = urlsplit(server.database_url).path
        with Load(server, asked(server)) as load:
            time.sleep(1)
            with closing(sqlite3.connect(file, timeout=10, isolation_level=None)) as writer:
                writer.execute("BEGIN EXCLUSIVE")
                locked = time.monotonic()
                time.sleep(10)
                unlocked = time.monotonic()
                writer.execute("ROLLBACK")
            time.sleep(2)
        server.stop()
        counted = journalled(server)
        seen = server.manage(
            *("shell", "--no-imports", "-c"),
            "from devices.models import Device; "
            f"print(Device.objects.get(identifier='{IDENTIFIER}').last_seen)",
        )

    assert len(load.between(locked, unlocked)) > 500
    assert_all_right(load.answers)
    assert not load.broken
    assert slowest(load.answers) < 1 + NOISE
    assert counted >= len(load.answers)
    assert seen.strip() != "None"
    report(
        f"SQLite locked for 10 s: {len(load.answers)} right answers, "
        f"slowest {slowest(load.answers):.2f} s"
    )


@pytest.mark.once(on="sqlite")
def test_a_killed_worker_is_replaced_and_no_answer_is_wrong(
    tmp_path: Path, report: Callable[[str], None]
) -> None:
    with demo_server(tmp_path) as server, Load(server, asked(server)) as load:
        time.sleep(2)
        first = server.workers
        assert len(first) == 2
        killed = min(first)
        os.kill(killed, signal.SIGKILL)
        at = time.monotonic()
        while len(server.workers - {killed}) < 2 and time.monotonic() - at < 15:
            time.sleep(0.05)
        replaced = time.monotonic() - at
        time.sleep(3)
        end = time.monotonic()
        now = server.workers

    assert len(now - {killed}) == 2
    assert_all_right(load.answers)
    assert len(load.between(at, at + 1)) > 50  # the other one went on
    assert len(load.broken) <= 2 * 16
    began = at - 1 - NOISE  # a request may be under way for as long as any here
    assert all(began < moment < at + replaced + 2 for moment in load.broken)
    report(
        f"worker killed: {len(load.broken)} connections broke, replaced after {replaced:.2f} s, "
        f"slowest answer {slowest(load.between(at, end)):.2f} s"
    )
