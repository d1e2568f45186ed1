"""What a storm of devices does to a device with a generated secret: `python -m benchmarks.storm`.

500 devices with a *chosen* secret each ask the running server every 2 s, each time over a new
connection, as RTIO does; beside them devices with *generated* ones are verified at a steady rate.
Every phase begins with a server that was just started and remembers nobody. Printed is how long
the generated ones waited (from the moment at which each was due), what the stormers were answered,
and the CPU time of the server's processes. Then three bursts: 200 devices with right chosen secrets
at one moment, 160 connections with one right chosen secret of a caller, and guesses of both kinds
over 40 connections each. DATABASE_URL chooses the kind of database.
"""

import argparse
import asyncio
import base64
import os
import pickle
import random
import tempfile
import time
import uuid
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from benchmarks import machine
from benchmarks.rtio import EVERY, Fleet, exchange, request, until_done
from tests.support.servers import Server, empty_registry

STORMERS = 500
VERIFIED = 1000  # devices with generated secrets
RATE = 50  # verifications of generated secrets a second
MAX_LENGTH = 120.0  # seconds that a fleet may take to be admitted
COLD = 200  # devices that ask at one moment
CONNECTIONS = 160  # of one caller
GUESSING = 40  # connections with guesses of each kind
CALLER, CALLERS_SECRET = "//storm/caller", "a secret that was chosen"


def seeded(folder: Path) -> Iterator[list[tuple[str, str]]]:
    """Yield the devices with generated secrets, then those with chosen ones, and the secrets."""
    return (pickle.loads((folder / name).read_bytes()) for name in ("known", "chosen"))


async def verify_steadily(port: int, known: Sequence[tuple[str, str]], group: Fleet) -> None:
    """Ask for one device after another at a fixed rate, whatever became of those before."""
    async with asyncio.TaskGroup() as tasks:
        due = time.perf_counter()
        while True:
            tasks.create_task(group.ask(port, *random.choice(known)))
            due += 1 / RATE
            await asyncio.sleep(max(0.0, due - time.perf_counter()))


async def guess(port: int, group: Fleet) -> None:
    """Guess at one unknown device after the other."""
    while True:
        await group.ask(port, str(uuid.uuid4()), "wrong")


def frame(number: int, **members: object) -> bytes:
    """Return a frame that asks whether somebody may do something."""
    question = {"src": "//h/a", "dst": "//h/b", "cmd": "/v1/Sys.GetInfo"}
    call = {"cmd": "/v1/Auth.AuthorizeCommand", "id": number, "args": question}
    return request("/", {"v": 1, "cmds": [call]} | members)


async def send_frame(port: int, group: Fleet, message: bytes) -> str:
    """Send a frame; note the status of the response."""
    began = time.perf_counter()
    status = (await exchange(port, message)).split(b" ", 2)[1].decode()
    group.answers[status] += 1
    group.waits.append(time.perf_counter() - began)
    return status


async def guess_as_caller(port: int, group: Fleet) -> None:
    """Guess as one unknown caller after the other."""
    while True:
        await send_frame(port, group, frame(1, src=f"//h/{random.getrandbits(64):x}", key="wrong"))


# --- The bursts -----------------------------------------------------------------------------


async def cold_start(port: int, chosen: Sequence[tuple[str, str]]) -> str:
    """Ask for all devices at one moment, until all are admitted."""
    group, began = Fleet(), time.perf_counter()
    tries = await asyncio.gather(*(group.ask_until_admitted(port, *one) for one in chosen))
    return (
        f"{len(tries)} devices with right chosen secrets at once: all in after "
        f"{time.perf_counter() - began:.1f} s; {group.summary}; refused twice or more often: "
        f"{sum(attempts > 2 for attempts in tries)}"
    )


async def one_caller(port: int, connections: int) -> str:
    """Call over many connections with the same right secret at one moment."""
    group = Fleet()
    pair = base64.b64encode(f"{CALLER}:{CALLERS_SECRET}".encode())
    message = frame(1).replace(b"\r\n", b"\r\nAuthorization: Basic " + pair + b"\r\n", 1)
    await asyncio.gather(*(send_frame(port, group, message) for _ in range(connections)))
    return (
        f"{connections} connections with one right chosen secret of a caller: {group.summary}; "
        f"longest {group.milliseconds(1):.0f} ms"
    )


async def both_kinds(
    port: int, known: Sequence[tuple[str, str]], connections: int, seconds: float
) -> str:
    """Guess at devices and at the caller; verify generated secrets meanwhile."""
    steady, devices, callers = Fleet(), Fleet(), Fleet()
    tasks = [asyncio.create_task(verify_steadily(port, known, steady))]
    tasks += [asyncio.create_task(guess(port, devices)) for _ in range(connections)]
    tasks += [asyncio.create_task(guess_as_caller(port, callers)) for _ in range(connections)]
    for task in await until_done(tasks, seconds=seconds):
        task.result()  # raises: none ends by itself
    return (
        f"guesses of both kinds, {connections} + {connections} connections: generated p50 "
        f"{steady.milliseconds(0.5):.1f} ms, p99 {steady.milliseconds(0.99):.1f} ms, longest "
        f"{steady.milliseconds(1):.0f} ms ({steady.summary}); devices {devices.summary}; "
        f"caller {callers.summary}"
    )


def bursts(folder: Path, url: str, seconds: float) -> Iterator[str]:
    """Yield what each burst came to; each begins with a server that was just started."""
    known, chosen = seeded(folder)
    all_bursts: list[Callable[[int], Coroutine[None, None, str]]] = [
        partial(cold_start, chosen=chosen[:COLD]),
        partial(one_caller, connections=CONNECTIONS),
        partial(both_kinds, known=known, connections=GUESSING, seconds=seconds),
    ]
    for burst in all_bursts:
        with Server(folder, url, LOG_LEVEL="ERROR") as server:
            time.sleep(1)  # the other worker
            yield asyncio.run(burst(server.port))


# --- The phases -----------------------------------------------------------------------------


@dataclass
class Phase:
    """One server, one crowd, and what was measured."""

    name: str
    right: bool = False  # whether the stormers know their secrets
    storms: bool = True
    throttled: bool = True
    generated: Fleet = field(default_factory=Fleet)
    fleet: Fleet = field(default_factory=Fleet)
    seconds: float = 0.0
    cpu: float = 0.0
    stormers: int = 0

    def run(self, folder: Path, url: str, seconds: float) -> None:
        """Start a server and measure; where the stormers are right, until all are admitted."""
        generated, chosen = seeded(folder)
        chosen = [
            (name, secret if self.right else "wrong") for name, secret in chosen if self.storms
        ]
        self.stormers = len(chosen)
        settings = "authsite.settings" if self.throttled else "benchmarks.storm_settings"
        variables = {"DJANGO_SETTINGS_MODULE": settings, "LOG_LEVEL": "ERROR"}
        with Server(folder, url, **variables) as server:
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
            asyncio.create_task(
                self.fleet.ask_until_admitted(port, *one, after=random.uniform(0, EVERY))
            )
            for one in chosen
        ]
        if self.right:
            await until_done(storm, steady, seconds=MAX_LENGTH)
        else:
            await until_done([steady], *storm, seconds=seconds)
        if not steady.cancelled():
            steady.result()  # raises: it never ends by itself

    def row(self) -> str:
        refused = sum(count for code, count in self.generated.answers.items() if code != "OK")
        admitted = f"{self.seconds:.0f} s" if self.right else ""
        if self.right and self.fleet.answers["OK"] < self.stormers:
            admitted = f"{self.fleet.answers['OK']} in {self.seconds:.0f} s"
        return (
            f"| {self.name} | {self.generated.milliseconds(0.5):.1f} "
            f"| {self.generated.milliseconds(0.99):.1f} | {refused} | {self.fleet.summary} "
            f"| {self.fleet.milliseconds(0.99):.0f} | {self.cpu / self.seconds:.2f} "
            f"| {admitted or '—'} |"
        )


HEAD = """
| | generated p50 ms | p99 ms | not OK | stormers' answers | their p99 ms | CPU s/s | all in after |
|---|---:|---:|---:|---|---:|---:|---:|"""


def phases() -> list[Phase]:
    return [
        Phase("nobody storms", storms=False),
        Phase("wrong secrets, no throttle", throttled=False),
        Phase("wrong secrets"),
        Phase("right secrets, no throttle", right=True, throttled=False),
        Phase("right secrets", right=True),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20, help="of a storm of wrong secrets")
    parser.add_argument("--stormers", type=int, default=STORMERS)
    parser.add_argument("--bursts", action="store_true", help="the bursts alone")
    options = parser.parse_args()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")  # for this process only
    with tempfile.TemporaryDirectory() as name, empty_registry(Path(name)) as url:
        folder = Path(name)
        registry = Server(folder, url)
        words = (str(VERIFIED), str(folder), "--chosen", str(options.stormers))
        registry.run("-m", "benchmarks.seed", *words)
        print(
            f"{options.stormers} devices, every {EVERY:.0f} s; {RATE} generated secrets a second; "
            f"{url.partition(':')[0]}; {machine.description()}"
        )
        if not options.bursts:
            print(HEAD, flush=True)
        for phase in () if options.bursts else phases():
            phase.run(folder, url, options.seconds)
            print(phase.row(), flush=True)
        caller = ("add_device", CALLER, "--kind", "backend", "--secret", CALLERS_SECRET)
        registry.manage(*caller)
        for line in bursts(folder, url, options.seconds):
            print(f"\n{line}", flush=True)


if __name__ == "__main__":
    main()
