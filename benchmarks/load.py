"""A load generator: `python -m benchmarks.load PORT SECONDS CONNECTIONS < EXCHANGES`.

Keeps each connection busy with one request at a time, in a closed loop, and prints one JSON object:
how many were answered, how many wrongly, the seconds that took, and percentiles of the latency in
milliseconds. EXCHANGES is a pickled list of pairs: a whole HTTP request, and bytes that its answer
must contain.
"""

import itertools
import json
import pickle
import select
import socket
import sys
import time

LENGTH = b"content-length: "
PATIENCE = 5.0  # seconds; RTIO's
Exchange = tuple[bytes, bytes]


class Client:
    """One keep-alive connection with a request under way."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.answer = b""
        self.wanted = b""
        self.sent = 0.0

    def ask(self, exchange: Exchange) -> None:
        """Send a request."""
        request, self.wanted = exchange
        self.answer = b""
        self.sent = time.perf_counter()
        self.socket.sendall(request)

    def is_answered(self) -> bool:
        """Read what has come; whether the answer is whole."""
        received = self.socket.recv(65536)
        if not received:
            raise ConnectionError("the server closed a connection")
        self.answer += received
        head, found, body = self.answer.partition(b"\r\n\r\n")
        if not found:
            return False
        start = head.index(LENGTH) + len(LENGTH)
        return len(body) >= int(head[start:].split(b"\r\n", 1)[0])


def percentile(ordered: list[float], share: float) -> float:
    """Return the value below which that share of the sorted values lies."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def run(port: int, seconds: float, connections: int, exchanges: list[Exchange]) -> dict[str, float]:
    """Load the server for that long and return what was measured."""
    source = itertools.cycle(exchanges)
    poll = select.epoll()
    clients = {}
    for _ in range(connections):
        client = Client(port)
        clients[client.socket.fileno()] = client
        poll.register(client.socket, select.EPOLLIN)
    latencies: list[float] = []
    wrong = 0
    begin = time.perf_counter()
    for client in clients.values():
        client.ask(next(source))
    while (now := time.perf_counter()) < begin + seconds:
        ready = poll.poll(PATIENCE)
        if not ready:
            raise TimeoutError("the server answers no more")
        for number, _ in ready:
            client = clients[number]
            if client.is_answered():
                latencies.append(time.perf_counter() - client.sent)
                wrong += client.wanted not in client.answer
                client.ask(next(source))
    latencies.sort()
    return {
        "answered": len(latencies),
        "wrong": wrong,
        "seconds": now - begin,
        "p50": percentile(latencies, 0.50) * 1000,
        "p99": percentile(latencies, 0.99) * 1000,
    }


def main() -> None:
    """Read the exchanges, apply the load, print the result."""
    port, seconds, connections = sys.argv[1:]
    exchanges = pickle.load(sys.stdin.buffer)
    print(json.dumps(run(int(port), float(seconds), int(connections), exchanges)))


if __name__ == "__main__":
    main()
