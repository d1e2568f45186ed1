"""What devices notice of other load: `python -m benchmarks.mixed_load`.

Beside verifications that come evenly, over a new connection each, at once: slow clients, who
announce a body and send a byte a second of it; guesses at devices that do not exist, one after the
other; and an import of 100,000 devices by `manage.py`. For each kind of database, without and with
them: the verifier's percentiles, which are to stay below TARGET, and what came of the others.
"""

import argparse
import csv
import random
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks import machine
from benchmarks.compare import load
from benchmarks.contenders import ours
from benchmarks.registries import DATABASES, Registry, environment, registry
from benchmarks.report import table
from benchmarks.rtio import question

TARGET = 100  # ms, the 99th percentile
HEAD = b"POST /deviceverifier HTTP/1.1\r\nHost: registry\r\nContent-Length: 150\r\n\r\n"
GUESSERS = 8  # connections


class OtherLoad:
    """Slow clients and guessers of one server, until the block ends."""

    def __init__(self, port: int, slow: int) -> None:
        self._port = port
        self._slow = slow
        self._ended = threading.Event()
        self.guesses = 0
        self._threads = [threading.Thread(target=self._drip)]
        self._threads += [threading.Thread(target=self._guess) for _ in range(GUESSERS)]

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Keep them busy for as long as the block runs."""
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._ended.set()
            for thread in self._threads:
                thread.join()

    def _drip(self) -> None:
        with ExitStack() as stack:
            clients = [
                stack.enter_context(socket.create_connection(("127.0.0.1", self._port)))
                for _ in range(self._slow)
            ]
            for client in clients:
                client.sendall(HEAD)
            while not self._ended.wait(1):
                for client in clients:
                    client.sendall(b"x")

    def _guess(self) -> None:
        with socket.create_connection(("127.0.0.1", self._port)) as client:
            while not self._ended.is_set():
                client.sendall(question(1, str(uuid.uuid4()), f"guess {random.random()}"))
                if not client.recv(4096):
                    return
                self.guesses += 1


def rows_of(folder: Path, devices: int) -> Path:
    """Write a file of new devices to import, with a secret to be generated for each."""
    path = folder / "import.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["identifier", "name", "groups"])
        writer.writerows([str(uuid.uuid4()), f"Lamp {n}", "imported"] for n in range(devices))
    return path


def measure(asked: Registry, database: str, options: argparse.Namespace) -> list[list[str]]:
    """Return the rows of a kind of database: alone, and beside the other load."""
    words = ("--fresh", "--rate", str(options.rate))
    verifier = asked.folder / "verifier"
    rows = []
    with ours(database).serving(asked.url) as server:
        load(server.port, verifier, options.seconds / 4)
        alone = load(server.port, verifier, options.seconds, *words)
        rows.append([database, "nobody", f"{alone['p50']:.1f}", f"{alone['p99']:.1f}", "", ""])
        others = OtherLoad(server.port, options.slow)
        file = rows_of(asked.folder, options.devices)
        command = [sys.executable, "manage.py", "import_devices", str(file), "--create-groups"]
        began = time.monotonic()
        with (
            others.kept(),
            subprocess.Popen(
                command, env=environment(asked.url), stdout=subprocess.DEVNULL
            ) as importer,
        ):
            beside = load(server.port, verifier, options.seconds, *words)
            state = "under way"
            if importer.poll() is not None or options.wait:
                importer.wait()
                state = f"done after {time.monotonic() - began:.0f} s"
            importer.terminate()
        figures = [f"{beside['p50']:.1f}", f"{beside['p99']:.1f}"]
        rows.append([database, "all of them", *figures, f"{others.guesses:,}", state])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", type=int, default=100_000, help="registered, and imported")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--rate", type=float, default=200, help="verifications a second")
    parser.add_argument("--slow", type=int, default=50, help="slow clients")
    parser.add_argument("--only", choices=DATABASES, help="one kind of database")
    parser.add_argument("--wait", action="store_true", help="until the import is done")
    options = parser.parse_args()
    rows = []
    for database in [options.only] if options.only else DATABASES:
        with registry(database, options.devices) as asked:
            rows += measure(asked, database, options)
    print(machine.description(), f"{options.rate:g} verifications a second.", sep="; ")
    print(table(["", "beside it", "p50 ms", "p99 ms", "guesses answered", "the import"], rows))


if __name__ == "__main__":
    main()
