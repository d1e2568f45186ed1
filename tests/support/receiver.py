"""A host that webhooks are sent to, and that behaves well or badly by the path that is called."""

import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

ANSWERS = {
    "/ok": b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n",
    "/500": b"HTTP/1.1 500 Oops\r\nContent-Length: 4\r\n\r\nsad\x00",
    "/redirect": b"HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\n"
    b"Content-Length: 0\r\n\r\n",
    "/gone": b"HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n",
    "/busy": b"HTTP/1.1 503 Busy\r\nRetry-After: 120\r\nContent-Length: 0\r\n\r\n",
    "/busy-until": b"HTTP/1.1 503 Busy\r\nRetry-After: Fri, 01 Jan 2100 00:00:00 GMT\r\n"
    b"Content-Length: 0\r\n\r\n",
    "/close": b"",
    "/garbage": b"\x00\xff this is no HTTP\r\n\r\n",
    "/interim": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "/half": b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
}


@dataclass
class Receiver:
    """What arrived: path, headers in lower case, body and when, of each request in order."""

    port: int
    requests: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    arrived: threading.Condition = field(default_factory=threading.Condition)

    def url(self, path: str) -> str:
        """Return the address of a behaviour."""
        return f"http://127.0.0.1:{self.port}{path}"

    def count(self, path: str = "") -> int:
        """Return how many requests came, in all or to a path."""
        return len([one for one in self.requests if not path or one[0] == path])

    def await_requests(self, count: int, seconds: float = 10, path: str = "") -> None:
        """Return once so many requests have come."""
        with self.arrived:
            came = self.arrived.wait_for(lambda: self.count(path) >= count, seconds)
        assert came, f"{self.count(path)} of {count} requests came"

    def serve(self, listening: socket.socket) -> None:
        """Answer until the socket is closed, each connection in a thread."""
        while True:
            try:
                connection, _address = listening.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=[connection], daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with suppress(OSError), connection:
            connection.settimeout(30)
            received = b""
            while b"\r\n\r\n" not in received:
                if not (part := connection.recv(65536)):
                    return
                received += part
            head, _, body = received.partition(b"\r\n\r\n")
            first, *lines = head.decode("latin-1").split("\r\n")
            headers = {
                name.lower(): value for name, _, value in (line.partition(": ") for line in lines)
            }
            while len(body) < int(headers.get("content-length", 0)):
                body += connection.recv(65536)
            path = first.split()[1]
            with self.arrived:
                self.requests.append((path, headers, body))
                self.times.append(time.monotonic())
                self.arrived.notify_all()
            self._behave(connection, path.partition("?")[0])

    @staticmethod
    def _behave(connection: socket.socket, path: str) -> None:
        if path in ANSWERS:
            connection.sendall(ANSWERS[path])
            return
        if path == "/reset":  # with SO_LINGER of 0 s, closing resets the connection
            linger = struct.pack("ii", 1, 0)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            return
        if path == "/endless-headers":
            connection.sendall(b"HTTP/1.1 200 OK\r\n")
            while True:
                connection.sendall(b"X-More: " + b"x" * 4000 + b"\r\n")
        if path == "/endless-interim":
            while True:
                connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n" * 400)
        if path == "/dripping-headers":
            connection.sendall(b"HTTP/1.1 200 OK\r\n")
            while True:
                connection.sendall(b"X-More: 1\r\n")
                time.sleep(0.05)
        if path == "/endless-body":
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n")
            while True:
                connection.sendall(b"x" * 65536)
        if path == "/hanging-body":
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx")
        time.sleep(30)  # and /hang


@contextmanager
def receiver() -> Iterator[Receiver]:
    """Yield a receiver on a free port of this machine."""
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listening:
        made = Receiver(listening.getsockname()[1])
        threading.Thread(target=made.serve, args=[listening], daemon=True).start()
        try:
            yield made
        finally:
            with suppress(OSError):
                listening.shutdown(socket.SHUT_RDWR)
