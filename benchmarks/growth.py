"""What a check costs by the size of the registry: `python -m benchmarks.growth`.

Registries of several sizes take turns. Memory and sizes over time: `benchmarks.endurance`.
"""

import argparse
from collections import defaultdict
from contextlib import ExitStack

from benchmarks import machine
from benchmarks.compare import Figures, cpu, load, measured, spread
from benchmarks.contenders import ours
from benchmarks.registries import DATABASES, registry
from benchmarks.report import parsed, publish, table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="1000,100000,1000000", help="of registries")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4, help="of each size in each round")
    parser.add_argument("--only", choices=DATABASES, help="one kind of database")
    options = parsed(parser)
    sizes = [int(size) for size in options.sizes.split(",")]
    figures: defaultdict[tuple[str, int], list[Figures]] = defaultdict(list)
    with ExitStack() as stack:
        registries = {
            (kind, size): stack.enter_context(registry(kind, size, "--only-devices"))
            for kind in ([options.only] if options.only else DATABASES)
            for size in sizes
        }
        for _ in range(options.rounds):
            for (kind, size), asked in registries.items():
                with ours(kind).serving(asked.url) as server:
                    load(server.port, asked.folder / "verifier", options.seconds / 4)
                    seen = measured(server, asked, "verifier", options.seconds)
                    figures[kind, size].append(seen)
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
    publish("growth", f"{machine.description()}.\n\n{table(head, rows)}", write=options.write)


if __name__ == "__main__":
    main()
