"""Devices that are verified over and over, and the count of what they were answered."""

import http.client
import json
import threading
import time
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple, Self

from tests.support.servers import Server

PATIENCE = 15  # seconds: longer than RTIO's 5, so that a late answer is seen and counted
FAILED = "INTERNAL_SERVER_ERROR"

REGISTER = """
import json, sys, uuid
from devices.models import Device, PreSharedKey
made = []
for number in range({count}):
    device = Device(identifier=str(uuid.uuid4()), name="drill")
    device.full_clean()
    device.save()
    key, secret = PreSharedKey.objects.issue(device=device)
    made.append([device.identifier, device.pk, key.pk, secret])
print(json.dumps(made))
"""


class Known(NamedTuple):
    """A registered device and one of its keys."""

    identifier: str
    device: int
    key: int
    secret: str


class Answered(NamedTuple):
    """What one question came to; moments are of the monotonic clock."""

    known: Known
    asked: float
    answered: float
    code: str  # "" where the connection broke


def register(server: Server, count: int) -> list[Known]:
    """Register devices with a generated secret each."""
    printed = server.manage("shell", "-v", "0", "-c", REGISTER.format(count=count))
    return [Known(*row) for row in json.loads(printed.strip().splitlines()[-1])]


class Client:
    """A keep-alive connection that asks the verifier of one server."""

    def __init__(self, server: Server, patience: float = PATIENCE) -> None:
        self._port = server.port
        self._patience = patience
        self._connection: http.client.HTTPConnection | None = None

    def ask(self, known: Known) -> Answered:
        """Return what the server says of a device's right secret."""
        question = {"id": 1, "method": "verify", "deviceid": known.identifier}
        body = json.dumps(question | {"devicesecret": known.secret})
        asked = time.monotonic()
        if self._connection is None:
            self._connection = http.client.HTTPConnection(
                "127.0.0.1", self._port, timeout=self._patience
            )
        try:
            self._connection.request("POST", "/deviceverifier", body)
            code = str(json.loads(self._connection.getresponse().read())["code"])
        except (OSError, http.client.HTTPException, ValueError):
            self._connection.close()
            self._connection = None
            code = ""
        return Answered(known, asked, time.monotonic(), code)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()


class Probe:
    """Within the block, clients of each server ask about `devices` in turn.

    `revoked` says since when a device must be refused; `unsure` are those that may be either.
    """

    def __init__(
        self,
        servers: Sequence[Server],
        devices: Sequence[Known],
        clients: int = 4,
        pause: float = 0.005,
    ) -> None:
        self.devices = list(devices)
        self.answers: list[Answered] = []
        self.revoked: dict[str, float] = {}
        self.unsure: set[str] = set()
        self._is_over = threading.Event()
        self._pause = pause
        self._threads = [
            threading.Thread(target=self._run, args=(server, number), daemon=True)
            for server in servers
            for number in range(clients)
        ]

    def _run(self, server: Server, number: int) -> None:
        client = Client(server)
        while not self._is_over.is_set():
            number += 1
            answer = client.ask(self.devices[number % len(self.devices)])
            self.answers.append(answer)
            time.sleep(0.05 if not answer.code else self._pause)
        client.close()

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join(PATIENCE)

    def wrong(self) -> list[Answered]:
        """Return the answers that must not have been given."""
        return [answer for answer in list(self.answers) if self._is_wrong(answer)]

    def _is_wrong(self, answer: Answered) -> bool:
        if answer.code in {"", FAILED}:
            return False
        since = self.revoked.get(answer.known.identifier)
        if since is not None:
            return answer.code == "OK" and answer.asked > since
        return answer.code != "OK" and answer.known.identifier not in self.unsure

    def refused(self) -> int:
        """Return how many questions got no answer, or the one that there is none now."""
        return sum(answer.code in {"", FAILED} for answer in self.answers)

    def outage(self) -> float:
        """Return the longest time without a right answer, in seconds."""
        moments = sorted(
            answer.answered for answer in self.answers if answer.code not in {"", FAILED}
        )
        gaps = [after - before for before, after in pairwise(moments)]
        return max(gaps, default=0.0)

    def slowest(self) -> float:
        """Return the longest time that one answer took, in seconds."""
        return max((answer.answered - answer.asked for answer in self.answers), default=0.0)

    def await_right(self, patience: float = 20) -> float:
        """Wait for a right answer that was asked from now on; return how long that took."""
        began = time.monotonic()
        seen = 0
        while time.monotonic() < began + patience:
            answers = self.answers[seen:]
            seen += len(answers)
            if any(answer.code == "OK" and answer.asked > began for answer in answers):
                return time.monotonic() - began
            time.sleep(0.02)
        return float("inf")
