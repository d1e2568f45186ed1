"""What no test client can send: raw bytes, cut off, stalled, pipelined, many at once."""

import json
import re
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from tests.support.servers import Server

pytestmark = pytest.mark.once(on="sqlite")

LENGTH = re.compile(rb"(?i)content-length: ([0-9]+)")
PATIENCE = 5  # seconds; RTIO's
KNOWN = "cfa09baa-4913-4ad7-a936-2e26f9671b05"
SECRET = "mb6bgso4EChvyzA05thF9+wH"
IDENTIFIER = "5f0c7127-9a0e-4a59-9a1c-d3bb6f1f3e01"
ENDPOINTS = ["/deviceverifier", "/", "/rpc"]


def verification(*, identifier: str = KNOWN, secret: str = SECRET, number: int = 7) -> bytes:
    """Return the body of RTIO's question."""
    document = {"id": number, "method": "verify", "deviceid": identifier, "devicesecret": secret}
    return json.dumps(document).encode()


def head(path: str = "/deviceverifier", *lines: str) -> bytes:
    """Return a POST's head with these header lines."""
    return "\r\n".join([f"POST {path} HTTP/1.1", "Host: registry", *lines, "", ""]).encode()


def post(body: bytes, path: str = "/deviceverifier") -> bytes:
    """Return a whole POST."""
    return head(path, f"Content-Length: {len(body)}") + body


def chunked(*chunks: bytes) -> bytes:
    """Return a body in chunks, with its end."""
    return b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in (*chunks, b""))


@pytest.fixture
def connect(server: Server) -> Iterator[Callable[[], socket.socket]]:
    with ExitStack() as stack:

        def make() -> socket.socket:
            address = ("127.0.0.1", server.port)
            return stack.enter_context(socket.create_connection(address, PATIENCE))

        yield make


def read_exactly(connection: socket.socket, count: int) -> bytes:
    """Return the next bytes; raises ConnectionError where the server closes instead."""
    received = b""
    while len(received) < count:
        more = connection.recv(count - len(received))
        if not more:
            raise ConnectionError("closed")
        received += more
    return received


def read_answer(connection: socket.socket) -> tuple[int, bytes]:
    """Return the status and body of the next answer, and leave what follows it unread."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += read_exactly(connection, 1)
    length = LENGTH.search(head)
    assert length, head
    return int(head.split(maxsplit=2)[1]), read_exactly(connection, int(length[1]))


def code(connection: socket.socket) -> str:
    """Return the code of the next answer of the verifier."""
    _, body = read_answer(connection)
    answer: str = json.loads(body)["code"]
    return answer


def assert_refused(path: str, status: int, body: bytes) -> None:
    """Assert that the answer is its endpoint's refusal of an unreadable body."""
    document = json.loads(body)
    if path == "/deviceverifier":
        assert document == {"id": 0, "code": "BAD_REQUEST"}
    else:
        assert document["error"]["code"] == status
        assert document["error"]["message"].startswith("invalid frame: ")


@pytest.fixture(scope="module")
def generated(server: Server) -> bytes:
    """Return a question about a device with a generated secret: its answer is yes."""
    printed = server.manage("add_device", IDENTIFIER, "--generate-secret", "--json")
    return verification(identifier=IDENTIFIER, secret=json.loads(printed)["secret"])


Connect = Callable[[], socket.socket]


@pytest.mark.parametrize("path", ENDPOINTS)
def test_a_body_cut_off_by_a_half_closed_connection_is_refused(path: str, connect: Connect) -> None:
    connection = connect()
    connection.sendall(head(path, "Content-Length: 500") + verification())
    connection.shutdown(socket.SHUT_WR)

    status, body = read_answer(connection)

    assert_refused(path, status, body)


@pytest.mark.parametrize("path", ENDPOINTS)
def test_a_client_that_vanishes_within_its_body_leaves_no_trace(
    path: str, connect: Connect, generated: bytes
) -> None:
    for _ in range(40):
        connection = connect()
        connection.sendall(head(path, "Content-Length: 500") + b'{"id":1')
        connection.close()

    survivor = connect()
    survivor.sendall(post(generated))

    assert code(survivor) == "OK"


@pytest.mark.parametrize("path", ENDPOINTS)
def test_more_body_than_was_announced_is_no_part_of_the_request(
    path: str, connect: Connect
) -> None:
    connection = connect()
    connection.sendall(head(path, "Content-Length: 2") + b'{"' + verification())

    status, body = read_answer(connection)

    assert_refused(path, status, body)
    assert read_answer(connection) == (400, b"")  # what follows is no request


@pytest.mark.parametrize("length", ["-1", "1e3", "abc", "99999999999999999999999"])
def test_a_content_length_that_is_none_is_refused_by_the_server(
    length: str, connect: Connect
) -> None:
    connection = connect()
    connection.sendall(head("/deviceverifier", f"Content-Length: {length}") + verification())

    status, body = read_answer(connection)

    assert (status, body) == (400, b"")


def test_a_body_in_chunks_is_a_body(connect: Connect) -> None:
    connection = connect()
    body = verification(number=99)
    for cut in (1, 10, len(body) - 1):
        connection.sendall(head("/deviceverifier", "Transfer-Encoding: chunked"))
        connection.sendall(chunked(body[:cut], body[cut:]))

        assert json.loads(read_answer(connection)[1]) == {"id": 99, "code": "OK"}


@pytest.mark.parametrize("path", ENDPOINTS)
def test_broken_chunks_are_refused(path: str, connect: Connect) -> None:
    connection = connect()
    connection.sendall(head(path, "Transfer-Encoding: chunked") + b"zz\r\nnonsense\r\n")

    status, body = read_answer(connection)

    assert_refused(path, status, body)


@pytest.mark.parametrize("path", ENDPOINTS)
def test_endless_chunks_are_cut_short(path: str, connect: Connect) -> None:
    connection = connect()
    connection.sendall(head(path, "Transfer-Encoding: chunked"))
    chunks = (b"10000\r\n" + b"[" * 0x10000 + b"\r\n") * 1000

    with pytest.raises((ConnectionResetError, BrokenPipeError)):
        connection.sendall(chunks)


@pytest.mark.parametrize("path", ENDPOINTS)
@pytest.mark.parametrize("announced", [1_000_000, 3_000_000_000])
def test_a_body_that_announces_too_much_is_refused_before_it_is_read(
    path: str, announced: int, connect: Connect
) -> None:
    connection = connect()
    connection.sendall(head(path, f"Content-Length: {announced}"))

    status, body = read_answer(connection)

    assert status == 413
    assert_refused(path, status, body)


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 60_000,
        b'{"id":1,"x":' + b"[" * 20_000 + b"]" * 20_000 + b"}",
        b'{"a":' * 12_000,
        b"\xff\xfe{}",
        b"\xef\xbb\xbf{}",
        b"",
        b"nul\x00",
    ],
    ids=["brackets", "closed brackets", "objects", "not UTF-8", "byte order mark", "empty", "NUL"],
)
@pytest.mark.parametrize("path", ENDPOINTS)
def test_what_is_no_json_object_is_refused(path: str, body: bytes, connect: Connect) -> None:
    connection = connect()
    connection.sendall(post(body, path))

    status, answer = read_answer(connection)

    document = json.loads(answer)
    if path == "/deviceverifier":
        assert document["code"] != "OK"
    else:
        assert_refused(path, status, answer)


@pytest.mark.parametrize(("path", "status"), [("/deviceverifier", 413), ("/", 400), ("/rpc", 400)])
def test_a_hundred_thousand_brackets_are_refused(path: str, status: int, connect: Connect) -> None:
    connection = connect()
    connection.sendall(post(b"[" * 100_000, path))

    found, body = read_answer(connection)

    assert found == status
    assert_refused(path, found, body)


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        (verification(identifier="a\x00" + KNOWN[2:]), {"id": 7, "code": "NOT_FOUND"}),
        (verification(identifier="\ud800" + KNOWN[1:]), {"id": 7, "code": "NOT_FOUND"}),
        (verification(secret=SECRET + "\x00"), {"id": 7, "code": "VERIFICATION_FAILED"}),
        (verification(secret=SECRET + "\udfff"), {"id": 7, "code": "VERIFICATION_FAILED"}),
        (verification(number=2**64), {"id": 0, "code": "BAD_REQUEST"}),
        (verification(number=10**400), {"id": 0, "code": "BAD_REQUEST"}),
        (verification().replace(b"7", b"1e400", 1), {"id": 0, "code": "BAD_REQUEST"}),
        (verification().replace(b"7", b"NaN", 1), {"id": 0, "code": "BAD_REQUEST"}),
        (verification(secret="x" * 50_000), {"id": 7, "code": "VERIFICATION_FAILED"}),
    ],
    ids=["NUL in id", "surrogate in id", "NUL in secret", "surrogate in secret", "2^64", "10^400",
         "1e400", "NaN", "long secret"],
)  # fmt: skip
def test_strange_values_get_an_ordinary_verdict(
    body: bytes, answer: dict[str, object], connect: Connect
) -> None:
    connection = connect()
    connection.sendall(post(body))

    assert read_answer(connection) == (200, json.dumps(answer, separators=(",", ":")).encode())


def test_pipelined_requests_are_answered_in_order(connect: Connect) -> None:
    connection = connect()
    connection.sendall(b"".join(post(verification(number=number)) for number in range(20)))

    ids = [json.loads(read_answer(connection)[1])["id"] for _ in range(20)]

    assert ids == list(range(20))


def test_idle_connections_stay_open_and_hinder_nobody(connect: Connect, generated: bytes) -> None:
    idle = [connect() for _ in range(200)]
    time.sleep(1)
    begin = time.monotonic()
    for connection in idle:
        connection.sendall(post(generated))
        assert code(connection) == "OK"

    assert time.monotonic() - begin < PATIENCE


def test_stalled_bodies_hinder_nobody(connect: Connect, generated: bytes) -> None:
    for _ in range(40):
        connect().sendall(head("/deviceverifier", "Content-Length: 100") + b"{")
    time.sleep(0.2)
    for _ in range(50):
        connection = connect()
        begin = time.monotonic()
        connection.sendall(post(generated))

        assert code(connection) == "OK"
        assert time.monotonic() - begin < 1


@pytest.mark.parametrize("path", ["/", "/rpc"])
def test_strangers_who_stall_hinder_nobody_however_many(
    path: str, connect: Connect, generated: bytes
) -> None:
    for _ in range(40):
        stalled = head(path, "Content-Length: 100", "X-Forwarded-For: 203.0.113.9")
        connect().sendall(stalled + b"{")
    time.sleep(0.5)
    for _ in range(20):
        connection = connect()
        begin = time.monotonic()
        connection.sendall(post(generated))

        assert code(connection) == "OK"
        assert time.monotonic() - begin < 4


def test_three_hundred_new_connections_at_once_are_answered_in_time(
    server: Server, generated: bytes
) -> None:
    request = post(generated)

    def verify(_: int) -> str:
        with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as connection:
            connection.sendall(request)
            return code(connection)

    begin = time.monotonic()
    with ThreadPoolExecutor(300) as pool:
        codes = list(pool.map(verify, range(300)))

    assert codes == ["OK"] * 300
    assert time.monotonic() - begin < PATIENCE
