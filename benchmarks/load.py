"""A load generator: `python -m benchmarks.load PORT SECONDS [options] < EXCHANGES`.

In a closed loop each connection carries one request at a time, at least one in all, and the next
as soon as it is answered; with `--rate`, requests fall due evenly, however long the answers take,
and wait for a free connection. Each request is drawn from EXCHANGES at random. Prints one JSON
object: how many were answered, how many wrongly, the seconds that took, percentiles of the latency
in milliseconds (from the moment at which a request was due), and the cores that the generator used.
EXCHANGES is a pickled list of pairs: a whole HTTP request, and bytes that its answer must contain.
"""

import argparse
import json
import pickle
import random
import select
import socket
import sys
import time
from collections import deque
from collections.abc import Sequence

PATIENCE = 60.0  # seconds without any answer: slow hashes take many on a busy machine
Exchange = tuple[bytes, bytes]


class Client:
    """Carries one request at a time, over one connection or over a new one each time."""

    def __init__(self, port: int, *, fresh: bool) -> None:
        self.port = port
        self.fresh = fresh
        self.connection: socket.socket | None = None
        self.answer = b""
        self.wanted = b""
        self.due = 0.0

    def ask(self, exchange: Exchange, due: float, poll: select.epoll) -> int:
        """Send a request that was due at that moment; return the number of its file."""
        request, self.wanted = exchange
        self.answer = b""
        self.due = due
        if self.connection is None:
            self.connection = socket.create_connection(("127.0.0.1", self.port), PATIENCE)
            self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            poll.register(self.connection, select.EPOLLIN)
        self.connection.sendall(request)
        return self.connection.fileno()

    def is_answered(self) -> bool:
        """Read what has come; whether the answer is whole."""
        if self.connection is None:
            raise ConnectionError("nothing was asked")
        received = self.connection.recv(65536)
        if not received:
            raise ConnectionError("the server closed a connection")
        self.answer += received
        if not is_whole(self.answer):
            return False
        if self.fresh:
            self.connection.close()
            self.connection = None
        return True


def is_whole(answer: bytes) -> bool:
    """Whether an HTTP response has arrived to its end."""
    head, found, body = answer.partition(b"\r\n\r\n")
    if not found:
        return False
    _, announced, rest = head.lower().partition(b"content-length: ")
    if not announced:  # it comes in chunks
        return body.endswith(b"0\r\n\r\n")
    return len(body) >= int(rest.split(b"\r\n", 1)[0])


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return the value below which that share of the sorted values lies."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def run(
    port: int,
    seconds: float,
    exchanges: Sequence[Exchange],
    *,
    connections: int,
    fresh: bool = False,
    rate: float = 0,
) -> dict[str, float]:
    """Load the server for that long and return what was measured."""
    poll = select.epoll()
    idle = deque(Client(port, fresh=fresh) for _ in range(connections))
    busy: dict[int, Client] = {}
    latencies: list[float] = []
    wrong = 0
    cpu = time.process_time()
    begin = now = next_due = time.perf_counter()
    end = begin + seconds
    due = deque([] if rate else [begin] * connections)
    while now < end or (not rate and len(latencies) < connections):
        while rate and next_due <= now:
            due.append(next_due)
            next_due += 1 / rate
        while due and idle:
            client = idle.popleft()
            busy[client.ask(random.choice(exchanges), due.popleft(), poll)] = client
        if rate:  # an epoll waits for whole milliseconds only, a select for less
            select.select([poll], [], [], max(0.0, min(next_due, end) - time.perf_counter()))
        ready = poll.poll(0 if rate else PATIENCE)
        if not ready and not rate:
            raise TimeoutError("the server answers no more")
        for number, _ in ready:
            client = busy[number]
            if not client.is_answered():
                continue
            answered = time.perf_counter()
            latencies.append(answered - client.due)
            wrong += client.wanted not in client.answer
            idle.append(busy.pop(number))
            if not rate:
                due.append(answered)
        now = time.perf_counter()
    answered_in_all = len(latencies)
    if rate:  # what is not answered yet has waited at least so long
        latencies += [now - client.due for client in busy.values()] + [now - one for one in due]
    latencies.sort()
    return {
        "answered": answered_in_all,
        "wrong": wrong,
        "seconds": now - begin,
        "p50": percentile(latencies, 0.50) * 1000,
        "p99": percentile(latencies, 0.99) * 1000,
        "cpu": (time.process_time() - cpu) / (now - begin),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("seconds", type=float)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--fresh", action="store_true", help="a new connection for each request")
    parser.add_argument("--rate", type=float, default=0, help="requests a second; 0: a closed loop")
    options = vars(parser.parse_args())
    exchanges = pickle.load(sys.stdin.buffer)
    print(json.dumps(run(options.pop("port"), options.pop("seconds"), exchanges, **options)))


if __name__ == "__main__":
    main()
