"""A real server on a registry of its own, for the tests that speak to it from outside."""

import atexit
import http.client
import json
import os
import secrets
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple, Self
from urllib.parse import urlsplit

import psycopg
import pytest
from django.db import connection

from tests.support.commands import python
from tests.support.environment import NOT_SET
from tests.support.postgres import SCHEMES, Cluster, cluster, free_port

PATIENCE = 20  # seconds, for an answer or a stop
STARTING = 60  # seconds, for a start while other suites keep the machine busy
PEPPERS = "test-2:bmV3ZXN0IHBlcHBlciBmb3IgdGVzdHMsIDMyIGJ5dGVz"


class Answer(NamedTuple):
    """An HTTP response, read to its end."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes


class Staff(NamedTuple):
    """Who may sign in."""

    name: str
    password: str


class Server:
    """`manage.py serve` as a process; `with` starts and ends it. `log` is all that it wrote."""

    staff: Staff
    process: "subprocess.Popen[bytes]"
    base: Path = Path(__file__).resolve().parents[2]  # whose code runs

    def __init__(self, folder: Path, database_url: str, **environment: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.database_url = database_url
        self.log_path = folder / f"server-{self.port}.log"
        self.environment = {
            **NOT_SET,
            **{
                name: os.environ[name] for name in ("PATH", "HOME", "WORKERS") if name in os.environ
            },
            "DJANGO_SETTINGS_MODULE": "authsite.settings",
            "SECRET_KEY": "for tests only, and long enough not to be complained about",
            "PEPPERS": PEPPERS,
            "DATABASE_URL": database_url,
            "CACHE_URL": "locmemcache://",
            "BACKEND_NETWORKS": "127.0.0.1/32,::1/128",
            "TRUSTED_PROXIES": "",
            "ALLOWED_HOSTS": "127.0.0.1,localhost",
            "HTTPS": "off",
            "EVIDENCE_INTERVAL": "1",
            "DRAIN_SECONDS": "0",
            **environment,
        }

    def furnish(self) -> None:
        """Add to the demo what every page needs to have something to show."""
        self.run("-m", "tests.e2e.furnish")

    def manage(self, *words: str, stdin: str = "") -> str:
        """Run a management command on the server's registry and return what it printed."""
        return self.run("manage.py", *words, stdin=stdin)

    def run(self, *words: str, stdin: str = "") -> str:
        """Run Python in the environment of the server and return what it printed."""
        done = self.attempt(*words, stdin=stdin)
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout

    def attempt(self, *words: str, stdin: str = "") -> "subprocess.CompletedProcess[str]":
        """Run Python in the environment of the server, whatever comes of it."""
        return python(*words, cwd=self.base, env=self.environment, input=stdin, timeout=None)

    def __enter__(self) -> Self:
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "manage.py", "serve", "--port", str(self.port)],
                cwd=self.base,
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.await_answer()
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()

    def await_answer(self) -> None:
        """Return once the server answers a request."""
        deadline = time.monotonic() + STARTING
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                self.ask("GET", "/deviceverifier")
            except OSError:
                time.sleep(0.05)
            else:
                return
        self.stop()  # not at once: the workers of one that is killed live on
        raise AssertionError(f"the server did not start: {self.log}")

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """End the server if it runs; return its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        try:
            return self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise

    @property
    def workers(self) -> set[int]:
        """The process IDs of its workers: all children but that of multiprocessing's own."""
        main = self.process.pid
        children = Path(f"/proc/{main}/task/{main}/children").read_text().split()
        found = set()
        for pid in children:
            with suppress(FileNotFoundError):  # it has ended meanwhile
                if b"resource_tracker" not in Path(f"/proc/{pid}/cmdline").read_bytes():
                    found.add(int(pid))
        return found

    @property
    def log(self) -> str:
        """What the server wrote so far."""
        return self.log_path.read_text()

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send a request with these headers, Host and Content-Length, and no others."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.putrequest(method, path, skip_accept_encoding=True)
            for name, value in (headers or {}).items():
                connection.putheader(name, value)
            if body is not None:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()


@contextmanager
def own_database(folder: Path, template: str = "") -> Iterator[str]:
    """Yield the URL of a database: a copy of the template, or an empty one as DATABASE_URL says."""
    url = os.environ.get("DATABASE_URL", "")
    name = f"authsite_{secrets.token_hex(6)}"
    if not (template or url).startswith(SCHEMES):
        path = folder / f"{name}.sqlite3"
        if template:
            shutil.copyfile(template.removeprefix("sqlite:///"), path)
        yield f"sqlite:///{path}"
        return
    if not url.startswith(SCHEMES):
        url = template
    copied = f" TEMPLATE {urlsplit(template).path[1:]}" if template else ""
    _execute(url, f"CREATE DATABASE {name}{copied}")
    try:
        yield urlsplit(url)._replace(path=f"/{name}").geturl()
    finally:
        with suppress(psycopg.OperationalError):  # a cluster of a test's own may be gone
            _execute(url, f"DROP DATABASE {name} WITH (FORCE)")


def _execute(url: str, statement: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement.encode())


def _kept(template: str = "") -> Server:
    """Return a server that does not run, on a database of its own that goes with this process."""
    until_the_end = ExitStack()
    atexit.register(until_the_end.close)
    folder = Path(until_the_end.enter_context(tempfile.TemporaryDirectory()))
    return Server(folder, until_the_end.enter_context(own_database(folder, template)))


_migrated: dict[str, str] = {}  # URLs of empty registries by DATABASE_URL


def migrated(database_url: str) -> str:
    """Return the URL of an empty registry; it is made once for each DATABASE_URL and copied."""
    if given := given_registry(database_url):
        return given
    if database_url not in _migrated:
        server = _kept()
        server.manage("migrate", "--verbosity", "0")
        _migrated[database_url] = server.database_url
    return _migrated[database_url]


def given_registry(database_url: str) -> str:
    """Return the URL of the empty registry that EMPTY_POSTGRESQL or EMPTY_SQLITE name, if any.

    Programs that a test starts need not migrate once more, which takes seconds.
    """
    is_postgres = database_url.startswith(SCHEMES)
    return os.environ.get("EMPTY_POSTGRESQL" if is_postgres else "EMPTY_SQLITE", "")


def keep_migrated() -> None:
    """Copy the database of this process, which was just migrated, for servers of its tests."""
    database_url = os.environ.get("DATABASE_URL", "")
    if given_registry(database_url) or database_url in _migrated:
        return
    if database_url.startswith(SCHEMES):
        name = connection.settings_dict["NAME"]
        connection.close()  # nobody may be connected to what is copied
        template = urlsplit(database_url)._replace(path=f"/{name}").geturl()
        _migrated[database_url] = _kept(template).database_url
        return
    _migrated[database_url] = _kept().database_url
    with closing(sqlite3.connect(_migrated[database_url].removeprefix("sqlite:///"))) as copy:
        connection.ensure_connection()
        connection.connection.backup(copy)


@cache
def _demo(database_url: str) -> tuple[str, Staff]:
    """Return the URL of a demo registry that nothing serves, and who may sign in; see above."""
    server = _kept(migrated(database_url))
    seeded = json.loads(server.manage("seed_demo", "--staff-user", "admin", "--json"))
    return server.database_url, Staff("admin", seeded["password"])


@contextmanager
def empty_registry(folder: Path) -> Iterator[str]:
    """Yield the URL of a database of its own: all tables, and no row that no migration made."""
    with own_database(folder, migrated(os.environ.get("DATABASE_URL", ""))) as url:
        yield url


@contextmanager
def demo_database(folder: Path) -> Iterator[tuple[str, Staff]]:
    """Yield the URL of a demo registry of its own, and who may sign in."""
    template, staff = _demo(os.environ.get("DATABASE_URL", ""))
    with own_database(folder, template) as url:
        yield url, staff


@contextmanager
def demo_server(folder: Path, **environment: str) -> Iterator[Server]:
    """Yield a running server on a demo registry of its own; `server.staff` may sign in."""
    with demo_database(folder) as (url, staff):
        server = Server(folder, url, **environment)
        server.staff = staff
        with server:
            yield server


@pytest.fixture(scope="session")
def session_cluster() -> Iterator[Cluster]:
    """Return the PostgreSQL of `own_cluster`: to make one takes seconds."""
    with cluster() as made:
        yield made


@pytest.fixture
def own_cluster(session_cluster: Cluster) -> Iterator[Cluster]:
    """Return a PostgreSQL beside that of the other tests, which a test may stop; it runs again."""
    yield session_cluster
    session_cluster.start()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Return a server on the demo registry, for tests that leave it as it was."""
    with demo_server(tmp_path_factory.mktemp("server")) as running:
        yield running
