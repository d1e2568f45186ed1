"""What a storm of devices does to a device with a generated secret: `python -m benchmarks.storm`.

500 devices with a *chosen* secret each ask the running server every 2 s, each time over a new
connection, as RTIO does; beside them devices with *generated* ones are verified at a steady rate.
Every phase begins with a server that was just started and remembers nobody. Printed is how long
the generated ones waited (from the moment at which each was due), what the stormers were answered,
and the CPU time of the server's processes. DATABASE_URL chooses the kind of database.
"""

import argparse
import asyncio
import json
import os
import pickle
import random
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import django

from benchmarks import machine
from benchmarks.load import percentile
from benchmarks.seed import add_devices, verification
from tests.servers import Server, own_database

STORMERS = 500
EVERY = 2.0  # seconds between two attempts of one device
RATE = 50  # verifications of generated secrets a second
PATIENCE = 5.0  # seconds that RTIO waits for an answer
LONGEST = 120.0  # seconds that a fleet may take to be admitted
UNANSWERED = "no answer within 5 s"


# --- The registry ---------------------------------------------------------------------------


def seed(folder: Path) -> None:
    """Fill an empty registry; write the generated secrets and the chosen ones of the stormers."""
    django.setup()
    from devices import secrets
    from devices.models import Device, PreSharedKey
    from devices.secrets import Scheme

    pepper = secrets.newest_pepper()
    devices = Device.objects.bulk_create(
        Device(identifier=str(uuid.uuid4())) for _ in range(STORMERS)
    )
    chosen = [f"chosen {device.identifier[:8]}" for device in devices]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        digests = list(
            pool.map(lambda secret: secrets.digest(secret, Scheme.ARGON2ID, pepper), chosen)
        )
    PreSharedKey.objects.bulk_create(
        PreSharedKey(device=device, scheme=Scheme.ARGON2ID, digest=digest, pepper=pepper)
        for device, digest in zip(devices, digests, strict=True)
    )
    identifiers = [device.identifier for device in devices]
    known = list(zip(identifiers, chosen, strict=True))
    (folder / "registry").write_bytes(pickle.dumps((list(add_devices(1000).items()), known)))


# --- The clients ----------------------------------------------------------------------------


async def ask(port: int, identifier: str, secret: str) -> str:
    """Ask over a new connection; return the code, or that there was none in time."""
    request, _ = verification(identifier, secret)
    try:
        async with asyncio.timeout(PATIENCE):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(request)
                answer = await reader.readuntil(b"}")
            finally:
                writer.close()
    except (TimeoutError, OSError, asyncio.IncompleteReadError):
        return UNANSWERED
    code: str = json.loads(answer[answer.index(b"{") :])["code"]
    return code


@dataclass
class Group:
    """What devices of one kind were answered, and after how many seconds each time."""

    codes: Counter[str] = field(default_factory=Counter)
    waits: list[float] = field(default_factory=list)

    async def ask(self, port: int, identifier: str, secret: str) -> str:
        """Ask, and note the answer."""
        began = time.perf_counter()
        code = await ask(port, identifier, secret)
        self.codes[code] += 1
        self.waits.append(time.perf_counter() - began)
        return code

    def milliseconds(self, share: float) -> float:
        """Return a percentile."""
        return percentile(sorted(self.waits), share) * 1000 if self.waits else 0.0


async def verify_steadily(port: int, known: Sequence[tuple[str, str]], group: Group) -> None:
    """Ask for one device after another at a fixed rate, whatever became of those before."""
    async with asyncio.TaskGroup() as tasks:
        due = time.perf_counter()
        while True:
            tasks.create_task(group.ask(port, *random.choice(known)))
            due += 1 / RATE
            await asyncio.sleep(max(0.0, due - time.perf_counter()))


async def retry(port: int, identifier: str, secret: str, group: Group) -> None:
    """Ask until admitted, every two seconds."""
    await asyncio.sleep(random.uniform(0, EVERY))
    while True:
        began = time.perf_counter()
        if await group.ask(port, identifier, secret) == "OK":
            return
        await asyncio.sleep(max(0.0, began + EVERY - time.perf_counter()))


# --- The phases -----------------------------------------------------------------------------


@dataclass
class Phase:
    """One server, one crowd, and what was measured."""

    name: str
    right: bool = False  # whether the stormers know their secrets
    stormers: int = STORMERS
    throttle: dict[str, str] = field(default_factory=dict)
    generated: Group = field(default_factory=Group)
    crowd: Group = field(default_factory=Group)
    seconds: float = 0.0
    cpu: float = 0.0

    def run(self, folder: Path, url: str, seconds: float) -> None:
        """Start a server and measure; where the stormers are right, until all are admitted."""
        generated, chosen = pickle.loads((folder / "registry").read_bytes())
        chosen = [(name, secret if self.right else "wrong") for name, secret in chosen]
        settings = {"DJANGO_SETTINGS_MODULE": "benchmarks.storm_settings", "LOG_LEVEL": "ERROR"}
        with Server(folder, url, **settings, **self.throttle) as server:
            time.sleep(1)  # the other worker
            before, began = machine.cpu_seconds(server.process.pid), time.perf_counter()
            asyncio.run(self.measure(server.port, generated, chosen[: self.stormers], seconds))
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
        storm = [asyncio.create_task(retry(port, *one, self.crowd)) for one in chosen]
        tasks: list[asyncio.Task[None]] = storm if self.right else [steady]
        await asyncio.wait(tasks, timeout=LONGEST if self.right else seconds)
        if steady.done():
            steady.result()  # raises: it never ends by itself
        for task in (steady, *storm):
            task.cancel()
        await asyncio.gather(steady, *storm, return_exceptions=True)

    def row(self) -> str:
        """Return the phase's line of the table."""
        answers = ", ".join(f"{count:,} × {code}" for code, count in self.crowd.codes.most_common())
        refused = sum(count for code, count in self.generated.codes.items() if code != "OK")
        admitted = f"{self.seconds:.0f} s" if self.right else ""
        if self.right and self.crowd.codes["OK"] < self.stormers:
            admitted = f"{self.crowd.codes['OK']} in {self.seconds:.0f} s"
        return (
            f"| {self.name} | {self.generated.milliseconds(0.5):.1f} "
            f"| {self.generated.milliseconds(0.99):.1f} | {refused} | {answers or '—'} "
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
        Phase("nobody storms", stormers=0),
        Phase("wrong secrets, no throttle", throttle=off),
        Phase("wrong secrets"),
        Phase("right secrets, no throttle", right=True, throttle=off),
        Phase("right secrets", right=True),
    ]


def main() -> None:
    """Measure every phase and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20, help="of a storm of wrong secrets")
    parser.add_argument("--alternatives", action="store_true", help="other rests and waits instead")
    parser.add_argument("--seed", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.seed:
        seed(options.seed)
        return
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")  # for this process only
    with tempfile.TemporaryDirectory() as name, own_database(Path(name)) as url:
        folder = Path(name)
        registry = Server(folder, url)
        registry.manage("migrate", "--verbosity", "0")
        words = [sys.executable, "-m", "benchmarks.storm", "--seed", str(folder)]
        subprocess.run(words, env=registry.environment, check=True)
        print(
            f"{STORMERS} devices, every {EVERY:.0f} s; {RATE} generated secrets a second; "
            f"{url.partition(':')[0]}; {machine.description()}"
        )
        print(HEAD, flush=True)
        for phase in phases(alternatives=options.alternatives):
            phase.run(folder, url, options.seconds)
            print(phase.row(), flush=True)


if __name__ == "__main__":
    main()
