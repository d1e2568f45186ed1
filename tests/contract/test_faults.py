"""A server whose database goes away, and a server that is told to stop."""

import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

from tests.support.postgres import SCHEMES
from tests.support.servers import Server, demo_server

KNOWN = "cfa09baa-4913-4ad7-a936-2e26f9671b05"
IDENTIFIER = "5f0c7127-9a0e-4a59-9a1c-d3bb6f1f3e01"
VERIFICATION = json.dumps(
    {
        "id": 5,
        "method": "verify",
        "deviceid": KNOWN,
        "devicesecret": "mb6bgso4EChvyzA05thF9+wH",
    }
).encode()
AUTHENTICATION = json.dumps(
    {
        "v": 1,
        "src": "//api.cesanta.com/cloud",
        "cmds": [
            {
                "cmd": "/v1/Auth.Authenticate",
                "id": 1,
                "args": {
                    "id": "//api.cesanta.com/device_123",
                    "credentials": {"psk": "qwerty"},
                },
            }
        ],
    }
).encode()


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[Server]:
    with demo_server(tmp_path) as server:
        yield server


class Outage:
    """Takes a server's database away and gives it back."""

    def __init__(self, server: Server) -> None:
        self.url = urlsplit(server.database_url)
        self.is_postgres = server.database_url.startswith(SCHEMES)

    def _alter(self, statement: str) -> None:
        elsewhere = os.environ["DATABASE_URL"]
        with psycopg.connect(elsewhere, autocommit=True) as connection:
            connection.execute(statement.encode())

    def begin(self) -> None:
        """Refuse new connections and end the open ones; or put a file in place that is none."""
        name = self.url.path.lstrip("/")
        if self.is_postgres:
            self._alter(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
            self._alter(
                f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
            )
            return
        file = Path(self.url.path)
        file.rename(file.with_suffix(".away"))
        file.mkdir()

    def end(self) -> None:
        """Make it as it was."""
        if self.is_postgres:
            self._alter(f"ALTER DATABASE {self.url.path.lstrip('/')} ALLOW_CONNECTIONS true")
            return
        file = Path(self.url.path)
        file.rmdir()
        file.with_suffix(".away").rename(file)


def code(server: Server) -> str:
    """Return the verifier's code for the known device; every answer is JSON with HTTP 200."""
    answer = server.ask("POST", "/deviceverifier", VERIFICATION)
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/json"
    document = json.loads(answer.body)
    assert document["id"] == 5
    found: str = document["code"]
    return found


def authenticate(server: Server) -> dict[str, object]:
    """Return the item that answers the command frame."""
    answer = server.ask("POST", "/", AUTHENTICATION)
    assert answer.status == 200
    item: dict[str, object] = json.loads(answer.body)["resp"][0]
    return item


def test_an_unreachable_database_is_said_and_its_return_noticed(own_server: Server) -> None:
    outage = Outage(own_server)
    if outage.is_postgres:  # an open SQLite file cannot be taken away
        assert code(own_server) == "OK"
        assert authenticate(own_server) == {"id": 1, "status": 0, "resp": True}

    outage.begin()
    try:
        for _ in range(30):  # every thread of every worker, and twice
            assert code(own_server) == "INTERNAL_SERVER_ERROR"
            assert authenticate(own_server) == {
                "id": 1,
                "status": 503,
                "status_msg": "service unavailable",
            }
    finally:
        outage.end()

    for _ in range(30):
        assert code(own_server) == "OK"
        assert authenticate(own_server) == {"id": 1, "status": 0, "resp": True}
    assert "OperationalError" in own_server.log


@pytest.mark.once(on="sqlite")
def test_a_stop_answers_what_was_begun(own_server: Server) -> None:
    printed = own_server.manage("add_device", IDENTIFIER, "--generate-secret", "--json")
    secret = json.loads(printed)["secret"]
    document = {"id": 5, "method": "verify", "deviceid": IDENTIFIER, "devicesecret": secret}
    body = json.dumps(document).encode()
    head = f"POST /deviceverifier HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    request = head.encode() + body

    def verify_until_refused(_: int) -> int:
        for answered in range(100_000):
            try:
                with socket.create_connection(("127.0.0.1", own_server.port), 10) as connection:
                    connection.sendall(request)
                    answer = read_whole(connection)
            except ConnectionError:
                return answered
            if not answer:
                return answered
            assert answer.endswith(b'{"id":5,"code":"OK"}')
        raise AssertionError("the server never stopped")

    with ThreadPoolExecutor(8) as pool:
        clients = pool.map(verify_until_refused, range(8))
        time.sleep(1)
        begin = time.monotonic()
        exit_code = own_server.stop(signal.SIGTERM)
        stopping = time.monotonic() - begin
        answered = list(clients)

    assert exit_code == 0
    assert stopping < 5
    assert sum(answered) > 100


@pytest.mark.once(on="sqlite")
def test_a_stop_waits_for_a_body_that_is_under_way(own_server: Server) -> None:
    head = (
        f"POST /deviceverifier HTTP/1.1\r\nHost: x\r\nContent-Length: {len(VERIFICATION)}\r\n\r\n"
    )
    with (
        socket.create_connection(("127.0.0.1", own_server.port), 10) as connection,
        ThreadPoolExecutor(1) as pool,
    ):
        connection.sendall(head.encode() + VERIFICATION[:20])
        time.sleep(0.5)
        stopping = pool.submit(own_server.stop, signal.SIGTERM)
        time.sleep(1)
        connection.sendall(VERIFICATION[20:])

        assert read_whole(connection).endswith(b'{"id":5,"code":"OK"}')
        assert stopping.result() == 0


def read_whole(connection: socket.socket) -> bytes:
    """Return an answer of the verifier; nothing where the server closed without one."""
    answer = b""
    while not answer.endswith(b"}"):
        received = connection.recv(4096)
        if not received:
            break
        answer += received
    return answer


@pytest.mark.once(on="postgres")
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_stop_loses_no_evidence(how: signal.Signals, tmp_path: Path) -> None:
    with ExitStack() as until_the_end:
        if signal.getsignal(how) is signal.SIG_IGN:  # by `nohup`; a server would inherit it
            until_the_end.callback(signal.signal, how, signal.signal(how, signal.SIG_DFL))
        server = until_the_end.enter_context(demo_server(tmp_path, EVIDENCE_INTERVAL="3600"))
        assert code(server) == "OK"
        server.stop(how)

        seen = server.manage(
            "shell",
            "--no-imports",
            "-c",
            "from devices.models import Device; "
            f"print(Device.objects.get(identifier='{KNOWN}').last_seen)",
        )

    assert seen.strip() != "None"


@pytest.mark.once(on="sqlite")
def test_a_stop_does_not_wait_for_idle_or_stalled_clients(own_server: Server) -> None:
    address = ("127.0.0.1", own_server.port)
    with socket.create_connection(address), socket.create_connection(address) as stalled:
        stalled.sendall(b"POST /deviceverifier HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{")
        time.sleep(0.2)
        begin = time.monotonic()
        own_server.stop()

    assert time.monotonic() - begin < 7  # container managers wait for 10


@pytest.mark.once(on="sqlite")
def test_a_second_server_on_the_port_is_refused(server: Server) -> None:
    second = Server(server.log_path.parent, server.database_url)
    second.port = server.port
    with pytest.raises(AssertionError, match=r"cannot listen on 127\.0\.0\.1 port \d+"):
        second.manage("serve", "--port", str(server.port))
