"""What a server carries for long, with all that it writes: `python -m benchmarks.endurance`.

Full load, or an even rate, for an hour unless told otherwise. Prints a row for the beginning and
for each twelfth of the time: the rate and the 99th percentile since the row before, memory of the
workers, the size of the database, its log on disk and what was written to it since the beginning.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psycopg

from benchmarks import machine
from benchmarks.compare import Figures, load
from benchmarks.contenders import WORKERS, Running, ours
from benchmarks.registries import DATABASES, Registry, registry
from benchmarks.report import parsed, publish, table

STAGES = 12
HEAD = (
    *("verifications/s", "p99 ms", "largest worker, MiB", "all workers", "database, MiB"),
    *("its log on disk, MiB", "log written, MiB"),
)
MIB = 2**20


class Sizes(NamedTuple):
    """Bytes of a database, of its log on disk, and of all that was ever written to the log.

    SQLite does not say the last one: 0.
    """

    database: int
    log: int
    written: int


class Stage(NamedTuple):
    """What there is after so many seconds; how requests were answered since the stage before."""

    seconds: float
    workers: list[float]  # MiB, the largest first
    sizes: Sizes
    answered: Figures | None

    def row(self, first: "Stage") -> list[str]:
        """Return the cells of a table's row; what was written is counted from the first stage."""
        figures = self.answered
        return [
            f"after {self.seconds:,.0f} s",
            *((f"{figures['rate']:,.0f}", f"{figures['p99']:.1f}") if figures else ("", "")),
            f"{self.workers[0]:.0f}",
            f"{sum(self.workers):.0f}",
            f"{self.sizes.database / MIB:,.0f}",
            f"{self.sizes.log / MIB:,.0f}",
            self.written(first),
        ]

    def written(self, first: "Stage") -> str:
        """Return the MiB written to the database's log since a stage; empty where it is unknown."""
        if not self.sizes.written:
            return ""
        return f"{(self.sizes.written - first.sizes.written) / MIB:,.0f}"


def stages(
    asked: Registry, kind: str, seconds: float, *, count: int = STAGES, rate: float = 0
) -> Iterator[Stage]:
    """Load a server of ours for that long; yield what there is before, and after each part."""
    with ours(kind).serving(asked.url) as server:
        load(server.port, asked.folder / "verifier", min(0.5, seconds))
        began = time.monotonic()
        yield Stage(0, resident(server), sizes(asked), None)
        for _ in range(count):
            figures = load(server.port, asked.folder / "verifier", seconds / count, rate=rate)
            yield Stage(time.monotonic() - began, resident(server), sizes(asked), figures)


def resident(server: Running) -> list[float]:
    """Return the resident memory of each worker in MiB, the largest first."""
    processes = machine.family(server.process)
    del processes[server.process]
    found = sorted((process.resident for process in processes.values()), reverse=True)
    return [size / MIB for size in found[:WORKERS]]


def sizes(asked: Registry) -> Sizes:
    """Return how large a database and its log are."""
    if asked.process is None:
        path = Path(asked.url.removeprefix("sqlite:///"))
        log = path.with_name(f"{path.name}-wal")
        return Sizes(path.stat().st_size, log.stat().st_size if log.exists() else 0, 0)
    with psycopg.connect(asked.url) as connection:
        row = connection.execute(
            "SELECT pg_database_size(current_database()), (SELECT sum(size) FROM pg_ls_waldir()), "
            "pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')"
        ).fetchone()
    return Sizes(*map(int, row or (0, 0, 0)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3600, help="of load, on each database")
    parser.add_argument("--devices", type=int, default=100_000)
    parser.add_argument("--rate", type=float, default=0, help="requests a second; 0: full load")
    parser.add_argument("--only", choices=DATABASES, help="one kind of database")
    options = parsed(parser)
    texts = [f"{options.devices:,} devices, {machine.description()}."]
    for kind in [options.only] if options.only else DATABASES:
        rows: list[list[str]] = []
        with registry(kind, options.devices, "--only-devices") as asked:
            first: Stage | None = None
            for stage in stages(asked, kind, options.seconds, rate=options.rate):
                first = first or stage
                rows.append(stage.row(first))
                print(*rows[-1], sep="\t", file=sys.stderr, flush=True)
        texts.append(table((kind, *HEAD), rows))
    publish("endurance", "\n\n".join(texts), write=options.write)


if __name__ == "__main__":
    main()
