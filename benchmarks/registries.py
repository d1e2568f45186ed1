"""Registries full of devices, each on a database of its own that is gone afterwards."""

import base64
import os
import pickle
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import psycopg

from benchmarks import machine
from tests.support import postgres

DATABASES = ("PostgreSQL", "SQLite")
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


@contextmanager
def registry(kind: str, devices: int, *seeding: str) -> Iterator[Registry]:
    """Yield a registry in a database of that kind; `seeding` are options of `benchmarks.seed`."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if kind == "SQLite":
            url, process = f"sqlite:///{folder / 'benchmark.sqlite3'}", None
        else:
            url = stack.enter_context(postgres.running(settings=()))
            with psycopg.connect(url) as connection:
                process = machine.parent(connection.info.backend_pid)
        for words in (
            ["manage.py", "migrate", "--verbosity", "0"],
            ["-m", "benchmarks.seed", str(devices), str(folder), *seeding],
        ):
            subprocess.run([sys.executable, *words], env=environment(url), check=True)
        yield Registry(url, folder, process)
