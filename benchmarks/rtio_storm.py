"""Many devices at once, as RTIO brings them: `python -m benchmarks.rtio_storm`.

After a restart all devices connect in the same moment. RTIO asks for each over a connection of its
own and waits 5 s in all; a device that was refused tries again after 2 s. Meanwhile other devices,
with chosen secrets, try a wrong one for ever. The server is what `make run` starts, on each kind of
database; every storm meets one that was just started. Printed is how many got in at once, what
went wrong with the others, how often they had to ask, and how long answers took.
"""

import argparse
import asyncio
import random
import resource
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from benchmarks import machine
from benchmarks.contenders import Contender, chosen, everyone
from benchmarks.registries import Registry, registry
from benchmarks.report import parsed, publish, table
from benchmarks.rtio import EVERY, Fleet, until_done

MAX_SECONDS = 120.0  # seconds that a fleet may take to be admitted
BEFOREHAND = 2 * EVERY  # seconds that wrong secrets are tried before the storm breaks
Known = Sequence[tuple[str, str]]  # identifiers and secrets
HEAD = (
    *("the server", "devices", "beside them", "in at once", "failures", "asked at most"),
    *("all in after s", "p50 ms", "p99 ms", "longest ms", "CPU s"),
)


@dataclass
class Storm:
    """What a fleet and those beside it were answered."""

    fleet: Fleet = field(default_factory=Fleet)
    wrong: Fleet = field(default_factory=Fleet)
    attempts: Counter[int] = field(default_factory=Counter)
    seconds: float = 0.0
    cpu: float = 0.0

    async def run(self, port: int, fleet: Known, wrong: Known) -> None:
        """Let the fleet ask until the last device is in, or for as long as it may take."""
        beside = [
            asyncio.create_task(
                self.wrong.ask_until_admitted(port, *one, after=random.uniform(0, EVERY))
            )
            for one in wrong
        ]
        await asyncio.sleep(BEFOREHAND if wrong else 0)
        began = time.perf_counter()
        devices = [asyncio.create_task(self.fleet.ask_until_admitted(port, *one)) for one in fleet]
        admitted = await until_done(devices, *beside, seconds=MAX_SECONDS)
        self.seconds = time.perf_counter() - began
        self.attempts.update(device.result() for device in admitted)

    def row(self, name: str, devices: int, wrong: int) -> list[str]:
        admitted = self.attempts.total()
        after = f"{self.seconds:.1f}" if admitted == devices else f"never: {admitted:,} were"
        failures = Fleet(self.fleet.answers - Counter(OK=admitted))
        return [
            name,
            f"{devices:,}",
            f"{wrong:,}: {self.wrong.summary}" if wrong else "nobody",
            f"{self.attempts[1]:,}",
            failures.summary,
            f"{max(self.attempts, default=0)} ×",
            after,
            *(f"{self.fleet.milliseconds(share):,.0f}" for share in (0.5, 0.99, 1)),
            f"{self.cpu:.1f}",
        ]


def measure(contender: Contender, asked: Registry, devices: int, wrong: int) -> Storm:
    """Start a server, let the storm break over it, and stop it."""
    _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))  # each device has a connection
    storm = Storm()
    known = random.sample(asked.read("known"), devices)
    guesses = [(identifier, "wrong") for identifier, _ in asked.read("chosen")[:wrong]]
    with contender.serving(asked.url) as server:
        before = machine.cpu_seconds(server.process)
        asyncio.run(storm.run(server.port, known, guesses))
        storm.cpu = machine.cpu_seconds(server.process) - before
    return storm


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", default="2000,5000", help="of each storm")
    parser.add_argument("--wrong", type=int, default=200, help="others, with a wrong secret")
    parser.add_argument("--registered", type=int, default=100_000, help="devices in all")
    parser.add_argument(
        "--only", nargs="+", default=["postgresql", "sqlite", "fastapi"], help="of the contenders"
    )
    options = parsed(parser)
    sizes = [int(size) for size in options.devices.split(",")]
    rows = []
    with ExitStack() as stack:
        registered = max(options.registered, *sizes)
        registries: dict[str, Registry] = {}

        def on(kind: str) -> Registry:
            if kind not in registries:
                full = registry(kind, registered, "--chosen", str(options.wrong))
                registries[kind] = stack.enter_context(full)
            return registries[kind]

        contenders = chosen(everyone(on("PostgreSQL").folder), options.only)
        for size in sizes:
            for contender in contenders:
                storm = measure(contender, on(contender.database), size, options.wrong)
                rows.append(storm.row(contender.name, size, options.wrong))
                print(*rows[-1], sep=" | ", flush=True)
    publish("storm", f"{machine.description()}\n\n{table(HEAD, rows)}", write=options.write)


if __name__ == "__main__":
    main()
