"""How fast the machine endpoints are, beside what others would write: `make bench`.

In each round every contender is started, asked each of its questions, and stopped, so that
whatever else the machine does meets all of them. Requests are drawn from as many as there are
devices, and every answer is checked. Printed are medians of the rounds with the least and the most;
a ratio is the median of the ratios within each round. CPU time is that of a request, of all
processes of a server; it says more than the rate where the machine has other things to do.
"""

import argparse
import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from benchmarks import machine, wrk
from benchmarks.contenders import Contender, Running, chosen, everyone
from benchmarks.registries import Registry, registry
from benchmarks.report import number, parsed, publish, table
from benchmarks.seed import FRAME

Figures = dict[str, float]
Key = tuple[str, str]  # how it was asked, and who

POSTGRESQL, SQLITE = "Authsite, PostgreSQL", "Authsite, SQLite"
TUNED = "FastAPI, asyncpg, HMAC, no reset of connections"
EMPTY = "an empty Django view"
SETTLE = 11  # seconds after which what is written behind the requests is written (10 s later)
KEEP_ALIVE, FRESH = "keep-alive", "a new connection each"
LASTING = {mode: f"{mode}, for long" for mode in (KEEP_ALIVE, FRESH)}
HALF = {mode: f"{mode}, at half of the full rate" for mode in (KEEP_ALIVE, FRESH)}
WRK = {mode: f"{mode}, by wrk" for mode in (KEEP_ALIVE, FRESH)}
RATES = (
    *("requests/s (least–most)", "Authsite on PostgreSQL is", "p50 ms", "p99 ms", "server CPU µs"),
    *("PostgreSQL CPU µs", "generator, cores"),
)
DECISIONS = (
    *("", "verifications/s", "decisions/s, singly", "of the verifier", "CPU µs each"),
    *(f"decisions/s, frames of {FRAME}", "of singly", "CPU µs each"),
)
CALM = (
    *("requests/s", "p50 ms", "p99 ms", "p99 of p50", "tuned FastAPI's p99 at that rate, ms"),
    "an empty view's p50 and p99 at that rate, ms",
)


def load(
    port: int,
    exchanges: Path,
    seconds: float,
    *,
    connections: int = 32,
    fresh: bool = False,
    rate: float = 0,
) -> Figures:
    """Run the load generator in a process of its own and return what it measured."""
    words = [str(port), str(seconds), f"--connections={connections}", f"--rate={rate}"]
    command = [sys.executable, "-m", "benchmarks.load", *words, *(["--fresh"] if fresh else [])]
    with exchanges.open("rb") as file:
        done = subprocess.run(command, stdin=file, stdout=subprocess.PIPE, check=True)
    figures: Figures = json.loads(done.stdout)
    if figures["wrong"]:
        raise SystemExit(f"{exchanges.name}: {figures['wrong']} wrong answers")
    figures["rate"] = figures["answered"] / figures["seconds"]
    return figures


def measured(
    server: Running,
    asked: Registry,
    question: str,
    seconds: float,
    ask: Callable[..., Figures] = load,
) -> Figures:
    """Load a server, and note the CPU time of a request in microseconds."""
    processes = {"server": server.process, "database": asked.process}
    before = {name: machine.cpu_seconds(root) for name, root in processes.items() if root}
    figures = ask(server.port, asked.folder / question, seconds)
    for name, began in before.items():
        spent = machine.cpu_seconds(processes[name] or 0) - began
        figures[name] = spent / figures["answered"] * 1e6
    return figures


class Way(NamedTuple):
    """How a contender is asked: as fast as it answers, or evenly at a rate, by which generator."""

    mode: str
    rate: float = 0
    generator: Callable[..., Figures] = load
    lasts: bool = False  # once that many seconds have passed in which nothing was measured

    def given(self) -> dict[str, Any]:
        """Return what the generator is told of it."""
        rate = {"rate": self.rate} if self.rate else {}
        return {"fresh": self.mode.startswith(FRESH), **rate}


class Spread(NamedTuple):
    """The median of a figure, and the least and the most that it was in any round."""

    value: float
    least: float
    most: float


def spread(rounds: list[Figures], name: str = "rate") -> Spread:
    """Return what a figure was; 0 where there is none."""
    values = [figures.get(name, 0.0) for figures in rounds]
    return Spread(median(values), min(values), max(values))


class Results:
    """What was measured: for each way of asking and each contender, the figures of every round."""

    def __init__(self) -> None:
        self.rounds: defaultdict[Key, list[Figures]] = defaultdict(list)

    def run(
        self,
        contenders: list[Contender],
        registries: Mapping[str, Registry],
        options: argparse.Namespace,
    ) -> None:
        """Ask each contender in each round, on the registry of its kind of database."""
        for done in range(options.rounds):
            for contender in contenders:
                self.measure(contender, registries[contender.database or "PostgreSQL"], options)
            print(f"round {done + 1} of {options.rounds}", file=sys.stderr, flush=True)

    def measure(self, contender: Contender, asked: Registry, options: argparse.Namespace) -> None:
        """Start a contender for each question that it answers, ask it, and stop it.

        So that no question is asked while what another left behind is written.
        """
        connections = options.connections
        for question in contender.questions:
            with contender.serving(asked.url) as server:
                exchanges = asked.folder / question
                load(server.port, exchanges, options.seconds / 4, connections=connections)
                for way in self.ways(contender, question):
                    ask = partial(way.generator, connections=connections, **way.given())
                    if way.lasts:  # what requests leave behind is written meanwhile
                        ask(server.port, exchanges, options.settle)
                    figures = measured(server, asked, question, options.seconds, ask)
                    self.rounds[way.mode, contender.name].append(figures)

    def ways(self, contender: Contender, question: str) -> Iterator["Way"]:
        """Yield how a question is put: fully and, as fast as that was, at half of the rate."""
        lasts = contender.writes_behind
        yield Way(question if question in {"authorize", "frames"} else KEEP_ALIVE)
        if question == "verifier":
            yield Way(FRESH)
        if question in {"verifier", "empty"}:
            for mode in LASTING.values() if lasts else ():
                yield Way(mode, lasts=True)
            for mode, rate in self.half_rates(contender.name):
                yield Way(mode, rate, lasts=lasts)
        for mode in WRK.values() if question == "verifier" and wrk.PROGRAM else ():
            yield Way(mode, generator=wrk.load)

    def half_rates(self, name: str) -> list[tuple[str, float]]:
        """Return at which rates somebody is asked evenly: half of those just reached, by name.

        The tuned competitor and an empty view are also asked at our rates of this round.
        """
        rates = [(half, rate / 2) for half, rate in self.full_rates(name)]
        for other in (POSTGRESQL, SQLITE) if name in (TUNED, EMPTY) else ():
            rates += [(f"{half}, of {other}", rate / 2) for half, rate in self.full_rates(other)]
        return rates

    def full_rates(self, name: str) -> Iterator[tuple[str, float]]:
        """Yield the full rates of this round, those that last where they are known."""
        for mode, half in HALF.items():
            known = self.rounds.get((LASTING[mode], name)) or self.rounds.get((mode, name))
            if known:
                yield half, known[-1]["rate"]

    def has(self, name: str) -> bool:
        return (KEEP_ALIVE, name) in self.rounds

    def of(self, mode: str) -> Iterator[tuple[str, list[Figures]]]:
        """Yield who was asked in a way, with the figures."""
        for (asked, name), rounds in self.rounds.items():
            if asked == mode:
                yield name, rounds

    def ratio(self, first: Key, second: Key) -> float | None:
        """Return how many times the rate of the second is that of the first, if both are known."""
        pairs = zip(self.rounds.get(first, []), self.rounds.get(second, []), strict=False)
        ratios = [one["rate"] / other["rate"] for one, other in pairs]
        return median(ratios) if ratios else None

    def rates(self, mode: str) -> str:
        """Return the table of a way of asking, whoever is asked."""
        rows = []
        for name, rounds in self.of(mode):
            rate = spread(rounds)
            ratio = self.ratio((mode, POSTGRESQL), (mode, name))
            rows.append(
                [
                    name,
                    f"{number(rate.value)} ({number(rate.least)}–{number(rate.most)})",
                    f"{ratio:.2f} ×" if ratio else "",
                    *(f"{spread(rounds, each).value:,.2f}" for each in ("p50", "p99")),
                    *(f"{spread(rounds, each).value:,.0f}" for each in ("server", "database")),
                    f"{spread(rounds, 'cpu').value:.2f}",
                ]
            )
        return table([mode, *RATES], rows)

    def at_half_load(self, mode: str) -> str:
        """Return the table of half the load."""
        rows = []
        for name, rounds in self.of(HALF[mode]):
            rate, p50, p99 = (spread(rounds, each).value for each in ("rate", "p50", "p99"))
            tuned, empty = (
                self.rounds.get((f"{HALF[mode]}, of {name}", other)) for other in (TUNED, EMPTY)
            )
            rows.append(
                [
                    *(name, f"{rate:,.0f}", f"{p50:.2f}", f"{p99:.2f}", f"{p99 / p50:.1f} ×"),
                    f"{spread(tuned, 'p99').value:.2f}" if tuned else "",
                    waits(empty) if empty else "",
                ]
            )
        return table([HALF[mode], *CALM], rows)

    def decisions(self) -> str:
        rows = []
        for name, singly in self.of("authorize"):
            frames = self.rounds["frames", name]
            of_verifier = self.ratio(("authorize", name), (KEEP_ALIVE, name)) or 0
            of_singly = FRAME * (self.ratio(("frames", name), ("authorize", name)) or 0)
            rows.append(
                [
                    name,
                    f"{spread(self.rounds[KEEP_ALIVE, name]).value:,.0f}",
                    f"{spread(singly).value:,.0f}",
                    f"{of_verifier:.2f} ×",
                    f"{cpu(singly):,.0f}",
                    f"{FRAME * spread(frames).value:,.0f}",
                    f"{of_singly:.1f} ×",
                    f"{cpu(frames) / FRAME:,.0f}",
                ]
            )
        return table(DECISIONS, rows)

    def tables(self) -> list[str]:
        """Return a table of each way of asking."""
        return [
            self.rates(KEEP_ALIVE),
            self.rates(FRESH),
            *map(self.rates, LASTING.values()),
            *map(self.at_half_load, HALF),
            *(self.rates(mode) for mode in WRK.values() if wrk.PROGRAM),
            self.decisions(),
        ]


def cpu(rounds: list[Figures]) -> float:
    """Return the CPU time of a request, the server's and the database's, in microseconds."""
    return spread(rounds, "server").value + spread(rounds, "database").value


def waits(rounds: list[Figures]) -> str:
    """Return a median and a 99th percentile, with their ratio."""
    p50, p99 = (spread(rounds, each).value for each in ("p50", "p99"))
    return f"{p50:.2f}, {p99:.2f} ({p99 / p50:.1f} ×)"


def parser(description: str | None, *, rounds: int, seconds: float) -> argparse.ArgumentParser:
    """Return the options of what asks contenders in rounds."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--devices", type=int, default=100_000)
    made.add_argument("--rounds", type=int, default=rounds)
    made.add_argument(
        "--seconds", type=float, default=seconds, help="of each question in each round"
    )
    made.add_argument("--settle", type=float, default=SETTLE, help="seconds of an even rate before")
    made.add_argument("--connections", type=int, default=32)
    return made


def main() -> None:
    words = parser(__doc__, rounds=5, seconds=10)
    words.add_argument("--only", nargs="+", help="of the contenders")
    words.add_argument("--quick", action="store_true", help="see that it works; no figures")
    options = parsed(words)
    if options.quick:
        options.devices, options.rounds, options.seconds, options.settle = 1000, 1, 0.5, 0.1
    results = Results()
    with ExitStack() as stack:
        registries = {"PostgreSQL": stack.enter_context(registry("PostgreSQL", options.devices))}
        known = everyone(registries["PostgreSQL"].folder)
        contenders = chosen(known, options.only or known)
        if any(contender.database == "SQLite" for contender in contenders):
            registries["SQLite"] = stack.enter_context(registry("SQLite", options.devices))
        results.run(contenders, registries, options)
    conditions = (
        f"{options.devices:,} devices, {options.connections} connections, {options.rounds} rounds "
        f"of {options.seconds:g} s, {machine.description()}."
    )
    publish("compare", "\n\n".join([conditions, *results.tables()]), write=options.write)


if __name__ == "__main__":
    main()
