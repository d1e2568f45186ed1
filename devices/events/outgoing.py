"""Posting to hosts that strangers name: one request, bounded in time and size, to an address that
was checked.

The name is resolved here, its addresses are checked, and one of those is connected to: between the
check and the connection nobody can give the name another address. TLS and the Host header keep the
name. Redirections are not followed, proxies of the environment not used. (docs/threat-model.md)
"""

import asyncio
import ssl
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from ipaddress import ip_address
from typing import Any

import httpcore
from django.utils.http import parse_http_date_safe

from devices.background.attempts import tls_context
from devices.events import addresses

CONNECT_SECONDS = 5.0
TOTAL_SECONDS = 15.0  # name, connection and answer together
BODY_SECONDS = 1.0  # for the text of an answer, which only staff read
MAX_BODY = 2048  # bytes of it that are read
MAX_READ = 64 * 1024  # bytes of an answer; after as many nothing more is read
FAILURES = (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a request: a status, or why there is none."""

    code: int | None
    problem: str = ""
    text: str = ""
    seconds: float = 0.0
    retry_after: int | None = None

    @property
    def is_success(self) -> bool:
        return self.code is not None and 200 <= self.code < 300  # noqa: PLR2004


class BoundedStream(httpcore.AsyncNetworkStream):
    """A connection that nothing more is read from after MAX_READ bytes.

    The library bounds the head of an answer, but not how many interim answers (1xx) come before.
    """

    def __init__(self, stream: httpcore.AsyncNetworkStream) -> None:
        self._stream = stream
        self._read = 0

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        if self._read >= MAX_READ:
            raise httpcore.RemoteProtocolError(f"no answer in {self._read} bytes")
        found = await self._stream.read(max_bytes, timeout)
        self._read += len(found)
        return found

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.AsyncNetworkStream:
        return BoundedStream(await self._stream.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class CheckedNetwork(httpcore.AsyncNetworkBackend):
    def __init__(self) -> None:
        self._network = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, proto=6)  # TCP
        permitted: list[str] = []
        refused: addresses.RefusedError | None = None
        for *_kind, place in found:
            text = str(place[0]).partition("%")[0]
            try:
                addresses.check_address(ip_address(text))
            except addresses.RefusedError as error:
                refused = error
            else:
                permitted.append(text)
        if not permitted:
            raise refused or OSError("the name has no address")
        for address in permitted[:-1]:
            try:
                return BoundedStream(await self._network.connect_tcp(address, port, timeout))
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                continue
        return BoundedStream(await self._network.connect_tcp(permitted[-1], port, timeout))

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


_tls = cache(tls_context)  # with the system's authorities


async def post(url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
    """Post once and return what came of it; raises nothing that a host could cause."""
    began = time.monotonic()
    try:
        addresses.check_url(url)
        async with asyncio.timeout(TOTAL_SECONDS):
            answer = await _post(url, body, headers)
    except TimeoutError:
        answer = Answer(None, f"no answer within {TOTAL_SECONDS:.0f} s")
    except addresses.RefusedError as error:
        answer = Answer(None, str(error))
    except (*FAILURES, OSError, UnicodeError) as error:  # the two are of its name or certificate
        answer = Answer(None, _error_text(error))
    return replace(answer, seconds=time.monotonic() - began)


async def _post(url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
    timeouts = {"connect": CONNECT_SECONDS, "read": TOTAL_SECONDS, "write": TOTAL_SECONDS}
    async with (
        httpcore.AsyncConnectionPool(
            ssl_context=_tls(), network_backend=CheckedNetwork(), max_keepalive_connections=0
        ) as pool,
        pool.stream(
            "POST", url, headers=[*headers.items()], content=body, extensions={"timeout": timeouts}
        ) as response,
    ):
        text = await _text(response)
        problem = "" if 200 <= response.status < 300 else f"HTTP {response.status}"  # noqa: PLR2004
        if 300 <= response.status < 400:  # noqa: PLR2004
            problem += ": a redirection, which is not followed"
        return Answer(response.status, problem, text, retry_after=_retry_after(response.headers))


async def _text(response: httpcore.Response) -> str:
    """Return how the text of an answer begins; the status is all that counts."""
    read = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for part in response.aiter_stream():
                read += part
                if len(read) >= MAX_BODY:
                    break
    except (*FAILURES, TimeoutError):
        pass
    return bytes(read[:MAX_BODY]).decode(errors="replace").replace("\x00", "�")


def _retry_after(headers: Iterable[tuple[bytes, bytes]]) -> int | None:
    """Return the seconds that a host asks to be left alone for, as a number or as a date."""
    for name, value in headers:
        if name.lower() != b"retry-after":
            continue
        if value.isdigit():
            return int(value[:9])
        moment = parse_http_date_safe(value.decode("latin-1"))
        return None if moment is None else max(0, moment - int(time.time()))
    return None


def _error_text(error: BaseException) -> str:
    """Return what the system says of a failure, or else what the library does."""
    cause = error if isinstance(error, OSError) or not str(error) else None
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    return " ".join(f"{type(error).__name__}: {error}".rstrip(": ").split())
