"""What reaches the WSGI application through the event loop, and what comes back."""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from unittest.mock import Mock

import pytest

from authsite.operations import asgi
from authsite.operations.asgi import LoopApplication, environ_of

pytestmark = pytest.mark.once(on="sqlite")

PATIENCE = 10  # seconds
CHUNKED = (b"transfer-encoding", b"chunked")


def scope(*headers: tuple[bytes, bytes], path: bytes = b"/page", method: str = "POST") -> Any:
    return {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path.decode(),
        "raw_path": path,
        "query_string": b"a=%20&b=\xc3\xbc",
        "server": ("127.0.0.1", 17217),
        "client": ("203.0.113.9", 50000),
        "headers": headers,
    }


class Connection:
    """A client that sends a body in parts, and takes what comes until it is gone."""

    def __init__(self, *parts: bytes, is_cut_off: bool = False) -> None:
        self._messages = [
            {"type": "http.request", "body": part, "more_body": True} for part in parts
        ]
        if not is_cut_off:
            self._messages.append({"type": "http.request", "body": b"", "more_body": False})
        self.is_gone = asyncio.Event()
        self.sent: list[Any] = []
        self.leaves_after = 0

    async def receive(self) -> Any:
        if self._messages:
            return self._messages.pop(0)
        if not self.sent and not self.leaves_after:
            return {"type": "http.disconnect"}
        await self.is_gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        self.sent.append(message)
        if len(self.sent) == self.leaves_after:
            self.is_gone.set()

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent)


Handle = Callable[[Any, Any], Iterable[bytes]]


def exchange(handle: Handle, connection: Connection, asked: Any) -> None:
    """Have a WSGI application answer a request of a connection."""
    application = LoopApplication(handle, {}, {})  # type: ignore[arg-type]

    async def answered() -> None:
        await asyncio.wait_for(application(asked, connection.receive, connection.send), PATIENCE)

    asyncio.run(answered())


def test_a_request_is_what_a_wsgi_server_makes_of_it() -> None:
    environ = environ_of(
        scope(
            (b"content-length", b"3"),
            (b"content-type", b"text/plain"),
            (b"x-forwarded-for", b"192.0.2.1"),
            (b"x-forwarded-for", b"192.0.2.2"),
            (b"cookie", b"a=1"),
            (b"cookie", b"b=2"),
            (b"authorization", "Basic ü".encode()),
            path=b"/v1/%C3%BC.x%2Fy",
        )
    )
    expected = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": "/v1/\xc3\xbc.x/y",
        "QUERY_STRING": "a=%20&b=\xc3\xbc",
        "REMOTE_ADDR": "203.0.113.9",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "17217",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "wsgi.url_scheme": "http",
        "CONTENT_LENGTH": "3",
        "CONTENT_TYPE": "text/plain",
        "HTTP_X_FORWARDED_FOR": "192.0.2.1,192.0.2.2",
        "HTTP_COOKIE": "a=1;b=2",
        "HTTP_AUTHORIZATION": "Basic \xc3\xbc",
    }
    assert {key: environ[key] for key in expected} == expected


@pytest.mark.parametrize(
    ("headers", "parts", "expected"),
    [
        pytest.param([], [b"abc"], b"", id="without a length there is no body"),
        pytest.param([(b"content-length", b"6")], [b"abc", b"def"], b"abcdef", id="parts"),
        pytest.param([(b"content-length", b"600")], [b"abc"], b"abc", id="cut off"),
        pytest.param([CHUNKED], [b"ab", b"c"], b"abc", id="chunks"),
        pytest.param([(b"content-length", b"10")], [b"0123456", b"789"], b"0123456789", id="long"),
        pytest.param(
            [(b"transfer-encoding", b"chunked")], [b"0123456", b"78"], b"012345678", id="more"
        ),
        pytest.param([CHUNKED], [b"x"] * 900, b"x" * 900, id="parts of a byte"),
    ],
)
def test_a_body_is_whole_however_it_comes(
    headers: list[tuple[bytes, bytes]],
    parts: list[bytes],
    expected: bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(asgi, "MAX_READ_AHEAD", 6)
    hand_over = Mock(wraps=asyncio.run_coroutine_threadsafe)
    monkeypatch.setattr(asyncio, "run_coroutine_threadsafe", hand_over)
    read: list[bytes] = []

    def handle(environ: Any, start_response: Any) -> list[bytes]:
        stream = environ["wsgi.input"]
        read.append(stream.read(2) + stream.read(1000))
        start_response("200 OK", [("X-Read", "yes")])
        return [b"do", b"ne"]

    connection = Connection(*parts)
    exchange(handle, connection, scope(*headers))

    assert read == [expected]
    assert (
        hand_over.call_count <= 2
    )  # one a read: to wake a thread for each part costs most (CWE-405)
    assert connection.sent[0]["headers"] == [(b"X-Read", b"yes")]
    assert connection.body == b"done"


def test_a_stream_ends_with_its_reader() -> None:
    made: list[int] = []
    closed: list[bool] = []

    def endless() -> Iterator[bytes]:
        try:
            while True:
                made.append(1)
                yield b"x"
        finally:
            closed.append(True)

    def handle(_environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        return endless()

    connection = Connection()
    connection.leaves_after = 5
    exchange(handle, connection, scope(method="GET"))

    assert 4 <= len(made) < 100
    assert closed == [True]


def test_a_stream_is_sent_to_its_end() -> None:
    def handle(_environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        return iter([b"a", b"b"])

    connection = Connection()
    connection.leaves_after = 50
    exchange(handle, connection, scope(method="GET"))

    assert connection.body == b"ab"
    assert [message.get("more_body", False) for message in connection.sent[1:]] == [
        True,
        True,
        False,
    ]


def test_bodies_that_come_slowly_leave_threads_for_other_requests(
    monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    """CWE-400: some thousand senders of long bodies stopped `/livez` and every page."""
    settings.THREADS, slow = 1, 3
    monkeypatch.setattr(asgi, "MAX_WAITING", 2)
    monkeypatch.setattr(asgi, "MAX_LONG_BODIES", 2)
    monkeypatch.setattr(asgi, "MAX_OF_SENDER", 1)

    def handle(environ: Any, start_response: Any) -> list[bytes]:
        environ["wsgi.input"].read(1)
        start_response("200 OK", [])
        return [b"done"]

    async def asked() -> None:
        application = LoopApplication(handle, {}, {})  # type: ignore[arg-type]
        long, more = scope((b"content-length", b"99999")), asyncio.Event()

        async def receive() -> Any:
            await more.wait()
            return {"type": "http.request", "body": b"x" * 99999, "more_body": False}

        senders = [Connection() for _ in range(slow)]
        sending = [
            asyncio.create_task(application(long, receive, sender.send)) for sender in senders
        ]
        await asyncio.sleep(0)
        other = Connection()
        await asyncio.wait_for(application(scope(), other.receive, other.send), 2)
        elsewhere = Connection(b"x" * 99_999)
        long_too = {**long, "client": ("192.0.2.7", 5)}
        await asyncio.wait_for(application(long_too, elsewhere.receive, elsewhere.send), 2)
        more.set()
        await asyncio.gather(*sending)
        assert [one.body for one in (other, elsewhere, *senders)] == [b"done"] * (slow + 2)

    asyncio.run(asked())


@pytest.mark.parametrize(
    ("senders", "received"),
    [
        (["192.0.2.7"] * 9, 2),
        (["192.0.2.7", "192.0.2.7", "::ffff:192.0.2.7", "::ffff:192.0.2.8"], 3),
        ([f"2001:db8::{host}" for host in range(9)], 2),
        (["2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"], 3),
        ([None] * 9, 4),  # behind a proxy that is not named, say: all its clients
    ],
)
def test_who_sends_long_bodies_has_so_many_places(
    monkeypatch: pytest.MonkeyPatch, senders: list[str | None], received: int
) -> None:
    """CWE-400; one host has many addresses of IPv6."""
    monkeypatch.setattr(asgi, "MAX_OF_SENDER", 2)
    monkeypatch.setattr(asgi, "MAX_OF_UNKNOWN", 4)

    async def count() -> int:
        application = LoopApplication(lambda *_: [], {}, {})  # type: ignore[arg-type]
        inside = []

        async def receive_long(sender: str | None) -> None:
            async with application._place(sender):
                inside.append(sender)
                await asyncio.Event().wait()

        sending = [asyncio.create_task(receive_long(sender)) for sender in senders]
        await asyncio.sleep(0)
        for one in sending:
            one.cancel()
        return len(inside)

    assert asyncio.run(count()) == received


@pytest.mark.parametrize(("parts", "pause"), [(3, 0.0), (10, 0.02)])
def test_a_long_body_that_comes_too_slowly_ends(
    monkeypatch: pytest.MonkeyPatch, parts: int, pause: float
) -> None:
    """CWE-400; one that goes on fast enough may take longer than it may stand still."""
    monkeypatch.setattr(asgi, "BODY_PAUSE", 0.1)
    monkeypatch.setattr(asgi, "BODY_RATE", 1)
    read: list[bytes] = []

    def handle(environ: Any, start_response: Any) -> list[bytes]:
        read.append(environ["wsgi.input"].read(99_999))
        start_response("200 OK", [])
        return [b""]

    class Slow(Connection):
        async def receive(self) -> Any:
            await asyncio.sleep(pause if self._messages else 60)
            return await super().receive()

    connection = Slow(*[b"x"] * parts, is_cut_off=True)
    exchange(handle, connection, scope((b"content-length", b"99999")))

    assert read == [b"x" * parts]
    assert (b"Connection", b"close") in connection.sent[0]["headers"]
