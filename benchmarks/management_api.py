"""Measure the management API at size: `python -m benchmarks.management_api [--devices N]`.

Fills a PostgreSQL of its own like `benchmarks.admin_pages`, serves it, and asks as a token: each
list many times, then devices with keys in bulk, then everything as one stream.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx

from benchmarks.admin_pages import fill, measure
from benchmarks.report import table
from tests.support.postgres import running
from tests.support.servers import Server

LISTS = [
    "devices",
    "devices?limit=1000",
    "devices?cursor={cursor}",
    "devices?identifier={identifier}",
    "devices?identifier_prefix={prefix}",
    "devices?name_prefix=thermostat%2077",
    "devices?kind=backend",
    "devices?group=7",
    "devices/{pk}",
    "keys",
    "keys?device={pk}",
    "keys?ends_before=2999-01-01T00:00:00Z",
    "groups",
    "changes",
]
SCOPES = [
    *(f"devices.{verb}_device" for verb in ("view", "add", "change", "delete")),
    *(f"devices.view_{model}" for model in ("presharedkey", "devicegroup", "historicaldevice")),
    "devices.add_presharedkey",
]
ROWS = 1000  # in a bulk request


def token_of(server: Server) -> str:
    server.manage("createsuperuser", "--no-input", "--username=bench", "--email=")
    scopes = [word for scope in SCOPES for word in ("--scope", scope)]
    said = server.manage("create_token", "bench", "benchmark", "--no-end", "--json", *scopes)
    token: str = json.loads(said)["token"]
    return token


def lists(client: httpx.Client, stand_for: dict[str, str], times: int) -> list[list[str]]:
    """Ask each list; return rows of what it took in milliseconds."""
    middle = client.get("devices", params={"limit": 1}).json()["next"]
    stand_for["cursor"] = httpx.URL(middle).params["cursor"]
    rows = []
    for path in LISTS:
        _path, *figures = measure(client, path.format(**stand_for), times)
        assert any(figures), f"{path} is not answered"
        rows.append([f"`{path}`", *(f"{figure:.0f}" for figure in figures)])
    return rows


def bulk(client: httpx.Client, devices: int) -> str:
    """Create devices with keys and groups, so many at a time; return what it took."""
    started = time.perf_counter()
    for start in range(0, devices, ROWS):
        new: list[dict[str, Any]] = [
            {"identifier": f"bulk-{number}", "groups": [1 + number % 200], "key": {}}
            for number in range(start, start + ROWS)
        ]
        answer = client.post("devices/bulk-create", json={"devices": new})
        assert answer.status_code == 201, answer.text[:500]
        assert all(one["key"]["secret"] for one in answer.json()["devices"])
    took = time.perf_counter() - started
    return f"{devices:,} devices with keys and groups, {ROWS:,} a request: {took:.1f} s."


def stream(client: httpx.Client) -> str:
    """Read all devices as one stream; return what it took."""
    started, last = time.perf_counter(), ""
    with client.stream("GET", "devices/export") as answer:
        for line in answer.iter_lines():
            last = line or last
    end = json.loads(last)
    assert end["complete"]
    return f"{end['rows']:,} devices as one stream: {time.perf_counter() - started:.0f} s."


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--devices", type=int, default=1_000_000)
    parser.add_argument("--times", type=int, default=15, help="requests of each list")
    parser.add_argument("--bulk", type=int, default=10_000, help="devices created in bulk")
    parser.add_argument("--stream", action="store_true", help="export everything, too")
    arguments = parser.parse_args()
    with running() as url, tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder), url, DJANGO_SUPERUSER_PASSWORD="only for the benchmark")
        server.manage("migrate", "--verbosity", "0")
        stand_for = fill(url, arguments.devices)
        headers = {"Authorization": f"Bearer {token_of(server)}"}
        with server:
            base = f"{server.url}/api/v1/"
            with httpx.Client(base_url=base, headers=headers, timeout=600) as client:
                measured = lists(client, stand_for, arguments.times)
                print(table(["", "first", "median", "slowest"], measured))
                print(bulk(client, arguments.bulk))
                if arguments.stream:
                    print(stream(client))


if __name__ == "__main__":
    main()
