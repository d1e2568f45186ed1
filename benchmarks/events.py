"""Measure events: `python -m benchmarks.events [--rounds N] [--seconds S]`.

On a PostgreSQL of its own: how long after its commit an event reaches a client that waits and a
webhook, and how many devices are verified a second, with and without 1,000 events a second that
are written, read by a client and sent to nobody. Load and writers share the machine's cores.
"""

import argparse
import pickle
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

import httpx

from benchmarks.compare import load
from benchmarks.contenders import Running, ours
from benchmarks.registries import empty, set_up
from benchmarks.report import table
from benchmarks.seed import verification
from tests.support.receiver import receiver

DEVICES = 500
EVENTS = 1000  # a second
KNOWN = f"{0:036d}"  # the device that is verified
STARTING = 1.5  # seconds of writing and reading before devices are verified


def fill() -> tuple[str, str]:
    """Add the devices, a key of the one that is verified, and a token; return both secrets."""
    from django.contrib.auth.models import User

    from authsite.accounts.tokens.models import ApiToken
    from devices import history
    from devices.models import Device, PreSharedKey

    history.bulk_create([Device(identifier=f"busy-{n:031d}") for n in range(DEVICES)])
    _key, secret = PreSharedKey.objects.issue(device=Device.objects.create(identifier=KNOWN))
    admin = User.objects.create_superuser("bench")
    _token, text = ApiToken.objects.issue(owner=admin, name="t", scopes=["devices.view_event"])
    return secret, text


def add_webhook(url: str) -> None:
    """Have each new device told to that address."""
    from devices.events.models import Webhook

    webhook = Webhook(name="bench", url=url, kinds=["device.created"])
    webhook.new_secret()
    webhook.save()


def write_until(end: float) -> int:
    """Switch the devices on and off in turn, so many events a second; return how many."""
    from django.db import connection

    from devices.models import Device

    busy = Device.objects.filter(identifier__startswith="busy-")
    state, due, written = True, time.time(), 0
    while time.time() < end:
        state = not state
        written += busy.set_enabled(enabled=state)
        due += DEVICES / EVENTS
        time.sleep(max(0.0, due - time.time()))
    connection.close()  # this thread's
    return written


class Client:
    """A program that reads the stream of events."""

    def __init__(self, server: Running, token: str) -> None:
        self._address = f"http://127.0.0.1:{server.port}/api/v1/events"
        self._headers = {"Authorization": f"Bearer {token}", "Host": "registry"}
        self.cursor = "latest"

    def read(self, wait: int) -> float:
        """Read on, and wait so many seconds for the next event; return when the answer came."""
        query: dict[str, Any] = {"after": self.cursor, "wait": wait, "limit": 1000}
        answer = httpx.get(self._address, params=query, headers=self._headers, timeout=60)
        self.cursor = answer.raise_for_status().json()["cursor"]
        return time.time()

    def read_until(self, end: float) -> None:
        """Read everything that comes."""
        self.read(0)
        while time.time() < end:
            self.read(1)


def delays(client: Client, rounds: int) -> dict[str, list[float]]:
    """Return the seconds from commits to a client that waits, and to a webhook."""
    from devices.models import Device

    took: dict[str, list[float]] = {"a client that waits": [], "a webhook": []}
    deliver = [sys.executable, "manage.py", "deliver"]
    with receiver() as host, ThreadPoolExecutor() as threads:
        add_webhook(host.url("/ok"))
        with subprocess.Popen(deliver) as delivering:
            try:
                time.sleep(3)  # it starts
                for number in range(rounds):
                    client.read(0)
                    waiting = threads.submit(client.read, 10)
                    time.sleep(0.3)
                    Device.objects.create(identifier=f"one-{number}")
                    committed = time.time()
                    took["a client that waits"].append(waiting.result() - committed)
                    host.await_requests(number + 1)
                    came = time.time() - (time.monotonic() - host.times[-1])
                    took["a webhook"].append(came - committed)
            finally:
                delivering.terminate()
    return took


def rates(
    server: Running, client: Client, verifier: Path, options: argparse.Namespace
) -> Sequence[list[float]]:
    """Return how many devices are verified a second without events and beside them, and those."""
    quiet, busy, written = [], [], []
    seconds = options.seconds + 2 * STARTING
    for _ in range(options.rounds):
        quiet.append(load(server.port, verifier, options.seconds)["rate"])
        with ThreadPoolExecutor() as threads:
            end = time.time() + seconds
            reading = threads.submit(client.read_until, end)
            writing = threads.submit(write_until, end)
            time.sleep(STARTING)
            busy.append(load(server.port, verifier, options.seconds)["rate"])
            written.append(writing.result() / seconds)
            reading.result()
    return quiet, busy, written


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0)
    options = parser.parse_args()
    variables = {"API_RATE": "0", "WORKERS": "2"}
    variables |= {"WEBHOOK_HTTP": "on", "WEBHOOK_NETWORKS": "127.0.0.0/8"}
    with empty("PostgreSQL") as registry:
        set_up(registry.url, **variables)
        secret, token = fill()
        verifier = registry.folder / "verifier"
        verifier.write_bytes(pickle.dumps([verification(KNOWN, secret)]))
        with ours("PostgreSQL").serving(registry.url) as server:
            client = Client(server, token)
            rows = [
                [to, f"{median(took) * 1000:.0f}", f"{max(took) * 1000:.0f}"]
                for to, took in delays(client, options.rounds).items()
            ]
            print(table(["from commit to", "median, ms", "slowest, ms"], rows), "\n")
            quiet, busy, written = rates(server, client, verifier, options)
            rows = [["nothing", f"{median(quiet):,.0f}", "0"]]
            beside = [f"{median(busy):,.0f}", f"{median(written):,.0f}"]
            rows.append(["events are written and read", *beside])
            print(table(["meanwhile", "verified a second", "events a second"], rows))


if __name__ == "__main__":
    main()
