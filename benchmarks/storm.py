"""What a storm of devices does to a device with a generated secret: `python -m benchmarks.storm`.

500 devices with a *chosen* secret each ask the running server every 2 s, each time over a new
connection, as RTIO does; beside them devices with *generated* ones are verified at a steady rate.
Every phase begins with a server that was just started and remembers nobody. Printed is how long
the generated ones waited (from the moment at which each was due), what the stormers were answered,
and the CPU time of the server's processes. DATABASE_URL chooses the kind of database.
"""

import argparse
import asyncio
import os
import pickle
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.rtio import EVERY, Crowd
from tests.support.servers import Server, own_database

STORMERS = 500
VERIFIED = 1000  # devices with generated secrets
RATE = 50  # verifications of generated secrets a second
MAX_LENGTH = 120.0  # seconds that a fleet may take to be admitted


async def verify_steadily(port: int, known: Sequence[tuple[str, str]], group: Crowd) -> None:
    """Ask for one device after another at a fixed rate, whatever became of those before."""
    async with asyncio.TaskGroup() as tasks:
        due = time.perf_counter()
        while True:
            tasks.create_task(group.ask(port, *random.choice(known)))
            due += 1 / RATE
            await asyncio.sleep(max(0.0, due - time.perf_counter()))


# --- The phases -----------------------------------------------------------------------------


@dataclass
class Phase:
    """One server, one crowd, and what was measured."""

    name: str
    right: bool = False  # whether the stormers know their secrets
    storms: bool = True
    throttle: dict[str, str] = field(default_factory=dict)
    generated: Crowd = field(default_factory=Crowd)
    crowd: Crowd = field(default_factory=Crowd)
    seconds: float = 0.0
    cpu: float = 0.0
    stormers: int = 0

    def run(self, folder: Path, url: str, seconds: float) -> None:
        """Start a server and measure; where the stormers are right, until all are admitted."""
        generated, chosen = (
            pickle.loads((folder / name).read_bytes()) for name in ("known", "chosen")
        )
        chosen = [
            (name, secret if self.right else "wrong") for name, secret in chosen if self.storms
        ]
        self.stormers = len(chosen)
        settings = {"DJANGO_SETTINGS_MODULE": "benchmarks.storm_settings", "LOG_LEVEL": "ERROR"}
        with Server(folder, url, **settings, **self.throttle) as server:
            time.sleep(1)  # the other worker
            before, began = machine.cpu_seconds(server.process.pid), time.perf_counter()
            asyncio.run(self.measure(server.port, generated, chosen, seconds))
            self.seconds = time.perf_counter() - began
            self.cpu = machine.cpu_seconds(server.process.pid) - before

    async def measure(
        self,
        port: int,
        generated: Sequence[tuple[str, str]],
        chosen: Sequence[tuple[str, str]],
        seconds: float,
    ) -> None:
        """Let both groups ask."""
        steady = asyncio.create_task(verify_steadily(port, generated, self.generated))
        storm = [
            asyncio.create_task(self.crowd.insist(port, *one, after=random.uniform(0, EVERY)))
            for one in chosen
        ]
        tasks: list[asyncio.Task[Any]] = storm if self.right else [steady]
        await asyncio.wait(tasks, timeout=MAX_LENGTH if self.right else seconds)
        if steady.done():
            steady.result()  # raises: it never ends by itself
        for task in (steady, *storm):
            task.cancel()
        await asyncio.gather(steady, *storm, return_exceptions=True)

    def row(self) -> str:
        """Return the phase's line of the table."""
        refused = sum(count for code, count in self.generated.answers.items() if code != "OK")
        admitted = f"{self.seconds:.0f} s" if self.right else ""
        if self.right and self.crowd.answers["OK"] < self.stormers:
            admitted = f"{self.crowd.answers['OK']} in {self.seconds:.0f} s"
        return (
            f"| {self.name} | {self.generated.milliseconds(0.5):.1f} "
            f"| {self.generated.milliseconds(0.99):.1f} | {refused} | {self.crowd.summary} "
            f"| {self.crowd.milliseconds(0.99):.0f} | {self.cpu / self.seconds:.2f} "
            f"| {admitted or '—'} |"
        )


HEAD = """
| | generated p50 ms | p99 ms | not OK | stormers' answers | their p99 ms | CPU s/s | all in after |
|---|---:|---:|---:|---|---:|---:|---:|"""


def phases(*, alternatives: bool) -> list[Phase]:
    """Return what is measured, in order."""
    if alternatives:
        return [
            Phase(
                f"{'right' if right else 'wrong'} secrets, rest {rest}, wait {wait} s",
                right=right,
                throttle={"STORM_REST": rest, "STORM_SLOT_WAIT": wait},
            )
            for rest, wait in (("1", "0.25"), ("0.5", "0.25"), ("0", "0.25"), ("1", "1"))
            for right in (False, True)
        ]
    off = {"STORM_THROTTLE": "off"}
    return [
        Phase("nobody storms", storms=False),
        Phase("wrong secrets, no throttle", throttle=off),
        Phase("wrong secrets"),
        Phase("right secrets, no throttle", right=True, throttle=off),
        Phase("right secrets", right=True),
    ]


def main() -> None:
    """Measure every phase and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20, help="of a storm of wrong secrets")
    parser.add_argument("--stormers", type=int, default=STORMERS)
    parser.add_argument("--alternatives", action="store_true", help="other rests and waits instead")
    options = parser.parse_args()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")  # for this process only
    with tempfile.TemporaryDirectory() as name, own_database(Path(name)) as url:
        folder = Path(name)
        registry = Server(folder, url)
        registry.manage("migrate", "--verbosity", "0")
        words = [
            *(sys.executable, "-m", "benchmarks.seed", str(VERIFIED), str(folder)),
            *("--chosen", str(options.stormers)),
        ]
        subprocess.run(words, env=registry.environment, check=True)
        print(
            f"{options.stormers} devices, every {EVERY:.0f} s; {RATE} generated secrets a second; "
            f"{url.partition(':')[0]}; {machine.description()}"
        )
        print(HEAD, flush=True)
        for phase in phases(alternatives=options.alternatives):
            phase.run(folder, url, options.seconds)
            print(phase.row(), flush=True)


if __name__ == "__main__":
    main()
