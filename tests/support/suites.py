"""Run test suites at once and show how far each is: `python -m tests.support.suites NAME=COMMAND…`.

Each line of progress is printed as it comes, behind the suite's name. Failures and the closing
summary are printed whole when all have ended: first those of suites that passed.
"""

import os
import selectors
import shlex
import signal
import subprocess
import sys
import time
from types import FrameType
from typing import NoReturn

QUIET = 15  # seconds without a whole line of a suite, after which its line so far is shown


class Suite:
    """A command whose output is pytest's."""

    def __init__(self, name: str, command: str) -> None:
        self.name = name
        self.closing: list[str] = []  # from the first heading below the progress on
        self._line = b""
        self._shown_at = time.monotonic()
        self.process = subprocess.Popen(
            shlex.split(command), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )

    def fileno(self) -> int:
        """Return the pipe that its output comes from."""
        assert self.process.stdout is not None
        return self.process.stdout.fileno()

    def read(self) -> bool:
        """Take what it wrote; False once it has ended."""
        block = os.read(self.fileno(), 65536)
        *lines, self._line = (self._line + block).split(b"\n")
        if not block and self._line:
            lines, self._line = [self._line], b""
        for line in lines:
            self._take(line.decode(errors="replace"))
        return bool(block)

    def show_line_so_far(self) -> None:
        """Show at what it is, where it has shown nothing for a while."""
        line = self._line.decode(errors="replace")
        if line.strip() and not self.closing and time.monotonic() - self._shown_at >= QUIET:
            self._say(line)

    def _take(self, line: str) -> None:
        heading = line.startswith("===") and "test session starts" not in line
        if self.closing or heading:
            self.closing.append(line)
        elif line.strip():
            self._say(line)

    def _say(self, text: str) -> None:
        sys.stdout.write(f"{self.name:<9} {text}\n")
        sys.stdout.flush()
        self._shown_at = time.monotonic()


def run(suites: list[Suite]) -> int:
    """Show the suites' progress until all have ended; return 1 where one failed."""
    with selectors.DefaultSelector() as selector:
        for suite in suites:
            selector.register(suite, selectors.EVENT_READ, suite)
        while selector.get_map():
            for key, _ in selector.select(QUIET):
                if not key.data.read():
                    selector.unregister(key.data)
            for running in selector.get_map().values():
                running.data.show_line_so_far()
    for suite in suites:
        suite.process.wait()
    for suite in sorted(suites, key=lambda suite: suite.process.returncode != 0):
        code = suite.process.returncode
        sys.stdout.write(f"\n{suite.name}: {f'failed ({code})' if code else 'passed'}\n")
        sys.stdout.write("".join(f"{line}\n" for line in suite.closing))
    sys.stdout.flush()
    return int(any(suite.process.returncode for suite in suites))


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


def main(words: list[str]) -> int:
    """Run what the words name; return the exit code."""
    signal.signal(signal.SIGTERM, _terminate)
    suites = [Suite(*word.split("=", 1)) for word in words]
    try:
        return run(suites)
    except KeyboardInterrupt:  # the terminal sent it to the suites as well: they are ending
        for suite in suites:
            suite.process.wait()
        return 128 + signal.SIGINT
    finally:
        for suite in suites:
            suite.process.terminate()
            suite.process.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
