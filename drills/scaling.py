"""`python -m drills.scaling`: what a check costs the sites and the database, in CPU time.

On a machine of few cores the rates of several sites say little; the ratio of CPU time says how many
sites one primary carries. What is compared (metrics, a standby, a pooler) is measured in turns, and
its rows are the means.
"""

import os
import shutil
import statistics
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
os.environ.setdefault("DATABASE_URL", "sqlite://:memory:")

from benchmarks.machine import cpu_seconds
from drills.nodes import Node
from drills.probe import Known, Probe, register
from drills.sites import migrated, site
from drills.upgrades import pooler
from tests.support.servers import Server

SECONDS = 5
ROUNDS = 2


class Cost(NamedTuple):
    """Checks a second, and the CPU time of one in microseconds: of the sites, of the databases."""

    rate: float
    site: float
    database: float


def measure(sites: list[Server], nodes: list[Node], devices: list[Known]) -> Cost:
    """Return what a check costs these sites and nodes."""
    with ExitStack() as stack:
        for each in sites:
            stack.enter_context(each)
        time.sleep(1)
        with Probe(sites, devices, clients=8, pause=0.0) as probe:
            time.sleep(2)
            before = len(probe.answers)
            ours = [each.process.pid for each in sites]
            theirs = [node.process.pid for node in nodes if node.process is not None]
            began = time.monotonic()
            site_cpu, node_cpu = (sum(map(cpu_seconds, roots)) for roots in (ours, theirs))
            time.sleep(SECONDS)
            checks = len(probe.answers) - before
            site_cpu = sum(map(cpu_seconds, ours)) - site_cpu
            node_cpu = sum(map(cpu_seconds, theirs)) - node_cpu
            rate = checks / (time.monotonic() - began)
    if probe.wrong() or probe.refused():
        raise SystemExit(f"{len(probe.wrong())} wrong, {probe.refused()} refused")
    return Cost(rate, site_cpu / checks * 1e6, node_cpu / checks * 1e6)


def show(name: str, costs: list[Cost]) -> None:
    """Print the means as a row of the table in docs/scaling.md."""
    rate, ours, theirs = (statistics.mean(values) for values in zip(*costs, strict=True))
    print(
        f"| {name} | {rate:,.0f} | {ours:.0f} µs | {theirs:.0f} µs | {ours / theirs:.1f} |",
        flush=True,
    )


def main() -> None:
    """Measure one, two and four sites on one primary, metrics, a standby and a pooler."""
    print("| sites | checks a second | CPU of the site | CPU of PostgreSQL | ratio |")
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="authsite-drill-") as root, ExitStack() as stack:
        folder = Path(root)
        nodes, server = stack.enter_context(migrated(folder, standbys=1))
        devices = register(server, 200)
        url, everyone = nodes.primary.url(), [nodes.primary, *nodes.standbys]
        for count in (1, 2, 4):
            sites = [site(folder, url) for _ in range(count)]
            show(f"{count} on one primary", [measure(sites, [nodes.primary], devices)])
        nodes.be_strict()
        compared: dict[str, dict[str, str]] = {
            "1, strict standby beside it": {},
            "1, metrics counted": {"METRICS_NETWORKS": "127.0.0.1/32"},
            "1, answers from that standby": {"ANSWERS_URL": nodes.standbys[0].url()},
        }
        if shutil.which("pgbouncer"):
            pooled = stack.enter_context(pooler(folder, nodes.primary))
            compared["1, behind PgBouncer"] = {"DATABASE_URL": pooled, "DATABASE_POOLER": "on"}
        costs: dict[str, list[Cost]] = {name: [] for name in compared}
        for _ in range(ROUNDS):
            for name, settings in compared.items():
                costs[name].append(measure([site(folder, url, **settings)], everyone, devices))
        for name in compared:
            show(name, costs[name])


if __name__ == "__main__":
    main()
