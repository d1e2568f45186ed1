"""How fast the machine endpoints are, beside an empty view on the same server: `make bench`.

For each database: a registry of many devices, the real server (`manage.py serve`), and rounds of
load in which the kinds of request take turns, so that whatever else the machine does meets all of
them. Printed are the medians of the rounds.
"""

import argparse
import json
import os
import platform
import secrets
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests import postgres

KINDS = {
    "empty": "an empty Django view",
    "bare": "the same before the middleware for browsers",
    "verifier": "RTIO verifier, generated secret",
    "authorize": "AuthorizeCommand",
}
TARGETS = {("SQLite", "verifier"): 0.45, ("PostgreSQL", "verifier"): 0.28}
PATIENCE = 20
Figures = dict[str, float]


def environment(database_url: str) -> dict[str, str]:
    """Return the environment of the server and of what prepares its registry."""
    return os.environ | {
        "DATABASE_URL": database_url,
        "DJANGO_SETTINGS_MODULE": "authsite.settings",
        "SECRET_KEY": secrets.token_urlsafe(50),
        "PEPPERS": "bench:" + secrets.token_hex(32),
        "ALLOWED_HOSTS": "registry",
        "BACKEND_NETWORKS": "127.0.0.1/32",
        "HTTPS": "off",
        "LOG_LEVEL": "WARNING",
    }


@contextmanager
def serving(variables: dict[str, str]) -> Iterator[int]:
    """Yield the port of a running server."""
    port = postgres.free_port()
    words = [sys.executable, "manage.py", "serve", "--port", str(port)]
    variables = variables | {"DJANGO_SETTINGS_MODULE": "benchmarks.settings"}
    with subprocess.Popen(
        words, env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as server:
        try:
            deadline = time.monotonic() + PATIENCE
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port)).close()
                    break
                except ConnectionRefusedError:
                    if server.poll() is not None or time.monotonic() > deadline:
                        raise
                    time.sleep(0.1)
            time.sleep(1)  # the other workers
            yield port
        finally:
            server.send_signal(signal.SIGTERM)


def load(port: int, seconds: float, connections: int, exchanges: Path) -> Figures:
    """Run the load generator in a process of its own and return what it measured."""
    with exchanges.open("rb") as file:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.load", str(port), str(seconds), str(connections)],
            stdin=file,
            stdout=subprocess.PIPE,
            check=True,
        )
    figures: Figures = json.loads(done.stdout)
    if figures["wrong"]:
        raise SystemExit(f"{exchanges.name}: {figures['wrong']} wrong answers")
    return figures


def measure(options: argparse.Namespace, database_url: str) -> dict[str, Figures]:
    """Return the medians of each kind of request on one database."""
    variables = environment(database_url)
    rounds: dict[str, list[Figures]] = {kind: [] for kind in KINDS}
    with tempfile.TemporaryDirectory() as folder:
        for words in (
            ["manage.py", "migrate", "--verbosity", "0"],
            ["-m", "benchmarks.seed", str(options.devices), folder],
        ):
            subprocess.run([sys.executable, *words], env=variables, check=True)
        with serving(variables) as port:
            for kind in KINDS:  # once unmeasured: connections, statements, pages
                load(port, 1, options.connections, Path(folder, kind))
            for _ in range(options.rounds):
                for kind in KINDS:
                    rounds[kind].append(
                        load(port, options.seconds, options.connections, Path(folder, kind))
                    )
    return {
        kind: {
            "requests/s": statistics.median(one["answered"] / one["seconds"] for one in figures),
            "p50": statistics.median(one["p50"] for one in figures),
            "p99": statistics.median(one["p99"] for one in figures),
        }
        for kind, figures in rounds.items()
    }


def report(database: str, medians: dict[str, Figures]) -> None:
    """Print one database's table."""
    print(f"\n| {database} | requests/s | p50 ms | p99 ms | of the empty view | of the bare one |")
    print("|---|---:|---:|---:|---:|---:|")
    base, bare = (medians[kind]["requests/s"] for kind in ("empty", "bare"))
    for kind, figures in medians.items():
        ratio = figures["requests/s"] / base
        target = TARGETS.get((database, kind))
        note = f" (target {target}{'' if ratio >= target else ': MISSED'})" if target else ""
        print(
            f"| {KINDS[kind]} | {figures['requests/s']:,.0f} | {figures['p50']:.2f} "
            f"| {figures['p99']:.2f} | {ratio:.2f}{note} | {figures['requests/s'] / bare:.2f} |"
        )


def machine() -> str:
    """Return what this ran on."""
    model = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
    return f"{os.cpu_count()} cores of {model}, Python {platform.python_version()}"


def main() -> None:
    """Measure on both databases, or on the one that was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2, help="of each kind in each round")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--database", choices=["sqlite", "postgres", "both"], default="both")
    options = parser.parse_args()
    print(f"{options.devices:,} devices, {options.connections} connections, {machine()}")
    if options.database != "postgres":
        with tempfile.TemporaryDirectory() as folder:
            report("SQLite", measure(options, f"sqlite:///{folder}/bench.sqlite3"))
    if options.database != "sqlite":
        with postgres.running(settings=()) as url:
            report("PostgreSQL", measure(options, url))


if __name__ == "__main__":
    main()
