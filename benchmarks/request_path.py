"""Trace one request and count our files on its way: `python -m benchmarks.request_path`.

Loads the demo registry into a database of its own, puts the request a few times to warm up, then
under a profiler, and prints each file of ours in the order of its first call, how often the way
changes from one file to another, and how many statements Django's cursors run for it. `verify` is
RTIO's question about a device, through the ASGI application as the server calls it; `rotate` is
staff's *rotate a key*.
"""

import argparse
import asyncio
import io
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx

from benchmarks.registries import empty, set_up

ROOT = Path(__file__).resolve().parent.parent
Prepare = Callable[[], Callable[[], object]]  # returns a request that is ready to be sent
FOLDERS = tuple(f"{ROOT / name}{os.sep}" for name in ("acl", "authsite", "devices", "rpc"))
WARM = 10
FORM = "application/x-www-form-urlencoded"  # as a browser sends a form without files
KNOWN = "cfa09baa-4913-4ad7-a936-2e26f9671b05"


class Trace:
    """The files of ours that calls are made in, in their order."""

    def __init__(self) -> None:
        self.steps: list[str] = []

    def __call__(self, frame: Any, event: str, _argument: object) -> None:
        """Note the file of a call of a Python function; what comes back to it is no step."""
        file = frame.f_code.co_filename
        if event == "call" and file.startswith(FOLDERS):
            name = str(Path(file).relative_to(ROOT))
            if not self.steps or self.steps[-1] != name:
                self.steps.append(name)

    def of(self, run: Callable[[], object]) -> "Trace":
        sys.setprofile(self)
        try:
            run()
        finally:
            sys.setprofile(None)
        return self


def verification() -> Prepare:
    """Return what asks the verifier, as the server does."""
    from authsite.asgi import application, askers
    from devices.models import Device, PreSharedKey
    from rpc.commands.registry import KEYS

    _key, secret = PreSharedKey.objects.issue(device=Device.objects.get(identifier=KNOWN))
    question = {"method": "verify", "id": 1999, "deviceid": KNOWN, "devicesecret": secret}
    client = httpx.AsyncClient(transport=httpx.ASGITransport(application))
    loop = asyncio.new_event_loop()

    def ask() -> None:
        url = "http://testserver/deviceverifier"
        answered = loop.run_until_complete(client.post(url, json=question)).text
        if '"code":"OK"' not in answered:
            raise SystemExit(f"the verifier answers {answered}")
        loop.run_until_complete(asyncio.sleep(0))  # what the client has left open ends

    ask()  # in a thread, while another opens the connection of the loop
    while not askers[KEYS].is_open:
        loop.run_until_complete(asyncio.sleep(0.01))
    return lambda: ask


def rotation() -> Prepare:
    """Return what posts the form of *rotate a key* as an administrator."""
    from django.contrib.auth import get_user_model
    from django.test import Client
    from django.urls import reverse

    from devices.models import Device

    user = get_user_model().objects.create_superuser("tracer", password="no password of anyone")
    client = Client()
    client.force_login(user)
    device = Device.objects.get(identifier=KNOWN)
    path = reverse("admin:devices_device_rotate_keys", args=[device.pk])

    def ready() -> Callable[[], object]:
        form = client.get(path).content.decode()
        token = re.search(r'name="token" value="([^"]+)"', form)
        if token is None:
            raise SystemExit("the page to rotate a key has no token")
        content = {"label": "traced", "overlap": "0", "token": token[1]}
        return lambda: client.post(path, urlencode(content), content_type=FORM)

    return ready


REQUESTS = {"verify": verification, "rotate": rotation}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("request", nargs="?", choices=REQUESTS, default="verify")
    parser.add_argument("--steps", action="store_true", help="print each change of file")
    options = parser.parse_args()
    with empty("SQLite") as registry:
        set_up(registry.url, ALLOWED_HOSTS="testserver", EVIDENCE_INTERVAL="10")
        trace_request(REQUESTS[options.request], steps=options.steps)


def trace_request(prepare: Callable[[], Prepare], *, steps: bool) -> None:
    """Print what one request passes."""
    from django.core.management import call_command
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    from devices.database import last_used
    from rpc.journal import journal

    call_command("seed_demo", stdout=io.StringIO())
    ready = prepare()
    for _ in range(WARM):  # each connection of the pool, the writers' threads, what is loaded late
        ready()()
    trace = Trace().of(ready())
    run = ready()
    with CaptureQueriesContext(connection) as queries:
        run()
    files = list(dict.fromkeys(trace.steps))
    print("\n".join(trace.steps if steps else files))
    for worker in (journal, last_used.worker):
        worker.flush()  # into the folder, not after it is gone
    print(f"{len(files)} files, {len(trace.steps) - 1} changes of file, {len(queries)} statements")


if __name__ == "__main__":
    main()
