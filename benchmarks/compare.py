"""How fast the machine endpoints are, beside what others would write: `make bench`.

In each round every contender is started, asked each of its questions, and stopped, so that
whatever else the machine does meets all of them. Requests are drawn from as many as there are
devices, and every answer is checked. Printed are medians of the rounds with the least and the most.
"""

import argparse
import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from benchmarks import machine
from benchmarks.contenders import Contender, Running, everyone
from benchmarks.registries import Registry, registry

Figures = dict[str, float]
MODES = {
    "keep-alive": "keep-alive",
    "fresh": "a new connection for each request",
    "steady": "half of the requests/s above, evenly",
}
BASE = "Authsite, PostgreSQL"
SLOW_CONNECTIONS = 4


def load(port: int, exchanges: Path, seconds: float, *words: str) -> Figures:
    """Run the load generator in a process of its own and return what it measured."""
    command = [sys.executable, "-m", "benchmarks.load", str(port), str(seconds), *words]
    with exchanges.open("rb") as file:
        done = subprocess.run(command, stdin=file, stdout=subprocess.PIPE, check=True)
    figures: Figures = json.loads(done.stdout)
    if figures["wrong"]:
        raise SystemExit(f"{exchanges.name}: {figures['wrong']} wrong answers")
    figures["rate"] = figures["answered"] / figures["seconds"]
    return figures


def measured(
    server: Running, asked: Registry, exchanges: str, seconds: float, *words: str
) -> Figures:
    """Load a server, and note the CPU time of a request in microseconds."""
    processes = {"server": server.process, "database": asked.process}
    before = {name: machine.cpu_seconds(root) for name, root in processes.items() if root}
    figures = load(server.port, asked.folder / exchanges, seconds, *words)
    for name, began in before.items():
        spent = machine.cpu_seconds(processes[name] or 0) - began
        figures[name] = spent / max(1, figures["answered"]) * 1e6
    return figures


class Results:
    """What was measured: for each way of asking and each row, the figures of every round."""

    def __init__(self) -> None:
        self.rounds: defaultdict[tuple[str, str], list[Figures]] = defaultdict(list)

    def measure(self, contender: Contender, asked: Registry, options: argparse.Namespace) -> None:
        """Start a contender, ask it all that it answers, and stop it."""
        connections = SLOW_CONNECTIONS if contender.is_slow else options.connections
        words = ("--connections", str(connections))
        with contender.serving(asked.url) as server:
            for exchanges, row in contender.questions.items():
                load(server.port, asked.folder / exchanges, options.seconds / 4, *words)
                best = measured(server, asked, exchanges, options.seconds, *words)
                self.rounds["keep-alive", row].append(best)
                if exchanges != "verifier":
                    continue
                for mode, more in (
                    ("fresh", ["--fresh"]),
                    ("steady", ["--rate", str(best["rate"] / 2)]),
                ):
                    figures = measured(server, asked, exchanges, options.seconds, *words, *more)
                    self.rounds[mode, row].append(figures)

    def table(self, mode: str) -> Iterator[str]:
        """Yield the lines of a Markdown table."""
        yield (
            f"| {MODES[mode]} | requests/s | ours are | p50 ms | p99 ms "
            "| server, CPU µs | PostgreSQL, CPU µs | generator, cores |"
        )
        yield "|---|---:|---:|---:|---:|---:|---:|---:|"
        base = self.rounds[mode, BASE]
        for (of, row), rounds in self.rounds.items():
            if of != mode:
                continue
            ratios = [ours["rate"] / one["rate"] for ours, one in zip(base, rounds, strict=False)]
            yield (
                f"| {row} | {spread(rounds, 'rate', ',.0f')} "
                f"| {median(ratios):.2f} × | {middle(rounds, 'p50'):.2f} "
                f"| {middle(rounds, 'p99'):.2f} | {middle(rounds, 'server'):,.0f} "
                f"| {middle(rounds, 'database'):,.0f} | {middle(rounds, 'cpu'):.2f} |"
            )


def middle(rounds: list[Figures], name: str) -> float:
    """Return the median of a figure."""
    return median(figures.get(name, 0.0) for figures in rounds)


def spread(rounds: list[Figures], name: str, form: str) -> str:
    """Return the median of a figure, and the least and the most."""
    values = [figures[name] for figures in rounds]
    return f"{median(values):{form}} ({min(values):{form}}–{max(values):{form}})"


def main() -> None:
    """Measure, and print tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4, help="of each question in each round")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--only", help="of the contenders, separated by commas")
    parser.add_argument("--quick", action="store_true", help="see that it works; no figures")
    options = parser.parse_args()
    if options.quick:
        options.devices, options.rounds, options.seconds = 1000, 1, 0.5
    print(
        f"{options.devices:,} devices, {options.connections} connections, {machine.description()}",
        flush=True,
    )
    results = Results()
    with ExitStack() as stack:
        registries = {"PostgreSQL": stack.enter_context(registry("PostgreSQL", options.devices))}
        contenders = everyone(registries["PostgreSQL"].folder)
        if options.only:
            contenders = {name: contenders[name] for name in options.only.split(",")}
        if any(contender.database == "SQLite" for contender in contenders.values()):
            registries["SQLite"] = stack.enter_context(registry("SQLite", options.devices))
        for _ in range(options.rounds):
            for contender in contenders.values():
                asked = registries[contender.database or "PostgreSQL"]
                results.measure(contender, asked, options)
    for mode in MODES:
        print("", *results.table(mode), sep="\n")


if __name__ == "__main__":
    main()
