"""Registries full of devices, each on a database of its own that is gone afterwards."""

import base64
import os
import pickle
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import django
import psycopg

from benchmarks import machine
from tests.support import postgres
from tests.support.servers import given_registry, own_database

DATABASES = ("PostgreSQL", "SQLite")
SCHEMES = {"PostgreSQL": "postgres://", "SQLite": "sqlite://"}
PEPPER = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()


def environment(database_url: str) -> dict[str, str]:
    """Return the environment of our server and of what prepares its registry."""
    return os.environ | {
        "DATABASE_URL": database_url,
        "DJANGO_SETTINGS_MODULE": "authsite.settings",
        "SECRET_KEY": secrets.token_urlsafe(50),
        "PEPPERS": f"bench:{PEPPER}",
        "ALLOWED_HOSTS": "registry",
        "BACKEND_NETWORKS": "127.0.0.1/32",
        "HTTPS": "off",
        "LOG_LEVEL": "WARNING",
    }


class Registry(NamedTuple):
    """A database full of devices, the requests to ask of it, and its server's process if any."""

    url: str
    folder: Path
    process: int | None

    def read(self, name: str) -> Any:
        """Return what the seed wrote under a name."""
        return pickle.loads((self.folder / name).read_bytes())


def run(url: str, *words: str) -> None:
    """Run Python on that database, in the environment of our server."""
    subprocess.run([sys.executable, *words], env=environment(url), check=True)


@contextmanager
def database(kind: str, folder: Path) -> Iterator[tuple[str, int | None]]:
    """Yield the URL of a database of that kind, and the process of its server if any.

    It is empty; that of a trial run is a copy of the registry that was migrated for it.
    """
    given = given_registry(SCHEMES[kind])
    if kind == "SQLite" and not given:
        yield f"sqlite:///{folder / 'benchmark.sqlite3'}", None
        return
    with own_database(folder, given) if given else postgres.running(settings=()) as url:
        yield url, None if kind == "SQLite" else server_of(url)


def server_of(url: str) -> int:
    """Return the process of a PostgreSQL on this machine."""
    with psycopg.connect(url) as connection:
        return machine.parent(connection.info.backend_pid)


@contextmanager
def empty(kind: str) -> Iterator[Registry]:
    """Yield a registry without devices in a database of that kind."""
    with tempfile.TemporaryDirectory() as name, database(kind, Path(name)) as (url, process):
        if not given_registry(url):
            run(url, "manage.py", "migrate", "--verbosity", "0")
        yield Registry(url, Path(name), process)


@contextmanager
def registry(kind: str, devices: int, *seeding: str) -> Iterator[Registry]:
    """Yield a registry in a database of that kind; `seeding` are options of `benchmarks.seed`."""
    with empty(kind) as made:
        run(made.url, "-m", "benchmarks.seed", str(devices), str(made.folder), *seeding)
        yield made


def set_up(url: str, **more: str) -> None:
    """Have this process work on that database by Django, and with these variables besides."""
    os.environ |= environment(url) | more
    django.setup()
