"""What storms of devices and guesses do to a generated secret: `python -m benchmarks.storm`.

500 devices with a *chosen* secret each ask the running server every 2 s, each time over a new
connection, as RTIO does; beside them devices with *generated* ones are verified at a steady rate:
with wrong secrets for a while, then with right ones until all are in. Then 200 devices with right
chosen secrets ask at one moment, a caller over 160 connections with its right chosen secret, and
guesses of both kinds over 40 connections each. Each of the five meets a server that was just
started and remembers nobody.
"""

import argparse
import asyncio
import base64
import random
import time
import uuid
from collections.abc import Callable, Coroutine, Iterator, Sequence
from functools import partial

from benchmarks import machine
from benchmarks.contenders import ours
from benchmarks.registries import DATABASES, Registry, registry, run
from benchmarks.rtio import EVERY, Fleet, exchange, request, until_done

STORMERS = 500
VERIFIED = 1000  # devices with generated secrets
RATE = 50  # verifications of generated secrets a second
MAX_LENGTH = 120.0  # seconds that a fleet may take to be admitted
COLD = 200  # devices that ask at one moment
CONNECTIONS = 160  # of one caller
GUESSING = 40  # connections with guesses of each kind
CALLER, CALLERS_SECRET = "//storm/caller", "a secret that was chosen"


async def verify_steadily(port: int, known: Sequence[tuple[str, str]], group: Fleet) -> None:
    """Ask for one device after another at a fixed rate, whatever became of those before."""
    async with asyncio.TaskGroup() as tasks:
        due = time.perf_counter()
        while True:
            tasks.create_task(group.ask(port, *random.choice(known)))
            due += 1 / RATE
            await asyncio.sleep(max(0.0, due - time.perf_counter()))


def waits_of(group: Fleet) -> str:
    """Return how long the generated secrets waited for what answers."""
    p50, p99, longest = (group.milliseconds(share) for share in (0.5, 0.99, 1))
    return (
        f"generated p50 {p50:.1f} ms, p99 {p99:.1f} ms, longest {longest:.0f} ms ({group.summary})"
    )


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


# --- The storms -----------------------------------------------------------------------------


async def keep_asking(
    port: int,
    known: Sequence[tuple[str, str]],
    stormers: Sequence[tuple[str, str]],
    said: str,
    seconds: float,
) -> str:
    """Let all of them ask until they are admitted, or for so long; verify others meanwhile."""
    steady, storm, began = Fleet(), Fleet(), time.perf_counter()
    verifying = asyncio.create_task(verify_steadily(port, known, steady))
    asking = [
        asyncio.create_task(storm.ask_until_admitted(port, *one, after=random.uniform(0, EVERY)))
        for one in stormers
    ]
    await until_done(asking, verifying, seconds=seconds)
    if not verifying.cancelled():
        verifying.result()  # raises: it never ends by itself
    return (
        f"{len(stormers)} devices with {said}, for {time.perf_counter() - began:.0f} s: "
        f"{waits_of(steady)}; of the others {storm.summary}"
    )


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
        f"guesses of both kinds, {connections} + {connections} connections: {waits_of(steady)}; "
        f"devices {devices.summary}; caller {callers.summary}"
    )


def storms(asked: Registry, kind: str, seconds: float) -> Iterator[str]:
    """Yield what each storm came to; each meets a server that was just started."""
    known, chosen = asked.read("known"), asked.read("chosen")
    wrong = [(identifier, "wrong") for identifier, _ in chosen]
    of_devices = partial(keep_asking, known=known)
    all_storms: list[Callable[[int], Coroutine[None, None, str]]] = [
        partial(of_devices, stormers=wrong, said="wrong secrets", seconds=seconds),
        partial(of_devices, stormers=chosen, said="right secrets", seconds=MAX_LENGTH),
        partial(cold_start, chosen=chosen[:COLD]),
        partial(one_caller, connections=CONNECTIONS),
        partial(both_kinds, known=known, connections=GUESSING, seconds=seconds),
    ]
    for storm in all_storms:
        with ours(kind).serving(asked.url) as server:
            yield asyncio.run(storm(server.port))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--seconds", type=float, default=20, help="of wrong secrets, and of guesses"
    )
    parser.add_argument("--stormers", type=int, default=STORMERS)
    parser.add_argument("--kind", choices=DATABASES, default="SQLite", help="of database")
    options = parser.parse_args()
    with registry(options.kind, VERIFIED, "--chosen", str(options.stormers)) as asked:
        print(
            f"{options.stormers} devices, every {EVERY:.0f} s; {RATE} generated secrets a second; "
            f"{options.kind}; {machine.description()}"
        )
        caller = ("add_device", CALLER, "--kind", "backend", "--secret", CALLERS_SECRET)
        run(asked.url, "manage.py", *caller)
        for line in storms(asked, options.kind, options.seconds):
            print(f"\n{line}", flush=True)


if __name__ == "__main__":
    main()
