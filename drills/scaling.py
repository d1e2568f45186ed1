"""`python -m drills.scaling`: what a check costs the sites and the database, in CPU time.

On a machine of few cores the rates of several sites say little; the ratio of CPU time says how many
sites one primary carries.
"""

import os
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
os.environ.setdefault("DATABASE_URL", "sqlite://:memory:")

from benchmarks.machine import cpu_seconds
from drills.nodes import Node
from drills.probe import Known, Probe, register
from drills.sites import migrated, site
from tests.support.servers import Server

SECONDS = 8


def cpu(roots: list[int]) -> float:
    """Return the CPU time, in seconds, that processes and their descendants have taken."""
    return sum(map(cpu_seconds, roots))


def measure(
    name: str, sites: list[Server], nodes: list[Node], devices: list[Known]
) -> tuple[float, float]:
    """Print and return the CPU time of a check in microseconds: of the sites, of the databases."""
    with ExitStack() as stack:
        for each in sites:
            stack.enter_context(each)
        time.sleep(2)
        with Probe(sites, devices, clients=8, pause=0.0) as probe:
            time.sleep(2)
            before = len(probe.answers)
            ours = [each.process.pid for each in sites]
            theirs = [node.process.pid for node in nodes if node.process is not None]
            began, site_cpu, node_cpu = time.monotonic(), cpu(ours), cpu(theirs)
            time.sleep(SECONDS)
            checks = len(probe.answers) - before
            site_cpu, node_cpu = cpu(ours) - site_cpu, cpu(theirs) - node_cpu
            rate = checks / (time.monotonic() - began)
    if probe.wrong() or probe.refused():
        raise SystemExit(f"{name}: {len(probe.wrong())} wrong, {probe.refused()} refused")
    costs = site_cpu / checks * 1e6, node_cpu / checks * 1e6
    print(
        f"| {name} | {rate:,.0f} | {costs[0]:.0f} µs | {costs[1]:.0f} µs | "
        f"{costs[0] / costs[1]:.1f} |",
        flush=True,
    )
    return costs


def main() -> None:
    """Measure one, two and four sites on one primary, metrics, and answers from a standby."""
    print("| sites | checks a second | CPU of the site | CPU of PostgreSQL | ratio |")
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="authsite-drill-") as name:
        folder = Path(name)
        with migrated(folder, standbys=1) as (nodes, server):
            devices = register(server, 200)
            url, everyone = nodes.primary.url(), [nodes.primary, *nodes.standbys]
            for count in (1, 2, 4):
                sites = [site(folder, url) for _ in range(count)]
                measure(f"{count} on one primary", sites, [nodes.primary], devices)
            metrics = site(folder, url, METRICS_NETWORKS="127.0.0.1/32")
            measure("1, metrics counted", [metrics], [nodes.primary], devices)
            measure("1 on one primary, again", [site(folder, url)], [nodes.primary], devices)
            nodes.be_strict()
            measure("1, strict standby beside it", [site(folder, url)], everyone, devices)
            leased = site(folder, url, ANSWERS_URL=nodes.standbys[0].url())
            measure("1, answers from that standby", [leased], everyone, devices)


if __name__ == "__main__":
    main()
