"""Measure requests without an HTTP server: `python -m benchmarks.in_process [--at-once 1,7,16]`.

Puts verifications, decisions and frames of decisions to the ASGI application, as a server would, so
many at a time. Prints a Markdown table of the CPU time of each, in microseconds: that of the event
loop's thread and that of PostgreSQL (what is written behind them included), the least of ROUNDS.
"""

import argparse
import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import django

from benchmarks import machine
from benchmarks.registries import DATABASES, Registry, registry, run
from benchmarks.report import table

ROUNDS = 5
COMMAND = b"/v1/Auth.AuthorizeCommand"
MOST = {"verifier": 10_000, "authorize": 10_000, "frames": 200}  # requests of a round, by file
HEAD = ["asked at a time", "a verification", "a decision", "one of a frame of 100"]
Call = tuple[dict[str, Any], bytes]  # an ASGI scope, a body
Asked = tuple[Call, bytes]  # and what its answer must contain


def call_of(request: bytes) -> Call:
    """Return the ASGI scope and the body of a whole HTTP request."""
    head, _, body = request.partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    headers = [line.split(b": ", 1) for line in lines]
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "raw_path": first.split()[1],
        "query_string": b"",
        "server": ("127.0.0.1", 17217),
        "client": ("127.0.0.1", 50000),
        "headers": [(name.lower(), value) for name, value in headers],
    }
    return scope, body


async def answer_to(call: Call) -> bytes:
    """Return the body that the application answers with."""
    from authsite.asgi import application

    scope, body = call
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    await application(scope, receive, send)
    answered: bytes = sent[-1]["body"]
    return answered


async def ask_all(calls: Sequence[Asked], at_once: int) -> None:
    """Put requests, so many at a time; raises ValueError where an answer is not the right one."""
    left = iter(calls)

    async def ask() -> None:
        for call, wanted in left:
            if wanted not in (answered := await answer_to(call)):
                raise ValueError(answered)

    await asyncio.gather(*(ask() for _ in range(at_once)))


async def measure(of: Registry, at_once: Sequence[int], share: float) -> None:
    """Print a row for each number of requests that are asked at a time."""
    from authsite.asgi import askers

    asked = {
        name: [(call_of(request), wanted) for request, wanted in of.read(name)[: int(most * share)]]
        for name, most in MOST.items()
    }
    while not all(asker.is_open for asker in askers.values()):  # threads answer until then
        for calls in asked.values():
            await ask_all(calls[:50], 1)
    for number in at_once:
        cells = [await cpu_time(of, calls, number) for calls in asked.values()]
        print(f"| {number} | {' | '.join(cells)} |", flush=True)


async def cpu_time(of: Registry, calls: Sequence[Asked], at_once: int) -> str:
    """Return the CPU time of a question, in microseconds."""
    questions = len(calls) * max(1, calls[0][0][1].count(COMMAND))
    rounds = []
    for _ in range(ROUNDS):
        before = spent(of)
        await ask_all(calls, at_once)
        rounds.append([now - then for now, then in zip(spent(of), before, strict=True)])
    return " + ".join(f"{1e6 * part / questions:.0f}" for part in min(rounds, key=sum))


def spent(of: Registry) -> list[float]:
    """Return the CPU time so far of this thread and, where it has one, of the database's server."""
    return [time.thread_time(), *([machine.cpu_seconds(of.process)] if of.process else ())]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--devices", type=int, default=100_000)
    parser.add_argument("--at-once", default="1,7,16", help="questions under way")
    parser.add_argument("--share", type=float, default=1.0, help="of the questions that are asked")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        django.setup()
        folder, process = options.measure
        of = Registry("", Path(folder), int(process) or None)
        asyncio.run(
            measure(of, [int(number) for number in options.at_once.split(",")], options.share)
        )
        return
    for kind in DATABASES:
        with registry(kind, options.devices) as made:
            print(f"\n{table([f'{kind}, {HEAD[0]}', *HEAD[1:]], [])}", flush=True)
            words = ["--at-once", options.at_once, "--share", str(options.share)]
            words += ["--measure", str(made.folder), str(made.process or 0)]
            run(made.url, "-m", "benchmarks.in_process", *words)


if __name__ == "__main__":
    main()
