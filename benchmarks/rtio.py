"""RTIO's question about a device, in the bytes that its server sends (Go's net/http).

A device that is refused, or not answered in time, asks again after two seconds, for ever.
"""

import asyncio
import json
import random
import socket
import time
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from benchmarks.load import is_whole, percentile

PATIENCE = 5.0  # seconds that it waits for an answer, connecting included
EVERY = 2.0  # seconds between two attempts of a device
UNANSWERED = "no answer within 5 s"
Exchange = tuple[bytes, bytes]


def request(path: str, document: object) -> bytes:
    """Return a POST without Content-Type and Accept."""
    body = json.dumps(document, separators=(",", ":")).encode()
    return (
        f"POST {path} HTTP/1.1\r\nHost: registry\r\nUser-Agent: Go-http-client/1.1\r\n"
        f"Content-Length: {len(body)}\r\nAccept-Encoding: gzip\r\n\r\n"
    ).encode() + body


def question(number: int, identifier: str, secret: str, *, path: str = "/deviceverifier") -> bytes:
    """Return a verification of a device's secret."""
    return request(
        path, {"method": "verify", "id": number, "deviceid": identifier, "devicesecret": secret}
    )


def answer(number: int, code: str = "OK") -> bytes:
    """Return the body that answers it."""
    return b'{"id":%d,"code":"%s"}' % (number, code.encode())


async def ask(port: int, identifier: str, secret: str) -> str:
    """Ask over a new connection; return the code of the answer, or what came instead of one."""
    number = random.getrandbits(32)
    try:
        async with asyncio.timeout(PATIENCE):
            received = await exchange(port, question(number, identifier, secret))
    except TimeoutError:
        return UNANSWERED
    except ConnectionRefusedError:
        return "refused"
    except ConnectionError:
        return "reset"
    _, found, rest = received.partition(b'{"id":%d,"code":"' % number)
    return rest.partition(b'"')[0].decode() if found else "another answer"


async def exchange(port: int, message: bytes) -> bytes:
    """Send a request over a new connection and return the whole response."""
    loop = asyncio.get_running_loop()
    with socket.socket() as connection:
        connection.setblocking(False)
        await loop.sock_connect(connection, ("127.0.0.1", port))
        await loop.sock_sendall(connection, message)
        answer = b""
        while not is_whole(answer):
            received = await loop.sock_recv(connection, 65536)
            if not received:
                raise ConnectionResetError
            answer += received
    return answer


async def until_done(
    wanted: Collection[asyncio.Task[Any]], *beside: asyncio.Task[Any], seconds: float
) -> set[asyncio.Task[Any]]:
    """Wait for tasks, or for so long; end them and those beside them; return those that ended."""
    done, _waiting = await asyncio.wait(wanted, timeout=seconds)
    tasks = (*wanted, *beside)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return done


@dataclass
class Fleet:
    """What devices of one kind were answered, and after how many seconds each time."""

    answers: Counter[str] = field(default_factory=Counter)
    waits: list[float] = field(default_factory=list)

    async def ask(self, port: int, identifier: str, secret: str) -> str:
        """Ask, and note the answer."""
        began = time.perf_counter()
        code = await ask(port, identifier, secret)
        self.answers[code] += 1
        self.waits.append(time.perf_counter() - began)
        return code

    async def ask_until_admitted(
        self, port: int, identifier: str, secret: str, *, after: float = 0
    ) -> int:
        """Ask until admitted, first after so many seconds; return how often that took."""
        await asyncio.sleep(after)
        attempts = 1
        while await self.ask(port, identifier, secret) != "OK":
            await asyncio.sleep(EVERY)
            attempts += 1
        return attempts

    def milliseconds(self, share: float) -> float:
        return percentile(sorted(self.waits), share) * 1000 if self.waits else 0.0

    @property
    def summary(self) -> str:
        counted = [f"{count:,} × {code}" for code, count in self.answers.most_common()]
        return ", ".join(counted) or "—"
