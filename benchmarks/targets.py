"""Hold what is measured against what was aimed at: `python -m benchmarks.targets`.

The endpoints beside a tuned competitor (`benchmarks.compare`), company that must not be noticed
(`benchmarks.mixed_load`), how many devices may come at once before the first is lost
(`benchmarks.rtio_storm`), and what a server carries at full load for longer: memory of its workers,
size of the database, its log. Prints a row for each target, with what was measured and whether it
was reached. On two quiet cores it takes some ten minutes. The rates themselves, and those of other
competitors, are what `benchmarks.compare` prints.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import NamedTuple

from benchmarks import machine, mixed_load, rtio_storm
from benchmarks.compare import (
    EMPTY,
    FRESH,
    HALF,
    KEEP_ALIVE,
    LASTING,
    POSTGRESQL,
    SQLITE,
    TUNED,
    WRK,
    Results,
    parser,
    spread,
    waits,
)
from benchmarks.contenders import everyone, ours
from benchmarks.endurance import MIB, stages
from benchmarks.registries import DATABASES, Registry, registry
from benchmarks.report import parsed, publish, table
from benchmarks.seed import FRAME

OURS = (POSTGRESQL, SQLITE)
RATES = {
    (POSTGRESQL, KEEP_ALIVE): 1.25,
    (SQLITE, KEEP_ALIVE): 1.5,
    (POSTGRESQL, FRESH): 1.1,
    (SQLITE, FRESH): 1.1,
}
OF_MEDIAN = 3.0  # the 99th percentile
OF_VERIFIER = 0.8  # single decisions
IN_FRAMES = 25_000  # decisions a second
BESIDE = 100  # ms, the 99th percentile beside other load
GROWTH = 1.5  # from one size of a fleet to the next
MAX_FLEET = 24_000  # devices: each has a local port of its own, of 28,000


class Target(NamedTuple):
    """What was aimed at, what was measured, and whether that is enough."""

    name: str
    aim: str
    figure: str
    is_reached: bool

    def row(self) -> list[str]:
        return [self.name, self.aim, self.figure, "reached" if self.is_reached else "not reached"]


def rates(results: Results) -> Iterator[Target]:
    """Yield how many times the tuned competitor's rate ours are, by each generator."""
    ways = {KEEP_ALIVE: "keep-alive", FRESH: "new connections"}
    for (name, mode), least in RATES.items():
        for asked, other, how in (
            (mode, mode, ""),
            (LASTING[mode], mode, ", for long"),
            (WRK[mode], WRK[mode], " (wrk)"),
        ):
            ratio = results.ratio((asked, name), (other, TUNED))
            if ratio is not None:
                yield Target(
                    f"{name}, {ways[mode]}{how}: rate of tuned FastAPI's",
                    f"≥ {least} ×",
                    f"{ratio:.2f} ×",
                    ratio >= least,
                )


def tails(results: Results) -> Iterator[Target]:
    """Yield the 99th percentiles beside the median, and beside the tuned competitor's."""
    for name in filter(results.has, OURS):
        for mode in (KEEP_ALIVE, FRESH):
            for asked, other in (
                (mode, mode),
                (LASTING[mode], mode),
                (HALF[mode], f"{HALF[mode]}, of {name}"),
            ):
                rounds = results.rounds.get((asked, name))
                if not rounds:
                    continue
                p50, p99 = (spread(rounds, each).value for each in ("p50", "p99"))
                floor = results.rounds.get((other, EMPTY))
                beside = f"; {EMPTY}: {waits(floor)}" if floor else ""
                yield Target(
                    f"{name}, {asked}: p99 of p50",
                    f"≤ {OF_MEDIAN:g} ×",
                    f"{p99 / p50:.1f} × ({p99:.2f} of {p50:.2f} ms){beside}",
                    p99 <= OF_MEDIAN * p50,
                )
                if not results.has(TUNED):
                    continue
                tuned = spread(results.rounds[other, TUNED], "p99").value
                yield Target(
                    f"{name}, {asked}: p99 beside tuned FastAPI's",
                    f"≤ {tuned:.2f} ms",
                    f"{p99:.2f} ms",
                    p99 <= tuned,
                )


def decisions(results: Results) -> Iterator[Target]:
    for name in filter(results.has, OURS):
        ratio = results.ratio(("authorize", name), (KEEP_ALIVE, name)) or 0
        yield Target(
            f"{name}: single AuthorizeCommand, of the verifier's rate",
            f"≥ {OF_VERIFIER}",
            f"{ratio:.2f}",
            ratio >= OF_VERIFIER,
        )
        rate = FRAME * spread(results.rounds["frames", name]).value
        yield Target(
            f"{name}: decisions a second in frames of {FRAME}",
            f"≥ {IN_FRAMES:,}",
            f"{rate:,.0f}",
            rate >= IN_FRAMES,
        )


def company(asked: Registry, kind: str, options: argparse.Namespace) -> Iterator[Target]:
    """Yield what verifications notice of slow clients, guesses and a large import."""
    for beside, figures in mixed_load.measure(asked, kind, options, options.long / 2):
        yield Target(
            f"{kind}, beside {beside}: p99 of {options.rate:g} verifications a second",
            f"< {BESIDE} ms",
            f"{figures['p99']:.1f} ms (median {figures['p50']:.1f})",
            figures["p99"] < BESIDE,
        )


def fleets(asked: Registry, kind: str, first: int) -> str:
    """Return how many devices may come at once, and of how many the first are lost."""
    admitted, size = 0, first
    while size <= min(MAX_FLEET, len(asked.read("known"))):
        storm = rtio_storm.measure(ours(kind), asked, size, 0)
        late = size - storm.attempts[1]
        if late:
            return (
                f"{admitted:,} are all let in at the first attempt, of {size:,} {late:,} are not "
                f"(all in after {storm.seconds:.1f} s)"
            )
        admitted, size = size, int(size * GROWTH)
    return f"{admitted:,} are all let in at the first attempt; more were not tried"


def carried(asked: Registry, kind: str, seconds: float) -> list[str]:
    """Return what becomes of a server, and its database, under full load for that long."""
    before, after = stages(asked, kind, seconds, count=1)
    figures = after.answered or {}
    workers = len(after.workers)
    grown = (after.sizes.database - before.sizes.database) / MIB
    return [
        kind,
        f"{figures['rate']:,.0f}",
        f"{figures['p99']:.1f}",
        f"{sum(before.workers) / workers:.0f}",
        f"{sum(after.workers) / workers:.0f}",
        f"{before.sizes.database / MIB:,.0f}",
        f"{grown:+,.0f}",
        f"{grown * 3600 / after.seconds:+,.0f}",
        after.written(before),
    ]


def arguments() -> argparse.Namespace:
    words = parser(__doc__, rounds=2, seconds=3)
    words.add_argument("--long", type=float, default=40, help="seconds of full load")
    words.add_argument("--fleet", type=int, default=5_000, help="the first that comes at once")
    words.add_argument("--rate", type=float, default=200, help="beside other load")
    words.add_argument("--slow", type=int, default=50, help="slow clients of it")
    words.add_argument("--only", choices=DATABASES, help="one kind of database")
    return parsed(words)


def main() -> None:
    options = arguments()
    results = Results()
    reached: list[Target] = []
    with ExitStack() as stack:
        kinds = [options.only] if options.only else DATABASES
        registries = {kind: stack.enter_context(registry(kind, options.devices)) for kind in kinds}
        known = everyone(registries[kinds[0]].folder)
        contenders = [
            contender
            for contender in known.values()
            if contender.name in {*OURS, TUNED, EMPTY} and contender.database in registries
        ]
        results.run(contenders, registries, options)
        long, limits = [], []
        for kind, asked in registries.items():
            long.append(carried(asked, kind, options.long))
            limits.append([kind, fleets(asked, kind, options.fleet)])
            print(f"limits of {kind}", file=sys.stderr, flush=True)
        for kind, asked in registries.items():
            reached += company(asked, kind, options)
    aims: tuple[Callable[[Results], Iterator[Target]], ...] = (rates, tails, decisions)
    reached = [*(target for aim in aims for target in aim(results)), *reached]
    head = ("target", "aim", "measured", "")
    carry = (
        *("full load on", "verifications/s", "p99 ms", "MiB a worker, before", "after"),
        *("database, MiB", "grown by", "in an hour", "log written, MiB"),
    )
    conditions = (
        f"{options.devices:,} devices, {options.connections} connections, {options.rounds} rounds "
        f"of {options.seconds:g} s, full load for {options.long:g} s, {machine.description()}."
    )
    texts = [
        conditions,
        table(head, [target.row() for target in reached]),
        table(carry, long),
        table(("devices at once, each over a new connection, 5 s", ""), limits),
    ]
    publish("targets", "\n\n".join(texts), write=options.write)


if __name__ == "__main__":
    main()
