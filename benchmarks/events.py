"""Measure events: `python -m benchmarks.events [--rounds N] [--seconds S]`.

On a PostgreSQL of its own: how long after its commit an event reaches a client that waits and a
webhook, and how many devices are verified a second, with and without 1,000 events a second that
are written, read by a client and sent to nobody. Load and writers share the machine's cores.
"""

import argparse
import json
import pickle
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from benchmarks.compare import load
from benchmarks.report import table
from benchmarks.seed import verification
from tests.support.postgres import running
from tests.support.receiver import receiver
from tests.support.servers import Server, given_registry, own_database

DEVICES = 500
EVENTS = 1000  # a second
WEBHOOKS = {"WEBHOOK_HTTP": "on", "WEBHOOK_NETWORKS": "127.0.0.0/8"}
FILL = f"""
import json, django; django.setup()
from django.contrib.auth.models import User
from authsite.accounts.tokens.models import ApiToken
from devices import history
from devices.models import Device, PreSharedKey
history.bulk_create([Device(identifier=f"busy-{{n:031d}}") for n in range({DEVICES})])
known = Device(identifier=f"{{0:036d}}"); known.save()
_key, secret = PreSharedKey.objects.issue(device=known)
admin = User.objects.create_superuser("bench")
_token, text = ApiToken.objects.issue(owner=admin, name="t", scopes=["devices.view_event"])
print(json.dumps({{"secret": secret, "token": text}}))
"""
HOOK = """
import sys, django; django.setup()
from devices.events.models import Webhook
webhook = Webhook(name="bench", url=sys.argv[1], kinds=["device.created"])
webhook.new_secret()
webhook.save()
"""
# Switches all the devices on and off in turn, so many events a second, and says when it committed.
WRITE = f"""
import sys, time, django; django.setup()
from devices.models import Device
busy = Device.objects.filter(identifier__startswith="busy-")
state, due, written = True, time.time(), 0
end = due + float(sys.argv[1])
while time.time() < end:
    state = not state
    written += busy.set_enabled(enabled=state)
    due += {DEVICES} / {EVENTS}
    time.sleep(max(0.0, due - time.time()))
print(written)
"""
ONE = """
import sys, time, django; django.setup()
from devices.models import Device
for line in sys.stdin:
    Device.objects.create(identifier=line.strip())
    print(time.time(), flush=True)
"""


def events_after(server: Server, token: str, cursor: str, wait: int) -> dict[str, Any]:
    address = f"{server.url}/api/v1/events?after={cursor}&wait={wait}&limit=1000"
    headers = {"Authorization": f"Bearer {token}"}
    answer: dict[str, Any] = httpx.get(address, headers=headers, timeout=60).json()
    return answer


@contextmanager
def writing(server: Server, token: str, seconds: float) -> Iterator[Callable[[], tuple[int, int]]]:
    """Write events within the block, and read them; what is yielded says how many of each."""
    cursor = events_after(server, token, "latest", 0)["cursor"]
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITE, str(seconds)],
        cwd=server.base,
        env=server.environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    read, stops = [0], threading.Event()

    def follow() -> None:
        nonlocal cursor
        while not stops.is_set():
            answer = events_after(server, token, cursor, 1)
            read[0] += len(answer["events"])
            cursor = answer["cursor"]

    reader = threading.Thread(target=follow)
    reader.start()
    time.sleep(1.5)  # it starts
    counts: list[int] = []

    def count() -> tuple[int, int]:
        counts.append(int(writer.communicate()[0]))
        return counts[0], read[0]

    try:
        yield count
    finally:
        writer.wait(60)
        time.sleep(1.0)
        stops.set()
        reader.join()


def delays(server: Server, token: str, rounds: int) -> tuple[list[float], list[float]]:
    """Return the seconds from commits to a client that waits, and to a webhook."""
    poll: list[float] = []
    hook: list[float] = []
    with receiver() as host:
        server.run("-c", HOOK, host.url("/ok"))
        deliver = subprocess.Popen(
            [sys.executable, "manage.py", "deliver"], cwd=server.base, env=server.environment
        )
        writer = subprocess.Popen(
            [sys.executable, "-c", ONE],
            cwd=server.base,
            env=server.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert writer.stdin is not None
        assert writer.stdout is not None
        time.sleep(3)
        for number in range(rounds):
            cursor = events_after(server, token, "latest", 0)["cursor"]
            arrived: list[float] = []
            waiter = threading.Thread(
                target=lambda cursor=cursor, arrived=arrived: (
                    events_after(server, token, cursor, 10),
                    arrived.append(time.time()),
                )
            )
            waiter.start()
            time.sleep(0.3)
            writer.stdin.write(f"one-{number}\n")
            writer.stdin.flush()
            committed = float(writer.stdout.readline())
            waiter.join()
            host.await_requests(number + 1)
            came = time.time() - (time.monotonic() - host.times[-1])
            poll.append(arrived[0] - committed)
            hook.append(came - committed)
        writer.stdin.close()
        writer.wait(10)
        deliver.terminate()
        deliver.wait(30)
    return poll, hook


@contextmanager
def empty_database(folder: Path) -> Iterator[str]:
    """Yield a PostgreSQL of our own; a trial run gets a copy of what was migrated for it."""
    given = given_registry("postgres://")
    with own_database(folder, given) if given else running() as url:
        yield url


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, empty_database(Path(name)) as url:
        server = Server(Path(name), url, API_RATE="0", WORKERS="2", **WEBHOOKS)
        server.manage("migrate", "--verbosity", "0")
        made = json.loads(server.run("-c", FILL))
        verifier = Path(name, "verifier")
        verifier.write_bytes(pickle.dumps([verification(f"{0:036d}", made["secret"])]))
        with server:
            poll, hook = delays(server, made["token"], options.rounds)
            rows = [
                [to, *(f"{figure * 1000:.0f}" for figure in (statistics.median(took), max(took)))]
                for to, took in (("a client that waits", poll), ("a webhook", hook))
            ]
            print(table(["from commit to", "median, ms", "slowest, ms"], rows), "\n")
            quiet, busy, written, read = [], [], [], []
            for _ in range(options.rounds):
                quiet.append(load(server.port, verifier, options.seconds)["rate"])
                with writing(server, made["token"], options.seconds + 3) as count:
                    busy.append(load(server.port, verifier, options.seconds)["rate"])
                    wrote, seen = count()
                written.append(wrote / (options.seconds + 3))
                read.append(seen)
            rows = [
                ["nothing", f"{statistics.median(quiet):,.0f}", "0"],
                [
                    "events are written and read",
                    f"{statistics.median(busy):,.0f}",
                    f"{statistics.median(written):,.0f}",
                ],
            ]
            print(table(["meanwhile", "verified a second", "events a second"], rows))


if __name__ == "__main__":
    main()
