"""Real processes: long poll and webhooks while several write, stop and are killed."""

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.receiver import Receiver, receiver
from tests.support.servers import Server, empty_registry

pytestmark = pytest.mark.e2e
WRITERS, EACH = 3, 60

SET_UP = """
import django; django.setup()
from django.contrib.auth.models import User
from authsite.accounts.tokens.models import ApiToken
admin = User.objects.create_superuser("kim")
_token, text = ApiToken.objects.issue(owner=admin, name="t", scopes=["devices.view_event"])
print(text)
"""
WRITE = f"""
import sys, threading, django; django.setup()
from django.db import connection, transaction
from devices.models import Device
def write(writer):
    for n in range({EACH}):
        with transaction.atomic():
            Device.objects.create(identifier=f"{{sys.argv[1]}}-{{writer}}-{{n:04d}}")
    connection.close()
threads = [threading.Thread(target=write, args=[n]) for n in range({WRITERS})]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
"""
HOOK = """
import sys, django; django.setup()
from devices.events.models import Webhook
webhook = Webhook(name=sys.argv[2], url=sys.argv[1], kinds=["device.created"])
print(webhook.new_secret())
webhook.save()
"""
DELIVER = """
import django; django.setup()
from datetime import timedelta
from django.core.management import call_command
from devices.events import delivering
delivering.LEASE = timedelta(seconds=8)  # what the killed one held is due again after this
call_command("deliver")
"""
ONE = """
import sys, time, django; django.setup()
from devices.models import Device
Device.objects.create(identifier=f"warm-{time.time()}")
sys.stdout.write("ready\\n"); sys.stdout.flush()
for line in sys.stdin:
    Device.objects.create(identifier=line.strip())
    sys.stdout.write(f"{time.time()}\\n"); sys.stdout.flush()
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, str]]:
    """Yield a running server of two processes and a token that reads events."""
    folder = tmp_path_factory.mktemp("events")
    with empty_registry(folder) as url:
        server = Server(
            folder,
            url,
            WORKERS="2",
            API_RATE="0",
            WEBHOOK_HTTP="on",
            WEBHOOK_NETWORKS="127.0.0.0/8",
            EVENT_WAITERS="20",
        )
        token = server.run("-c", SET_UP).strip()
        with server:
            yield server, token


def ask(server: Server, token: str, **parameters: object) -> dict[str, Any]:
    words = "&".join(f"{name}={value}" for name, value in parameters.items())
    answer = server.ask(
        "GET",
        f"/api/v1/events?{words}",
        headers={"Authorization": f"Bearer {token}"},
    )
    assert answer.status == 200, answer.body
    document: dict[str, Any] = json.loads(answer.body)
    return document


def start(server: Server, *words: str, **pipes: Any) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, *words], cwd=server.base, env=server.environment, text=True, **pipes
    )


def cut_off(server: Server, token: str, cursor: str) -> None:
    """Ask, and break the connection before the answer is read."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    path = f"/api/v1/events?after={cursor}&wait=5"
    connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
    time.sleep(0.02)
    connection.close()


def test_no_gap_and_no_repeat_while_many_write_and_connections_break(
    world: tuple[Server, str],
) -> None:
    server, token = world
    cursor = ask(server, token, after="latest")["cursor"]
    begin = int(cursor.partition("-")[0])
    writers = [start(server, "-c", WRITE, name) for name in ("a", "b")]
    seen: list[dict[str, Any]] = []
    total = len(writers) * WRITERS * EACH
    deadline = time.monotonic() + 90
    cuts = 0
    while len(seen) < total and time.monotonic() < deadline:
        if cuts < 10 and len(seen) >= cuts * total // 12:
            cut_off(server, token, cursor)
            cuts += 1
        if cuts == 6:
            assert server.stop() == 0
            server.__enter__()
            cuts += 1
        answer = ask(server, token, after=cursor, wait=5, limit=7, kinds="device.created")
        seen += answer["events"]
        cursor = answer["cursor"]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    assert cuts >= 10
    positions = [event["position"] for event in seen]
    assert positions == list(range(begin + 1, begin + total + 1))
    assert len({event["data"]["identifier"] for event in seen}) == total


def test_an_event_reaches_who_waits_at_once_and_many_may_wait(
    world: tuple[Server, str],
) -> None:
    """Twenty clients wait; staff's and machines' requests are answered meanwhile."""
    server, token = world
    writer = start(server, "-c", ONE, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert writer.stdin is not None
    assert writer.stdout is not None
    assert writer.stdout.readline() == "ready\n"
    delays: list[float] = []
    for number in range(5):
        cursor = ask(server, token, after="latest")["cursor"]
        arrived: list[float] = []

        def wait(cursor: str = cursor, arrived: list[float] = arrived) -> None:
            if ask(server, token, after=cursor, wait=10)["events"]:
                arrived.append(time.time())

        threads = [threading.Thread(target=wait) for _ in range(10)]
        for thread in threads:
            thread.start()
        time.sleep(0.4)
        assert server.ask("GET", "/readyz").status == 200
        assert ask(server, token, after="latest")["events"] == []
        writer.stdin.write(f"quick-{number}\n")
        writer.stdin.flush()
        committed = float(writer.stdout.readline())
        for thread in threads:
            thread.join(15)
        assert len(arrived) == len(threads)
        delays.append(min(arrived) - committed)
    writer.stdin.close()
    writer.stdout.close()
    assert writer.wait(10) == 0
    delays.sort()
    assert delays[len(delays) // 2] < 0.1


@pytest.mark.once(on="postgres")
def test_who_waits_is_answered_when_the_server_stops(world: tuple[Server, str]) -> None:
    server, token = world
    cursor = ask(server, token, after="latest")["cursor"]
    answers: list[dict[str, Any]] = []
    thread = threading.Thread(
        target=lambda: answers.append(ask(server, token, after=cursor, wait=20))
    )
    thread.start()
    time.sleep(0.5)
    began = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - began < 4
    thread.join(5)
    assert answers == [{"events": [], "cursor": cursor, "more": False}]
    server.__enter__()


@pytest.fixture
def host() -> Iterator[Receiver]:
    with receiver() as made:
        yield made


@pytest.mark.once(on="postgres")
def test_a_webhook_is_called_within_a_second_and_outlives_who_calls(
    world: tuple[Server, str], host: Receiver
) -> None:
    from standardwebhooks import Webhook as Verifier

    server, _token = world
    secret = server.run("-c", HOOK, host.url("/ok"), "quick").strip()
    deliver = [start(server, "-c", DELIVER) for _ in range(2)]
    try:
        writer = start(server, "-c", ONE, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert writer.stdin is not None
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        host.await_requests(1, 30)
        delays = []
        for number in range(5):
            writer.stdin.write(f"called-{number}\n")
            writer.stdin.flush()
            committed = float(writer.stdout.readline())
            host.await_requests(number + 2)
            delays.append(time.time() - committed)
            time.sleep(0.1)
        assert sorted(delays)[len(delays) // 2] < 1.0
        writer.stdin.close()
        writer.stdout.close()
        assert writer.wait(10) == 0
        for _path, headers, body in host.requests:
            Verifier(secret).verify(body, headers)
        # One is killed in the middle of many.
        total = WRITERS * EACH
        many = start(server, "-c", WRITE, "killed")
        host.await_requests(6 + total // 3, 60)
        os.kill(deliver[0].pid, signal.SIGKILL)
        assert many.wait(60) == 0
        deadline = time.monotonic() + 90
        wanted = {f"killed-{writer}-{n:04d}" for writer in range(WRITERS) for n in range(EACH)}
        while time.monotonic() < deadline:
            bodies = [json.loads(body) for _path, _headers, body in list(host.requests)]
            came = {body["data"]["identifier"] for body in bodies}
            if wanted <= came:
                break
            time.sleep(0.2)
        assert wanted <= came
        ids = [headers["webhook-id"] for _path, headers, _body in host.requests]
        assert len(ids) - len(set(ids)) <= 8, "only what was under way is repeated"
        assert len(set(ids)) == len(came)
    finally:
        deliver[0].kill()
        deliver[0].wait(10)
        deliver[1].terminate()
        assert deliver[1].wait(30) == 0
