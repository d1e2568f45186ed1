"""What devices notice of other load; `benchmarks.targets` has it measured.

Beside verifications that come evenly, over a new connection each, at once: slow clients, who
announce a body and send a byte a second of it; guesses at devices that do not exist, one after the
other; and an import of 100,000 devices by `manage.py`.
"""

import argparse
import csv
import random
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.compare import Figures, load
from benchmarks.contenders import ours
from benchmarks.registries import Registry, environment
from benchmarks.rtio import question

HEAD = b"POST /deviceverifier HTTP/1.1\r\nHost: registry\r\nContent-Length: 150\r\n\r\n"
GUESSERS = 8  # connections


@contextmanager
def other_load(port: int, slow: int) -> Iterator[None]:
    """Keep so many slow clients and the guessers of a server busy for as long as the block runs."""
    ended = threading.Event()
    threads = [threading.Thread(target=drip, args=(port, slow, ended))]
    threads += [threading.Thread(target=guess, args=(port, ended)) for _ in range(GUESSERS)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        for thread in threads:
            thread.join()


def drip(port: int, slow: int, ended: threading.Event) -> None:
    """Be so many slow clients until the load ends."""
    with ExitStack() as stack:
        clients = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(slow)
        ]
        for client in clients:
            client.sendall(HEAD)
        while not ended.wait(1):
            for client in clients:
                client.sendall(b"x")


def guess(port: int, ended: threading.Event) -> None:
    """Guess at one unknown device after the other until the load ends."""
    with socket.create_connection(("127.0.0.1", port)) as client:
        while not ended.is_set():
            client.sendall(question(1, str(uuid.uuid4()), f"guess {random.random()}"))
            if not client.recv(4096):
                return


def rows_of(folder: Path, devices: int) -> Path:
    """Write a file of new devices to import, with a secret to be generated for each."""
    path = folder / "import.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["identifier", "name", "groups"])
        writer.writerows([str(uuid.uuid4()), f"Lamp {n}", "imported"] for n in range(devices))
    return path


def measure(
    asked: Registry, database: str, options: argparse.Namespace, seconds: float
) -> Iterator[tuple[str, Figures]]:
    """Yield what the verifier's percentiles are beside nobody, and beside the other load."""
    verifier = asked.folder / "verifier"
    with ours(database).serving(asked.url) as server:
        load(server.port, verifier, seconds / 4)
        yield "nobody", load(server.port, verifier, seconds, fresh=True, rate=options.rate)
        file = rows_of(asked.folder, options.devices)
        command = [sys.executable, "manage.py", "import_devices", str(file), "--create-groups"]
        with (
            other_load(server.port, options.slow),
            subprocess.Popen(
                command, env=environment(asked.url), stdout=subprocess.DEVNULL
            ) as importer,
        ):
            try:
                beside = load(server.port, verifier, seconds, fresh=True, rate=options.rate)
                if importer.poll():
                    raise SystemExit("the import failed")
                yield "all of them", beside
            finally:
                importer.terminate()
