"""A primary and its standbys: real PostgreSQL processes, to be killed, frozen and cut off."""

import os
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg

from tests.support.postgres import await_answer, free_port, initialize, launch, prepare

PATIENCE = 30  # seconds
SETTINGS = (
    "wal_level=replica",
    "hot_standby=on",
    "max_wal_senders=10",
    "wal_log_hints=on",
    "wal_keep_size=256MB",
    "wal_sender_timeout=5s",
    "wal_receiver_timeout=5s",
    "max_standby_streaming_delay=1s",
    "hot_standby_feedback=on",
    "fsync=off",  # the machine itself is not killed in any drill
    "max_connections=150",
    "shared_buffers=64MB",
)
ACCESS = "host all all 127.0.0.1/32 trust\nhost replication all 127.0.0.1/32 trust\n"
EVERY = "FIRST {count} (*)"


def family_of(pid: int) -> list[int]:
    """Return a process and its children; the process alone where it has ended."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        children = []
    return [pid, *map(int, children)]


class Relay:
    """A TCP relay between two nodes that can be cut, as a network is: nothing comes through."""

    def __init__(self, target: int) -> None:
        self.port = free_port()
        self._target = target
        self._flows = threading.Event()
        self._flows.set()
        self._server = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Let nothing through from now on; connections stay open, as in a cut network."""
        self._flows.clear()

    def mend(self) -> None:
        self._flows.set()

    def close(self) -> None:
        self._server.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _address = self._server.accept()
            except OSError:
                return
            if not self._flows.is_set():
                continue
            try:
                server = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                client.close()
                continue
            with suppress(OSError):
                for source, target in ((client, server), (server, client)):
                    source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    threading.Thread(target=self._pump, args=(source, target), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while block := source.recv(65536):
                self._flows.wait()
                target.sendall(block)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        source.close()  # each end by whoever reads it


class Node:
    """One PostgreSQL with its data; `Nodes` ends them all."""

    def __init__(self, root: Path, name: str, programs: Path, account: dict[str, Any]) -> None:
        self.name = name
        self.port = free_port()
        self.folder = root / name
        self.programs = programs
        self.account = account
        self.log = root / f"{name}.log"
        self.process: subprocess.Popen[bytes] | None = None

    def url(self, database: str = "authsite") -> str:
        return f"postgres://postgres@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Return once it answers."""
        self.process = launch(
            self.programs, self.folder, self.port, SETTINGS, self.log, self.account
        )
        await_answer(self.url("postgres"), self.process, self.log)

    def pids(self) -> list[int]:
        """Return its processes, the main one first."""
        if self.process is None or self.process.poll() is not None:
            return []
        return family_of(self.process.pid)

    def process_called(self, title: str) -> int:
        """Return the process of that title, such as `startup`."""
        for pid in self.pids():
            with suppress(OSError):
                words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
                if f"postgres: {title}" in words:
                    return pid
        raise RuntimeError(f"{self.name} has no process {title}")

    def signal(self, number: signal.Signals) -> None:
        for pid in self.pids():
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def kill(self) -> None:
        """End it as a power cut would."""
        self.signal(signal.SIGKILL)
        if self.process is not None:
            self.process.wait(PATIENCE)
            self.process = None

    def pause(self) -> None:
        """Stop its processes; the kernel goes on acknowledging what is sent to them."""
        self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.signal(signal.SIGCONT)

    def connect(self, database: str = "authsite", **options: Any) -> "psycopg.Connection[Any]":
        """Return a connection that commits each statement."""
        return psycopg.connect(self.url(database), autocommit=True, connect_timeout=5, **options)

    def execute(self, statement: str, database: str = "authsite") -> list[tuple[Any, ...]]:
        """Run a statement and return its rows, if it has any."""
        with self.connect(database) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def promote(self) -> None:
        """Make this standby the primary; return once it takes writes."""
        self.execute("SELECT pg_promote(true, 30)", "postgres")
        self.configure("synchronous_standby_names", "")

    def configure_file(self, name: str, value: str) -> None:
        """Change a setting of a node that does not run."""
        with (self.folder / "postgresql.auto.conf").open("a") as settings:
            settings.write(f"{name} = '{value}'\n")

    def configure(self, name: str, value: str) -> None:
        """Change a setting at run time."""
        self.execute(f"ALTER SYSTEM SET {name} = '{value}'", "postgres")
        self.execute("SELECT pg_reload_conf()", "postgres")


class Nodes:
    """A primary and `count` standbys, each behind a relay that can be cut."""

    def __init__(self, root: Path, count: int = 2) -> None:
        self._root = root
        programs, self._account = prepare(root)
        self.programs = programs
        initialize(root, programs, self._account)
        (root / "data").rename(root / "primary")
        with (root / "primary" / "pg_hba.conf").open("w") as rules:
            rules.write(ACCESS)
        self.primary = self._node("primary")
        self.primary.start()
        self.primary.execute("CREATE DATABASE authsite", "postgres")
        self.relays: list[Relay] = []
        self.standbys = [self.add_standby(f"standby{number}") for number in range(1, count + 1)]

    def _node(self, name: str) -> Node:
        return Node(self._root, name, self.programs, self._account)

    def add_standby(self, name: str) -> Node:
        """Copy the primary into a standby of that name, which follows it through a relay."""
        relay = Relay(self.primary.port)
        self.relays.append(relay)
        node = self._node(name)
        subprocess.run(
            [
                *(self.programs / "pg_basebackup", "--pgdata", node.folder, "--no-sync"),
                *("--write-recovery-conf", "--checkpoint=fast", "--wal-method=stream", "--dbname"),
                f"host=127.0.0.1 port={relay.port} user=postgres application_name={name}",
            ],
            check=True,
            **self._account,
        )
        # What the primary was told with ALTER SYSTEM came along; the standby has no say in it.
        node.start()
        return node

    def be_strict(self, names: str = "") -> None:
        """Have each commit wait until all standbys, or those that are named, show it."""
        self.primary.configure("synchronous_commit", "remote_apply")
        self.primary.configure(
            "synchronous_standby_names", names or EVERY.format(count=len(self.standbys))
        )
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            states = self.primary.execute(
                "SELECT sync_state FROM pg_stat_replication WHERE sync_state <> 'async'"
            )
            if len(states) >= len(self.standbys):
                return
            time.sleep(0.1)
        raise RuntimeError("the standbys do not follow")

    def url(self) -> str:
        """Return the URL of whichever node takes writes."""
        hosts = ",".join(f"127.0.0.1:{node.port}" for node in (self.primary, *self.standbys))
        return f"postgres://postgres@{hosts}/authsite?target_session_attrs=read-write"

    def close(self) -> None:
        for node in (self.primary, *self.standbys):
            node.resume()
            node.kill()
        for relay in self.relays:
            relay.mend()
            relay.close()


@contextmanager
def cluster(count: int = 2) -> Iterator[Nodes]:
    """Yield a primary with `count` standbys; all end with the block."""
    with (
        tempfile.TemporaryDirectory(prefix="authsite-drill-") as folder,
        closing(Nodes(Path(folder), count)) as made,
    ):
        yield made
