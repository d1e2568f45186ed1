"""Who is measured: ourselves and the competitors, each as a server that a `with` block starts."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from authsite.management.commands import serve
from benchmarks.registries import PEPPER, environment
from tests.support.postgres import free_port

HERE = Path(__file__).parent / "competitors"
PATIENCE = 60  # seconds, for a start
WORKERS = 2  # processes of each server, as many as `manage.py serve` starts
THREADS = 8


class Running(NamedTuple):
    """A server that answers."""

    port: int
    process: int


@dataclass(frozen=True)
class Contender:
    """A server, and the files of requests that it is asked."""

    words: list[str]
    name: str
    questions: tuple[str, ...]
    database: str = ""  # the kind that it runs on, if any
    variables: dict[str, str] = field(default_factory=dict)
    writes_behind: bool = False  # what requests leave, later

    @contextmanager
    def serving(self, database_url: str) -> Iterator[Running]:
        """Start it on a database; yield once it answers, and end it afterwards."""
        port = free_port()
        words = [word.format(port=port) for word in self.words]
        variables = environment(database_url) | self.variables
        with subprocess.Popen(words, env=variables, stdout=subprocess.DEVNULL) as server:
            try:
                await_answer(port, server)
                time.sleep(1)  # the other workers
                yield Running(port, server.pid)
            finally:
                server.send_signal(signal.SIGTERM)


def await_answer(port: int, server: "subprocess.Popen[bytes]") -> None:
    """Return once something listens; raises ConnectionRefusedError where nothing ever will."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            if server.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return


def ours(database: str) -> Contender:
    """Return the registry, as `make run` starts it."""
    return Contender(
        [sys.executable, "manage.py", "serve", "--port", "{port}"],
        f"Authsite, {database}",
        ("verifier", "authorize", "frames"),
        database,
        writes_behind=True,
    )


def handwritten(name: str, **variables: str) -> Contender:
    """Return FastAPI's verifier, in two processes."""
    return Contender(
        [
            *(sys.executable, "-m", "uvicorn", "benchmarks.competitors.handwritten:app"),
            *("--port", "{port}", "--workers", str(WORKERS), "--log-level", "warning"),
            *("--loop", "uvloop", "--http", "httptools", "--no-access-log"),
            *("--backlog", str(serve.BACKLOG)),
        ],
        f"FastAPI, asyncpg, {name}",
        ("verifier",),
        "PostgreSQL",
        {"PEPPER": PEPPER, **variables},
    )


def empty_view() -> Contender:
    """Return an empty Django view, on the server that `manage.py serve` starts for ours."""
    return Contender(
        [
            *(sys.executable, "-m", "granian", "django.core.wsgi:get_wsgi_application"),
            *("--factory", "--port", "{port}", "--interface", "wsgi", "--http", "1", "--no-ws"),
            *("--workers", str(WORKERS), "--blocking-threads", str(THREADS)),
            *("--blocking-threads-idle-timeout", "600"),
            *("--backlog", str(serve.BACKLOG), "--backpressure", str(serve.CONNECTIONS)),
        ],
        "an empty Django view",
        ("empty",),
        "PostgreSQL",  # beside which it is asked; it asks none itself
        {"DJANGO_SETTINGS_MODULE": "benchmarks.competitors.empty"},
    )


def compiled(folder: Path) -> Contender | None:
    """Return the verifier in Go, where there is a toolchain; nothing is fetched to compile it."""
    go = shutil.which("go")
    if go is None:
        return None
    offline = {"GOFLAGS": "-mod=mod", "GOTOOLCHAIN": "local", "GOPROXY": "off"}
    program = folder / "verifier-go"
    subprocess.run(
        [go, "build", "-o", program, HERE / "verifier.go"],
        env=os.environ | offline | {"GOCACHE": str(folder / "go-cache"), "CGO_ENABLED": "0"},
        check=True,
    )
    return Contender(
        [str(program), "{port}", str(folder / "devices.tsv")],
        "Go, all in memory",
        ("verifier",),
        variables={"PEPPER": PEPPER},
    )


def chosen(contenders: Mapping[str, Contender], names: Iterable[str]) -> list[Contender]:
    """Return the contenders of these short names."""
    if unknown := set(names) - contenders.keys():
        raise SystemExit(f"{', '.join(unknown)}: known are {', '.join(contenders)}")
    return [contenders[name] for name in names]


def everyone(folder: Path) -> dict[str, Contender]:
    """Return the contenders by short names; `folder` is that of PostgreSQL's requests."""
    contenders: dict[str, Contender | None] = {
        "postgresql": ours("PostgreSQL"),
        "sqlite": ours("SQLite"),
        "fastapi": handwritten("HMAC"),
        "fastapi-tuned": handwritten("HMAC, no reset of connections", RESET="off"),
        "empty": empty_view(),
        "go": compiled(folder),
    }
    return {name: contender for name, contender in contenders.items() if contender}
