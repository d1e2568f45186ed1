"""What the fuzz knows: how to send anything, and which answers may never come."""

import http.client
import json
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple, NoReturn

from authsite.operations.asgi import MAX_READ_AHEAD
from tests.support.servers import PATIENCE, Server

TIMES = int(os.environ.get("FUZZ", "1"))  # `FUZZ=20` asks for twenty times as many examples
IN_TIME = 1.0  # seconds
CLIENTS = 8
IDENTIFIER = "5f0c7127-9a0e-4a59-9a1c-d3bb6f1f3e01"  # a device with a generated secret
UNKNOWN = "00000000-0000-4000-8000-000000000000"
SENSOR, THERMOSTAT = "//api.cesanta.com/device_123", "//api.cesanta.com/thermostat"
CLOUD = "//api.cesanta.com/cloud"
AUTHENTICATE, AUTHORIZE = "/v1/Auth.Authenticate", "/v1/Auth.AuthorizeCommand"
HARMLESS = ("/v1/Hello", "/v1/Dispatcher.Hello", "/v1/Services.Get")
CODES = {
    "OK",
    "NOT_FOUND",
    "VERIFICATION_FAILED",
    "METHOD_NOT_ALLOWED",
    "BAD_REQUEST",
}


class Asked(NamedTuple):
    """A POST of the fuzz."""

    path: str
    body: bytes
    headers: dict[str, str] = {}


class Told(NamedTuple):
    """What came back."""

    status: int
    content_type: str | None
    body: bytes
    seconds: float


class Fuzz:
    """Sends requests over a few kept connections and holds every answer against the rules."""

    def __init__(self, server: Server, secret: str) -> None:
        self.server = server
        self.secret = secret
        self.statuses: Counter[int] = Counter()
        self.slowest = 0.0
        self.again = 0  # requests that were sent again because the answer took too long
        self._pool = ThreadPoolExecutor(CLIENTS)
        self._own = threading.local()
        self._connections: list[http.client.HTTPConnection] = []

    def close(self) -> None:
        """Close the connections and end their threads."""
        self._pool.shutdown()
        for connection in self._connections:
            connection.close()

    @property
    def sent(self) -> int:
        """How many requests were answered."""
        return self.statuses.total()

    def send_all(self, requests: Iterable[Asked]) -> None:
        """Send requests, several at a time; raises AssertionError on the first wrong answer."""
        for request, told in self._pool.map(self._send, requests):
            self.check(request, told)

    def send_all_both_ways(self, requests: Iterable[Asked]) -> None:
        """Send requests as they are and so long that a thread answers; both are answered alike."""

        def both(request: Asked) -> tuple[Asked, Told, Told]:
            longer = request._replace(body=request.body + b" " * MAX_READ_AHEAD)
            return request, self._post(request), self._post(longer)

        for request, told, in_thread in self._pool.map(both, requests):
            self.count(told.status, told.seconds)
            assert told[:3] == in_thread[:3], request

    def _send(self, request: Asked) -> tuple[Asked, Told]:
        return request, self.in_time(lambda: self._post(request))

    def in_time(self, send: Callable[[], Told]) -> Told:
        """Send, and again if that was slow: other programs may have taken the machine's time."""
        told = send()
        for _ in range(2):
            if told.seconds >= IN_TIME:
                self.again += 1
                told = send()
        return told

    def _post(self, request: Asked) -> Told:
        connection = getattr(self._own, "connection", None)
        if connection is None:
            connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=PATIENCE)
            self._own.connection = connection
            self._connections.append(connection)
        begin = time.monotonic()
        try:
            connection.request("POST", request.path, request.body, request.headers)
            response = connection.getresponse()
            body = response.read()
        except (OSError, http.client.HTTPException):
            self._own.connection = None
            raise
        return Told(
            response.status,
            response.headers["Content-Type"],
            body,
            time.monotonic() - begin,
        )

    def count(self, status: int, seconds: float) -> None:
        """Count an answer."""
        self.statuses[status] += 1
        self.slowest = max(self.slowest, seconds)

    def check(self, request: Asked, told: Told) -> None:
        """Assert that an answer is one that this request may have."""
        self.count(told.status, told.seconds)
        described = f"{request} was answered {told}"
        assert told.status < 500, described
        assert told.seconds < IN_TIME, described
        if told.status == 204:
            assert (told.content_type, told.body) == (None, b""), described
            return
        assert told.content_type == "application/json", described
        answer = json.loads(told.body, parse_constant=no_json)
        if request.path.startswith("/deviceverifier"):
            assert set(answer) == {"id", "code"}, described
            assert type(answer["id"]) is int, described
            assert answer["code"] in CODES, described
            assert answer["code"] != "OK" or self.may_pass(request.body), described
        elif request.path.startswith(("/hubconfiger", "/jwtissuer")):
            assert answer["code"] in CODES, described
            assert "jwt" not in answer, described  # no caller has the permission
        else:
            assert not grants(answer) or self.may_be_granted(request), described

    def may_pass(self, body: bytes) -> bool:
        """Whether a body is a question of RTIO about a device and its right secret."""
        question = json.loads(body)
        right = question["deviceid"], question["devicesecret"]
        return question["method"] == "verify" and right in self.secrets.items()

    def may_be_granted(self, request: Asked) -> bool:
        """Whether one of the questions of a frame may be answered with yes."""
        asked = json.loads(request.body)
        if request.path.startswith("/v1/"):
            return self._is_right(request.path.partition("?")[0], asked)
        if asked.get("cmds") is not None:
            return any(self._is_right(one["cmd"], one.get("args")) for one in asked["cmds"])
        return self._is_right(asked["method"], asked.get("params", asked.get("args")))

    def _is_right(self, command: str, args: Any) -> bool:
        if command == AUTHENTICATE:
            secret = self.secrets.get(args["id"])
            return secret is not None and args["credentials"].get("psk") == secret
        if command != AUTHORIZE:
            return False
        ends, asked = (args["src"], args["dst"]), args["cmd"]
        if asked.startswith("/v1/Config.Erase"):
            return asked != "/v1/Config.Erase" and ends == (SENSOR, THERMOSTAT)
        return ends == (THERMOSTAT, THERMOSTAT) or (
            ends == (SENSOR, THERMOSTAT) and asked.startswith("/v1/Config.")
        )

    @property
    def secrets(self) -> dict[str, str]:
        """The right secrets, by whose they are."""
        return {
            IDENTIFIER: self.secret,
            SENSOR: "qwerty",
            THERMOSTAT: "thermostat-secret-1",
            CLOUD: "cloud-backend-key-0123456789",
            "cfa09baa-4913-4ad7-a936-2e26f9671b05": "mb6bgso4EChvyzA05thF9+wH",
        }


def no_json(name: str) -> NoReturn:
    """Fail: Python reads NaN and infinities, and no client does."""
    raise AssertionError(f"{name} is no JSON")


def grants(answer: Any) -> bool:
    """Whether a reply holds a yes, as a frame of either version or as an array of one."""
    if isinstance(answer, list):
        return any(grants(one) for one in answer)
    results = [item.get("resp") for item in answer.get("resp", [])]
    return any(result is True for result in [*results, answer.get("result")])


@contextmanager
def fuzzing(server: Server, report: Callable[[str], None], what: str) -> Iterator[Fuzz]:
    """Yield a fuzz of a server's endpoints; what it sent is reported at the end."""
    printed = server.manage("add_device", IDENTIFIER, "--generate-secret", "--json")
    fuzz = Fuzz(server, json.loads(printed)["secret"])
    try:
        yield fuzz
    finally:
        fuzz.close()
        counts = ", ".join(f"{count} × {status}" for status, count in fuzz.statuses.most_common())
        report(
            f"{what}: {fuzz.sent} requests ({counts}), slowest {fuzz.slowest:.2f} s "
            f"({fuzz.again} slower ones were sent again)"
        )
