"""HTTP as no client speaks it, byte by byte, at the machine endpoints of a real server."""

import json
import re
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from tests.support.fuzz import CLIENTS, IDENTIFIER, IN_TIME, TIMES, Fuzz, fuzzing
from tests.support.servers import PATIENCE, demo_server

pytestmark = [pytest.mark.slow, pytest.mark.once(on="processes")]

EXAMPLES = 40 * TIMES
EACH = 24  # connections of an example
STATUS = re.compile(rb"HTTP/1\.[01] ([0-9]{3})[^\r\n]*\r\n")
LENGTH = re.compile(rb"(?i)\r\ncontent-length: ([0-9]+)")
LONG = b"twenty thousand"  # stands for as many bytes
SECRET = b"its secret"  # stands for the one that is only known once the server runs

RIGHT = (
    b'{"id":1,"method":"verify","deviceid":"' + IDENTIFIER.encode() + b'","devicesecret":"%b"}'
) % SECRET
WRONG = RIGHT.replace(SECRET, b"another")


@pytest.fixture(scope="module")
def fuzz(tmp_path_factory: pytest.TempPathFactory, report: Callable[[str], None]) -> Iterator[Fuzz]:
    with (
        demo_server(tmp_path_factory.mktemp("http"), LOG_LEVEL="CRITICAL") as server,
        fuzzing(server, report, "fuzz of HTTP") as running,
    ):
        yield running


words = st.binary(max_size=12)
methods = st.sampled_from(
    [b"POST"] * 6 + [b"post", b"GET", b"HEAD", b"PUT", b"OPTIONS", b"P\x00", b""]
)
paths = [
    b"/deviceverifier",
    b"/deviceverifier/",
    b"/rpc",
    b"/v1/Auth.Authenticate",
    b"/v1/\xc3\xa9",
]
targets = st.sampled_from(
    [
        *paths,
        *(b"http://elsewhere" + path for path in paths),
        b"/rpc?" + LONG,
        b"/deviceverifier?%00",
        b"/v1/%00%ff",
        b"/v1/" + LONG,
    ]
)
versions = st.sampled_from(
    [b"HTTP/1.1"] * 6 + [b"HTTP/1.0", b"HTTP/2.0", b"HTTP/0.9", b"HTTP/1.1x", b""]
)
bodies = st.sampled_from([RIGHT, WRONG, b"", b"{", b"null"]) | st.binary(max_size=40)
lines = st.sampled_from(
    [
        b"Host: registry",
        b"Host: other",
        b"Host:",
        b"Host: \x00",
        b"Connection: close",
        b"Connection: keep-alive, upgrade",
        b"Upgrade: h2c",
        b"Expect: 100-continue",
        b"Expect: nothing",
        b"Content-Type: text/html; charset=\xff",
        b"Content-Encoding: gzip",
        b"Authorization: Basic",
        b"Authorization: Basic Og==",
        b"Authorization: Bearer \xff",
        b"X-Forwarded-For: 203.0.113.9",
        b"X_Forwarded_For: 127.0.0.1",
        b"Transfer-Encoding: chunked",
        b"Transfer-Encoding: chunked, chunked",
        b"Transfer-Encoding: xchunked",
        b"Transfer-Encoding : chunked",
        b"Content-Length: 0",
        b"Content-Length: 5",
        b"Content-Length: -1",
        b"Content-Length: +5",
        b"Content-Length: 5, 5",
        b"Content-Length: 99999999999999999999999",
        b"X-Long: " + LONG,
        b"X-Longer: " + LONG * 20,
        b" folded",
        b"no colon",
        b": no name",
        b"X-NUL: \x00",
    ]
) | words.map(lambda word: b"X-Word: " + word)


def chunked(body: bytes, size: bytes, end: bytes) -> bytes:
    return size + b"\r\n" + body + b"\r\n" + end


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """Return a request, more or less; what announces its body may be right, wrong or missing."""
    body = draw(bodies)
    extra = draw(st.lists(lines, max_size=3))
    announced = [b"Host: registry", b"Content-Length: %d" % len(body)]
    form = draw(st.sampled_from(["whole", "chunked", "both", "neither"]))
    if form in {"chunked", "both"}:
        announced = announced if form == "both" else announced[:1]
        announced = [*announced, b"Transfer-Encoding: chunked"]
        size = draw(st.sampled_from([b"%x" % len(body)] * 4 + [b"", b"-1", b"g", b"f" * 20]))
        end = draw(st.sampled_from([b"0\r\n\r\n"] * 4 + [b"", b"0\r\nX: y\r\n\r\n", b"0\n\n"]))
        body = chunked(body, size + draw(st.sampled_from([b"", b";ext=1"])), end)
    elif form == "neither":
        announced = []
    head = draw(methods) + b" " + draw(targets) + b" " + draw(versions)
    newline = draw(st.sampled_from([b"\r\n"] * 6 + [b"\n", b"\r"]))
    return newline.join([head, *draw(st.permutations([*announced, *extra])), b"", b""]) + body


def exchange(fuzz: Fuzz, message: bytes) -> tuple[bytes, float]:
    """Send it all, close our half, and return all that came until the server closed its own."""
    begin = time.monotonic()
    received = b""
    with socket.create_connection(("127.0.0.1", fuzz.server.port), PATIENCE) as connection:
        try:
            connection.sendall(message)
            connection.shutdown(socket.SHUT_WR)
            while more := connection.recv(65536):
                received += more
        except (BrokenPipeError, ConnectionResetError):
            pass  # it closes at once on what is no HTTP
    return received, time.monotonic() - begin


def answers(received: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Yield the status, the head and the body of each answer; raises where there is more."""
    while received:
        status = STATUS.match(received)
        assert status, received
        head, _, rest = received.partition(b"\r\n\r\n")
        length = LENGTH.search(head)
        count = int(length[1]) if length else 0
        if not rest.startswith((b"{", b"[")):
            count = 0  # the answer to a HEAD
        yield int(status[1]), head, rest[:count]
        received = rest[count:]


def assert_fit(fuzz: Fuzz, message: bytes, received: bytes, seconds: float) -> None:
    described = f"{message[:2000]!r} was answered {received!r} after {seconds:.2f} s"
    assert seconds < IN_TIME, described
    for status, head, body in answers(received):
        fuzz.count(status, seconds)
        assert status < 500, described
        assert b"text/html" not in head, described
        if body:
            assert b"\r\ncontent-type: application/json" in head, described
            answer = json.loads(body)
            if "code" in answer and answer["code"] == "OK":
                assert fuzz.secret.encode() in message, described


def test_oddities(fuzz: Fuzz) -> None:
    several = st.lists(messages(), min_size=1, max_size=3).map(b"".join)  # pipelined

    @settings(
        max_examples=EXAMPLES,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(several, min_size=EACH, max_size=EACH))
    def run(sent: list[bytes]) -> None:
        real = [message.replace(SECRET, fuzz.secret.encode()) for message in sent]
        for message, (received, seconds) in zip(
            real, pool.map(lambda one: exchange(fuzz, one), real), strict=True
        ):
            took = seconds
            if took >= IN_TIME:  # the machine may have stood still: only twice is slow
                fuzz.again += 1
                _, took = exchange(fuzz, message)
            assert_fit(fuzz, message, received, took)

    with ThreadPoolExecutor(CLIENTS) as pool:
        run()
    assert fuzz.sent > EXAMPLES * EACH / 2


def test_what_is_right_is_still_let_in(fuzz: Fuzz) -> None:
    body = RIGHT.replace(SECRET, fuzz.secret.encode())
    assert fuzz.server.ask("POST", "/deviceverifier", body).body == b'{"id":1,"code":"OK"}'
