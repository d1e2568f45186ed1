"""Clients that send a byte a second, or nothing at all, and those who must not notice."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Self

import pytest

from tests.contract.test_faults_under_load import NOISE, asked, assert_all_right
from tests.support.load import Load, Question, quantile, slowest
from tests.support.servers import Server, demo_server

pytestmark = [pytest.mark.slow, pytest.mark.once(on="processes")]

SLOW = 300  # clients
# Those who must not notice ask steadily, some hundred times in all, and are no load themselves.
CLIENTS, PAUSE = 8, 0.04
FORWARDED = "X-Forwarded-For: 203.0.113.9\r\n"  # in no backend network
HEAD = "POST {path} HTTP/1.1\r\nHost: registry\r\n{more}Content-Length: 150\r\n\r\n"
DRIPS = {
    "head": "POST /deviceverifier HTTP/1.1\r\nX-Slow: ",
    "body": HEAD.format(path="/deviceverifier", more=""),
    "frame": HEAD.format(path="/rpc", more=""),
    "stranger": HEAD.format(path="/rpc", more=FORWARDED),
    "chunks": "POST /rpc HTTP/1.1\r\nHost: registry\r\nTransfer-Encoding: chunked\r\n\r\n96\r\n",
    "login": HEAD.format(path="/admin/login/", more=FORWARDED),
}


@pytest.fixture(scope="module")
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with demo_server(tmp_path_factory.mktemp("slow")) as server:
        yield server


@pytest.fixture(scope="module")
def others(own_server: Server) -> list[Question]:
    """Return what others ask; the guesses that may be hashed are used up beforehand."""
    questions = asked(own_server)
    with Load(own_server, questions):
        time.sleep(4)
    return questions


class Drip:
    """Connections that each send a byte a second, until the block ends or the server ends them."""

    def __init__(self, server: Server, begin: str, count: int) -> None:
        self._stack = ExitStack()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._drip)
        self.connections = [
            self._stack.enter_context(socket.create_connection(("127.0.0.1", server.port), 5))
            for _ in range(count)
        ]
        for connection in self.connections:
            connection.sendall(begin.encode())

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._stack.close()

    def _drip(self) -> None:
        while not self._ended.wait(1):
            for connection in list(self.connections):
                try:
                    connection.sendall(b"x")
                except OSError:
                    self.connections.remove(connection)


@pytest.mark.parametrize("what", DRIPS)
def test_clients_that_send_a_byte_a_second_hinder_nobody(
    what: str, own_server: Server, others: list[Question], report: Callable[[str], None]
) -> None:
    with Load(own_server, others, CLIENTS, PAUSE) as load:
        time.sleep(0.5)
        with Drip(own_server, DRIPS[what], SLOW):
            begin = time.monotonic()
            time.sleep(5)
            end = time.monotonic()

    assert_all_right(load.answers)
    assert not load.broken
    steady = load.between(begin + 2, end)
    assert quantile(steady, 0.99) < NOISE
    assert slowest(load.answers) < 2 + NOISE  # while all of them come at once
    report(
        f"{SLOW} clients at a byte a second ({what}): others' p99 {quantile(steady, 0.99):.3f} s, "
        f"slowest {slowest(load.answers):.2f} s"
    )


def test_five_hundred_idle_connections_hinder_nobody(
    own_server: Server, others: list[Question], report: Callable[[str], None]
) -> None:
    with Drip(own_server, "", 500) as idle:
        idle._ended.set()  # they send nothing
        with Load(own_server, others, CLIENTS, PAUSE) as load:
            time.sleep(4)

    assert_all_right(load.answers)
    assert not load.broken
    assert quantile(load.answers, 0.99) < NOISE
    report(f"500 idle connections: others' p99 {quantile(load.answers, 0.99):.3f} s")
