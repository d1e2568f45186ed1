"""What a drill counted, and whether that is what was promised."""

import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from drills.probe import Probe


class NotHere(Exception):
    """A drill needs what this machine does not have."""


def need(*programs: str) -> str:
    """Return the first of some programs that is installed; raises NotHere where none is."""
    for name in programs:
        if found := shutil.which(name):
            return found
    raise NotHere(f"{' or '.join(programs)} is not installed")


@contextmanager
def running(*words: str, log: Path) -> Iterator[None]:
    """Run a program within the block, whose output goes to a file."""
    with log.open("wb") as output:
        process = subprocess.Popen(words, stdout=output, stderr=output)
    try:
        yield
    finally:
        process.terminate()
        process.wait(10)


@dataclass
class Report:
    """The counts of one drill. `lost` is None where nothing was written that could be lost."""

    asked: int = 0
    refused: int = 0
    wrong: int = 0
    outage: float = 0.0  # seconds, the longest
    lost: int | None = None
    said: list[str] = field(default_factory=list)
    counter: str = ""
    failures: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, probe: Probe) -> None:
        """Take over what a probe counted; a wrong answer fails the drill."""
        self.asked += len(probe.answers)
        self.refused += probe.refused()
        self.wrong += len(probe.wrong())
        self.outage = max(self.outage, probe.outage())
        for answer in probe.wrong()[:3]:
            self.failures.append(f"wrong: {answer.code} for {answer.known.identifier}")

    def must(self, holds: object, otherwise: str) -> None:
        """Fail the drill unless something holds."""
        if not holds:
            self.failures.append(otherwise)

    def say(self, text: str) -> None:
        self.said.append(text)


Drill = Callable[[Path, Report], None]
DRILLS: dict[str, tuple[Drill, int]] = {}


def drill(name: str, *, seconds: int) -> Callable[[Drill], Drill]:
    """Register a drill under a name; it ends after so many seconds."""

    def register(function: Drill) -> Drill:
        DRILLS[name] = (function, seconds)
        return function

    return register


@contextmanager
def limit(seconds: int) -> Iterator[None]:
    """Raise TimeoutError in the block when it takes longer."""

    def end(_number: int, _frame: FrameType | None) -> None:
        raise TimeoutError(f"not done after {seconds} s")

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def wait_until(holds: Callable[[], object], seconds: float = 15) -> bool:
    """Wait until something holds; return whether it does."""
    deadline = time.monotonic() + seconds
    while not (held := holds()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return bool(held)
