"""One slow thing stopped every answer: a lock, a page that hangs, a database that stands still.

RTIO waits 5 s, and a device with the C SDK that is refused once never comes back.

A public report of this kind: https://github.com/jpmens/mosquitto-auth-plug/issues/351.
"""

import http.client
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from authsite.management.commands import migrate
from tests.support import postgres
from tests.support.servers import Server, demo_server

KNOWN = "cfa09baa-4913-4ad7-a936-2e26f9671b05"
IS_POSTGRES = os.environ.get("DATABASE_URL", "").startswith(postgres.SCHEMES)
NOISE = 1.0  # seconds that other programs of the machine may take from one answer
VERIFICATION = json.dumps(
    {"id": 5, "method": "verify", "deviceid": KNOWN, "devicesecret": "mb6bgso4EChvyzA05thF9+wH"}
).encode()

needs_postgres = pytest.mark.skipif(not IS_POSTGRES, reason="PostgreSQL's locks and processes")


def code(server: Server) -> tuple[str, float]:
    """Return the verifier's code for the known device, and the seconds that it took."""
    began = time.monotonic()
    answer = json.loads(server.ask("POST", "/deviceverifier", VERIFICATION).body)
    return answer["code"], time.monotonic() - began


@needs_postgres
@pytest.mark.e2e
def test_a_lock_is_answered_with_a_refusal(tmp_path: Path) -> None:
    with demo_server(tmp_path, WORKERS="1", LOG_FORMAT="") as server:
        assert code(server)[0] == "OK"
        with (
            psycopg.connect(server.database_url) as other,
            ThreadPoolExecutor(24) as pool,
        ):
            other.execute("LOCK TABLE devices_presharedkey IN ACCESS EXCLUSIVE MODE")
            asked = [pool.submit(code, server) for _ in range(24)]
            time.sleep(0.3)
            began = time.monotonic()
            assert server.ask("POST", "/v1/Hello", b"{}").status == 200
            assert server.ask("POST", "/v1/Services.Get", b"{}").status == 200
            hello = time.monotonic() - began
            answers = [one.result() for one in asked]
        assert hello < NOISE
        assert {answer for answer, _ in answers} == {"INTERNAL_SERVER_ERROR"}
        assert max(seconds for _, seconds in answers) < 3 + NOISE  # a slot, a turn, the lock
        assert code(server)[0] == "OK"
    # One line a second at most, whatever the number of refusals.
    assert 0 < server.log.count("DeviceVerifier failed") <= 4
    assert "Traceback" not in server.log


@contextmanager
def frozen(cluster: postgres.Cluster) -> Iterator[None]:
    """Let every process of a database stand still, while its kernel acknowledges."""
    assert cluster._process is not None
    main = cluster._process.pid
    children = Path(f"/proc/{main}/task/{main}/children").read_text().split()
    processes = [main, *map(int, children)]
    for process in processes:
        os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            os.kill(process, signal.SIGCONT)


@needs_postgres
@pytest.mark.e2e
def test_a_frozen_database_is_given_up(
    own_cluster: postgres.Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", own_cluster.url)
    with demo_server(tmp_path, WORKERS="1") as server:
        assert code(server)[0] == "OK"
        with frozen(own_cluster), ThreadPoolExecutor(24) as pool:
            for _ in range(2):
                answers = list(pool.map(lambda _: code(server), range(24)))
                assert {answer for answer, _ in answers} == {"INTERNAL_SERVER_ERROR"}
                assert max(seconds for _, seconds in answers) < 4 + NOISE
        deadline = time.monotonic() + 5
        while code(server)[0] != "OK":
            assert time.monotonic() < deadline
        assert [code(server)[0] for _ in range(20)] == ["OK"] * 20


@needs_postgres
@pytest.mark.e2e
def test_pages_that_hang_take_nothing_from_machines(tmp_path: Path) -> None:
    with demo_server(tmp_path, WORKERS="1") as server:
        code(server)

        def login(_: int) -> tuple[int, bytes, float]:
            began = time.monotonic()
            one = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
            form = b"username=admin&password=x&csrfmiddlewaretoken=" + b"a" * 64
            headers = {
                "Cookie": "csrftoken=" + "a" * 64,
                "Content-Type": "application/x-www-form-urlencoded",
                "Accept-Language": "en",
            }
            one.request("POST", "/admin/login/", form, headers)
            answer = one.getresponse()
            page = answer.read()
            one.close()
            return answer.status, page, time.monotonic() - began

        with psycopg.connect(server.database_url) as other, ThreadPoolExecutor(12) as pool:
            other.execute("LOCK TABLE auth_user, axes_accessattempt IN ACCESS EXCLUSIVE MODE")
            pages = [pool.submit(login, number) for number in range(12)]
            time.sleep(1)
            answers = [code(server) for _ in range(20)]
            time.sleep(5)
            other.rollback()
            refused = [page.result() for page in pages if page.result()[0] == 503]
        assert {answer for answer, _ in answers} == {"OK"}
        assert max(seconds for _, seconds in answers) < NOISE
        assert refused
        for _status, page, seconds in refused:
            assert b"Too much is going on at once" in page
            assert seconds < 5 + NOISE


@needs_postgres
@pytest.mark.django_db(transaction=True)
def test_a_migration_waits_for_no_lock_for_long(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever asks for the table meanwhile would wait behind the migration."""
    monkeypatch.setattr(migrate, "PAUSE", 0.05)
    own = connection.settings_dict
    url = {"host": own["HOST"], "port": own["PORT"], "user": own["USER"]}
    with psycopg.connect(dbname=own["NAME"], password=own["PASSWORD"], **url) as other:
        other.execute("LOCK TABLE django_migrations IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(CommandError, match="all attempts"):
            call_command("migrate", lock_timeout=0.1, lock_attempts=3, verbosity=0)
        assert capsys.readouterr().err.count("A table is in use") == 3
        threading.Timer(0.5, other.rollback).start()
        call_command("migrate", lock_timeout=0.1, lock_attempts=30, verbosity=0)
    assert "Trying again" in capsys.readouterr().err
    with connection.cursor() as cursor:
        cursor.execute("SHOW lock_timeout")
        assert cursor.fetchone() == ("0",)
