"""An RTIO server whose verifier is the registry of the test, in the test's own thread."""

import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from devices.authentication import authenticate
from devices.models import Device, PreSharedKey
from rpc.rtio import one_time_secrets, session_ending
from rpc.rtio.models import RtioServer, SessionEnding
from rpc.rtio.session_ending import SessionEnder
from tests.support.rtio_simulator import RtioSimulator, SimulatedDevice

MakeServer = Callable[..., RtioServer]


class Registry:
    """Answers simulated RTIO servers; `end_all` works until nothing waits any more."""

    def __init__(self) -> None:
        self.ender = SessionEnder()
        self._questions: queue.SimpleQueue[tuple[str, str, str, list[bool], threading.Event]]
        self._questions = queue.SimpleQueue()
        self.uses: list[bool | None] = []
        self.connected: list[SimulatedDevice] = []
        self.thieves: list[str] = []  # callers that show the next secrets before the server does

    def as_caller(self, caller: str) -> Callable[[str, str], bool]:
        """Return what an RTIO server that calls so asks."""

        def ask(identifier: str, secret: str) -> bool:
            answer: list[bool] = []
            answered = threading.Event()
            self._questions.put((identifier, secret, caller, answer, answered))
            answered.wait(5)
            return bool(answer and answer[0])

        return ask

    def answer(self) -> None:
        """Answer what is asked by now."""
        while not self._questions.empty():
            identifier, secret, caller, answer, answered = self._questions.get()
            if one_time_secrets.is_one_time(secret):
                if self.thieves:
                    assert one_time_secrets.use(identifier, secret, self.thieves.pop())
                use = one_time_secrets.use(identifier, secret, caller)
                self.uses.append(use)
                answer.append(bool(use))
            else:
                answer.append(authenticate(identifier, secret=secret).verified)
            answered.set()

    def during(self, work: Callable[[], Any]) -> Any:
        """Return what `work` does in a thread, while its questions are answered in this one."""
        done: list[Any] = []
        thread = threading.Thread(target=lambda: done.append(work()))
        thread.start()
        while thread.is_alive():
            self.answer()
            time.sleep(0.002)
        return done[0]

    def connect(self, rtio: RtioSimulator, device: Device, secret: str) -> SimulatedDevice:
        """Return a device that has just connected to a server, or was refused there."""
        made: SimulatedDevice = self.during(
            lambda: SimulatedDevice(rtio.port, device.identifier, secret)
        )
        self.connected.append(made)
        return made

    def end_all(self, seconds: float = 10) -> bool:
        """Work until no session waits to be ended, or for so long."""

        def is_done() -> bool:
            self.answer()
            return not SessionEnding.objects.waiting().exists()

        return self.ender.run(is_done, seconds)


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch, db: None) -> Iterator[Registry]:
    monkeypatch.setattr(session_ending, "POLL", 0.01)
    monkeypatch.setattr(session_ending, "GATHER", 0.0)
    monkeypatch.setattr(session_ending, "HOLD_SECONDS", 0.2)
    registry = Registry()
    yield registry
    registry.ender.close()
    for device in registry.connected:
        device.close()


@pytest.fixture
def rtio(registry: Registry) -> Iterator[RtioSimulator]:
    with RtioSimulator(registry.as_caller("127.0.0.1")) as simulator:
        yield simulator


@pytest.fixture
def make_rtio_server(db: None) -> MakeServer:
    def make(name: str = "rtio-1", **overrides: Any) -> RtioServer:
        server = RtioServer(name=name, **{"host": "127.0.0.1", **overrides})
        server.full_clean()
        server.save()
        return server

    return make


@pytest.fixture
def keyed(make_device: Callable[..., Device]) -> Callable[..., tuple[Device, str]]:
    def make(**overrides: Any) -> tuple[Device, str]:
        number = Device.objects.count()
        identifier = overrides.pop("identifier", f"cfa09baa-4913-4ad7-a936-2e26{number:08d}")
        device = make_device(identifier, **overrides)
        return device, PreSharedKey.objects.issue(device=device)[1]

    return make
