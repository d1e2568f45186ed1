"""Serve in an event loop: verifications and commands in the loop itself, all else in threads.

They wait for nothing but the database, and a loop waits for that without a thread. In
threads, each request would wait for the interpreter several times, behind whichever of the others
has it (docs/performance.md, "The tail"). What may wait for something else goes to a thread: a
caller with a credential, a guess that costs a hash, a secret that ends a session, every other path.
"""

import asyncio
import io
import os
import socket
import sys
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Mapping,
    MutableMapping,
)
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, nullcontext, suppress
from functools import lru_cache
from ipaddress import ip_address
from pathlib import Path
from time import monotonic, perf_counter
from typing import Any
from urllib.parse import unquote_to_bytes
from weakref import WeakValueDictionary
from wsgiref.types import WSGIEnvironment

from django.conf import settings
from django.db import OperationalError

from authsite.operations.wsgi import HEADER, Operations
from devices.database.in_loop import MAX_QUESTIONS, LoopAsker
from devices.database.statements import MustWait
from devices.telemetry import request_id
from rpc.authentication import source_address
from rpc.views import BEGAN, MachineView

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = list[tuple[str, str]]
Answer = tuple[int, Headers, bytes]

MAX_WAITING = 512  # threads beside those with a slot, made as they are needed
MAX_LONG_BODIES = MAX_WAITING // 2  # received at once: however slowly, others find a thread
MAX_OF_SENDER = MAX_LONG_BODIES // 4  # of these, from one address
MAX_OF_UNKNOWN = MAX_LONG_BODIES // 2  # from where it is not certain: a sender can see to that
# A long body that comes more slowly holds a thread for so many seconds; one that stands still, too.
BODY_PAUSE, BODY_RATE = 30.0, 1024  # seconds; bytes a second
MAX_READ_AHEAD = 32 * 1024  # bytes of a body: of each of CONNECTIONS senders who then stop
FIXED: Mapping[str, Any] = {
    "SCRIPT_NAME": "",
    "wsgi.version": (1, 0),
    "wsgi.errors": sys.stderr,
    "wsgi.multithread": True,
    "wsgi.multiprocess": True,
    "wsgi.run_once": False,
}


class LoopApplication:
    """An ASGI application around the WSGI one."""

    def __init__(
        self,
        wsgi: Operations,
        views: Mapping[str, MachineView],
        askers: Mapping[str, LoopAsker[Any, Any]],
    ) -> None:
        """`views` are those of machines by their paths, as far as the loop may answer them.

        `askers` are how the loop asks what they ask (`MachineView.questions`).
        """
        self._wsgi = wsgi
        self._views = views
        self._askers = askers
        self._threads = ThreadPoolExecutor(
            settings.THREADS + MAX_WAITING, thread_name_prefix="request"
        )
        self._long_bodies = asyncio.Semaphore(MAX_LONG_BODIES)
        # By address, as long as it sends one.
        self._senders: WeakValueDictionary[bytes, asyncio.Semaphore] = WeakValueDictionary()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        environ = environ_of(scope)
        environ[BEGAN] = perf_counter()
        body, is_whole = await read_ahead(environ, receive)
        environ["wsgi.input"] = io.BytesIO(body)
        view = self._views.get(environ["PATH_INFO"]) if is_whole else None
        if view is not None:
            answer = await self._in_loop(view, environ)
            if answer is not None:
                await _send(send, *answer)
                return
            environ["wsgi.input"] = io.BytesIO(body)
        loop = asyncio.get_running_loop()
        rest = None if is_whole else Rest(body, receive, loop, announced_in(environ))
        if rest is not None:
            environ["wsgi.input"] = rest
        client = Client(scope, receive, send, loop)
        async with nullcontext() if is_whole else self._place(source_address(environ)):
            answer = await loop.run_in_executor(self._threads, self._in_thread, environ, client)
        if answer is not None:
            status, headers, content = answer
            if rest is not None and not rest.is_read:  # the server closes the connection: say so
                headers = [*headers, ("Connection", "close")]
            await _send(send, status, headers, content)

    @asynccontextmanager
    async def _place(self, sender: str | None) -> AsyncIterator[None]:
        """Wait until one more long body may be received, and from this address."""
        places = MAX_OF_UNKNOWN if sender is None else MAX_OF_SENDER
        own = self._senders.setdefault(_network(sender), asyncio.Semaphore(places))
        async with own, self._long_bodies:
            yield

    async def _in_loop(self, view: MachineView, environ: WSGIEnvironment) -> Answer | None:
        """Return a view's answer, None where a thread is needed for it."""
        begun = view.begin(environ)
        if begun is None:
            return None
        exchange, questions = begun
        for asked in questions.values():
            if len(asked) > MAX_QUESTIONS:
                return None
        asking = []
        for name, asked in questions.items():  # all of them, before the first answer is awaited
            asking.append((name, self._askers[name].ask(asked)))
        known: dict[str, Mapping[Any, Any]] | Exception = {}
        for name, future in asking:
            try:
                answers = await future
            except OperationalError as error:
                known = error
                continue
            if answers is None:
                return None
            if isinstance(known, dict):
                known[name] = answers
        current = self._wsgi.ids.of(environ)
        request_id.set(current)
        try:
            reply = view.finish(exchange, known)
        except MustWait:
            return None
        return reply.status, [*reply.headers, (HEADER, current)], reply.body

    def _in_thread(self, environ: WSGIEnvironment, client: "Client") -> Answer | None:
        """Return what the WSGI application answers; a stream is sent here, as it is made."""
        content = self._wsgi(environ, client.start_response)
        if isinstance(content, list):
            return client.status, client.headers, b"".join(content)
        client.stream(content)
        return None


class Client:
    """Who asked, as a thread sees it that answers by WSGI."""

    def __init__(
        self, scope: Message, receive: Receive, send: Send, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._loop = loop
        self.status = 500
        self.headers: Headers = []

    def start_response(self, status: str, headers: Headers, _error: object = None) -> Any:
        self.status, self.headers = int(status[:3]), headers

    def stream(self, content: Iterable[bytes]) -> None:
        """Send chunks as slowly as they are taken, and no more once nobody takes them.

        Where one fails, so does the connection: a proper end would make a whole of a part.
        """

        async def until_gone() -> None:
            while (await self._receive())["type"] != "http.disconnect":
                pass

        gone = asyncio.run_coroutine_threadsafe(until_gone(), self._loop)
        try:
            self._tell(_start(self.status, self.headers))
            for chunk in content:
                if gone.done():
                    break
                self._tell({"type": "http.response.body", "body": chunk, "more_body": True})
            self._tell({"type": "http.response.body", "body": b""})
        except Exception:
            break_off(self._scope)
            raise
        finally:
            gone.cancel()
            close = getattr(content, "close", None)
            if close is not None:
                close()

    def _tell(self, message: Message) -> None:
        asyncio.run_coroutine_threadsafe(_sent(self._send, message), self._loop).result()


def break_off(scope: Message) -> None:
    """Shut down the connection that a request came by; the server tells nobody its socket.

    The server ends a stream properly, whatever became of it.
    """
    host, port = scope["client"]
    for path in list(Path("/dev/fd").iterdir()):
        with suppress(OSError):
            descriptor = os.dup(int(path.name))
            try:
                found = socket.socket(fileno=descriptor)
            except OSError:
                os.close(descriptor)
                continue
            with found:
                peer = found.getpeername()
                peer = _unmapped(peer[0]), peer[1], found.getsockname()[1]
                if peer == (_unmapped(host), port, scope["server"][1]):
                    found.shutdown(socket.SHUT_RDWR)


def _network(sender: str | None) -> bytes:
    """Return an IPv4 address, or the /64 of an IPv6 one: a host has as many as it likes there."""
    try:
        return ip_address(_unmapped(sender or "")).packed[:8]
    except ValueError:
        return (sender or "").encode()


def _unmapped(host: str) -> str:
    return host.removeprefix("::ffff:")  # as a socket for both kinds of addresses tells it


class Rest:
    """A body's `wsgi.input`: what was read ahead, and then whatever comes."""

    def __init__(
        self,
        read: bytes,
        receive: Receive,
        loop: asyncio.AbstractEventLoop,
        announced: int | None,
    ) -> None:
        self._read = bytearray(read)
        self._receive = receive
        self._loop = loop
        self._left = None if announced is None else announced - len(read)
        self._has_more = True
        self._patience = BODY_PAUSE

    @property
    def is_read(self) -> bool:
        return not self._has_more or (self._left is not None and self._left <= 0)

    def read(self, size: int) -> bytes:
        """Return the next `size` bytes; fewer only where the body ends, or comes too slowly."""
        if self._has_more and len(self._read) < size:
            asyncio.run_coroutine_threadsafe(self._fill(size), self._loop).result()
        part = bytes(self._read[:size])
        del self._read[:size]
        return part

    async def _fill(self, size: int) -> None:
        """Receive until there are `size` bytes, in the loop: to wake a thread for each part costs.

        A stranger's body may come in parts of one byte.
        """
        while self._has_more and len(self._read) < size:
            began = monotonic()
            try:
                async with asyncio.timeout(self._patience):
                    message = await self._receive()
            except TimeoutError:
                break
            part = message.get("body", b"")
            self._read += part
            left = self._patience - (monotonic() - began)
            self._patience = min(max(left, 0.0) + len(part) / BODY_RATE, BODY_PAUSE)
            if self._left is not None:
                self._left -= len(part)
            self._has_more = message.get("more_body", False)


def announced_in(environ: WSGIEnvironment) -> int | None:
    """Return the length of its body that a request announces; None where it announces none."""
    announced: str = environ.get("CONTENT_LENGTH", "")
    return int(announced) if announced.isdecimal() else None


async def read_ahead(environ: WSGIEnvironment, receive: Receive) -> tuple[bytes, bool]:
    """Return a body, or the beginning of a long one, and whether that is all of it.

    One that is cut off ends where it does.
    """
    if "CONTENT_LENGTH" not in environ and "HTTP_TRANSFER_ENCODING" not in environ:
        return b"", True
    expected = announced_in(environ)
    if expected is not None and expected > MAX_READ_AHEAD:
        return b"", False
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body") or len(body) == expected:
            return body, True
        if len(body) > MAX_READ_AHEAD:
            return body, False


def environ_of(scope: Message) -> WSGIEnvironment:
    """Return the WSGI environment of a request, without its body.

    Of a header that comes twice both values count, separated as HTTP has it. Names with an
    underscore are left out, as by nginx: WSGI would take `X_Forwarded_For` for `X-Forwarded-For`,
    which only a trusted proxy may send.
    """
    environ: WSGIEnvironment = {
        **FIXED,
        "REQUEST_METHOD": scope["method"],
        "PATH_INFO": unquote_to_bytes(scope["raw_path"]).decode("latin-1"),
        "QUERY_STRING": scope["query_string"].decode("latin-1"),
        "SERVER_PROTOCOL": f"HTTP/{scope['http_version']}",
        "SERVER_NAME": scope["server"][0],
        "SERVER_PORT": str(scope["server"][1]),
        "REMOTE_ADDR": scope["client"][0],
        "wsgi.url_scheme": scope["scheme"],
    }
    for name, value in scope["headers"]:
        if b"_" in name:
            continue
        key, text = _key(name), value.decode("latin-1")
        if key in environ:
            text = f"{environ[key]}{';' if key == 'HTTP_COOKIE' else ','}{text}"
        environ[key] = text
    return environ


@lru_cache(maxsize=256)
def _key(name: bytes) -> str:
    """Return the key of a header in a WSGI environment."""
    key = name.decode("latin-1").upper().replace("-", "_")
    return key if key in {"CONTENT_TYPE", "CONTENT_LENGTH"} else f"HTTP_{key}"


def _start(status: int, headers: Headers) -> Message:
    return {
        "type": "http.response.start",
        "status": status,
        "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers],
    }


async def _send(send: Send, status: int, headers: Headers, body: bytes) -> None:
    await send(_start(status, headers))
    await send({"type": "http.response.body", "body": body})


async def _sent(send: Send, message: Message) -> None:
    await send(message)
