"""What grows and what does not: `python -m benchmarks.growth`.

The resident memory of each worker: idle, under as many requests as an hour of 1,000 a second brings
(sent as fast as they are answered), and under questions about many devices that nobody knows. And
the cost of a check in registries of several sizes, which take turns.
"""

import argparse
import pickle
import random
import tempfile
import uuid
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from benchmarks import machine
from benchmarks.compare import Figures, cpu, load, measured, spread
from benchmarks.contenders import WORKERS, Running, ours
from benchmarks.registries import DATABASES, registry
from benchmarks.report import parsed, publish, table
from benchmarks.rtio import answer, question
from benchmarks.seed import DIFFERENT

HOUR = 3_600_000  # requests
STAGES = 6  # after which memory is looked at
SLICE = 5.0  # seconds of load at a time


def resident(server: Running) -> list[float]:
    """Return the resident memory of each worker in MiB, the largest first."""
    processes = machine.family(server.process)
    del processes[server.process]
    sizes = sorted((process.resident for process in processes.values()), reverse=True)
    return [size / 2**20 for size in sizes[:WORKERS]]


def memory(kind: str, devices: int, requests: int, unknown: int) -> str:
    """Return the table of one server's memory."""
    rows = []
    with (
        registry(kind, devices, "--only-devices") as asked,
        tempfile.TemporaryDirectory() as folder,
        ours(kind).serving(asked.url) as server,
    ):

        def note(what: str) -> None:
            sizes = resident(server)
            rows.append([what, *(f"{size:.0f}" for size in sizes), f"{sum(sizes):.0f}"])

        strangers = Path(folder, "unknown")
        strangers.write_bytes(
            pickle.dumps([unknown_device() for _ in range(min(unknown, DIFFERENT))])
        )
        note("idle")
        send(server, asked.folder / "verifier", requests, "verifications", note)
        send(server, strangers, unknown, "questions about unknown devices", note)
    workers = [f"worker {number + 1}, MiB" for number in range(WORKERS)]
    return table([f"{kind}, {devices:,} devices", *workers, "together"], rows)


def unknown_device() -> tuple[bytes, bytes]:
    """Return a question about a device that nobody knows, and its answer."""
    number = random.getrandbits(32)
    return question(number, str(uuid.uuid4()), "wrong"), answer(number, "NOT_FOUND")


def send(
    server: Running, exchanges: Path, count: int, name: str, note: Callable[[str], None]
) -> None:
    """Send so many requests, and note the memory after each stage."""
    sent = 0.0
    for stage in range(1, STAGES + 1):
        while sent < count * stage / STAGES:
            sent += load(server.port, exchanges, min(SLICE, count / 10_000))["answered"]
        note(f"after {sent:,.0f} {name}")


def cost(kinds: Sequence[str], sizes: Sequence[int], rounds: int, seconds: float) -> str:
    """Return the table of what a check costs in registries of those kinds and sizes."""
    figures: defaultdict[tuple[str, int], list[Figures]] = defaultdict(list)
    with ExitStack() as stack:
        registries = {
            (kind, size): stack.enter_context(registry(kind, size, "--only-devices"))
            for kind in kinds
            for size in sizes
        }
        for _ in range(rounds):
            for (kind, size), asked in registries.items():
                with ours(kind).serving(asked.url) as server:
                    load(server.port, asked.folder / "verifier", seconds / 4)
                    figures[kind, size].append(measured(server, asked, "verifier", seconds))
    rows = []
    for (kind, size), measurements in figures.items():
        rate, spent = spread(measurements), cpu(measurements)
        rows.append(
            [
                kind,
                f"{size:,}",
                f"{rate.value:,.0f} ({rate.least:,.0f}–{rate.most:,.0f})",
                f"{spent:,.0f}",
                f"{spent / cpu(figures[kind, sizes[0]]):.2f} ×",
            ]
        )
    head = ("", "devices", "checks/s (least–most)", "CPU µs each", f"of that at {sizes[0]:,}")
    return table(head, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=HOUR, help="whose memory is measured")
    parser.add_argument(
        "--unknown", type=int, default=6_000, help="about unknown devices, each a hash"
    )
    parser.add_argument("--devices", type=int, default=100_000, help="registered meanwhile")
    parser.add_argument("--sizes", default="1000,100000,1000000", help="of registries, for cost")
    parser.add_argument("--rounds", type=int, default=3, help="for cost")
    parser.add_argument("--seconds", type=float, default=4, help="of each size in each round")
    parser.add_argument("--only", choices=DATABASES, help="one kind of database")
    options = parsed(parser)
    sizes = [int(size) for size in options.sizes.split(",")]
    kinds = [options.only] if options.only else DATABASES
    texts = [
        f"{machine.description()}.",
        memory(kinds[0], options.devices, options.requests, options.unknown),
        cost(kinds, sizes, options.rounds, options.seconds),
    ]
    publish("growth", "\n\n".join(texts), write=options.write)


if __name__ == "__main__":
    main()
