"""What the kernel says of this machine and of a server's processes (Linux: /proc)."""

import os
import platform
import time
from pathlib import Path
from typing import NamedTuple

TICK = os.sysconf("SC_CLK_TCK")
QUIET = 0.9  # of all cores, idle before anything is measured
PAGE = os.sysconf("SC_PAGE_SIZE")
LOAD_BEFORE = os.getloadavg()[0]  # when this process began: what else the machine was doing


class Process(NamedTuple):
    """A process: who started it, CPU time with that of children that ended, resident bytes."""

    parent: int
    cpu: float  # seconds
    resident: int


def family(root: int) -> dict[int, Process]:
    """Return a process and its descendants by their number."""
    known: dict[int, Process] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            words = entry.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it ended meanwhile
        cpu = sum(int(word) for word in words[11:15]) / TICK
        known[int(entry.parent.name)] = Process(int(words[1]), cpu, int(words[21]) * PAGE)
    numbers = {root}
    while more := {pid for pid, process in known.items() if process.parent in numbers} - numbers:
        numbers |= more
    return {number: known[number] for number in numbers if number in known}


def parent(number: int) -> int:
    """Return who started a process."""
    return int(Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[1])


def cpu_seconds(root: int) -> float:
    """Return the CPU time of a process and its descendants, those that ended included."""
    return sum(process.cpu for process in family(root).values())


def idle_share(seconds: float = 3.0) -> float:
    """Return how much of all cores nobody uses, from 0 to 1, measured for that long."""

    def spent() -> list[int]:
        line = Path("/proc/stat").read_text().partition("\n")[0]
        return [int(word) for word in line.split()[1:9]]  # user … idle, iowait … stolen

    before = spent()
    time.sleep(seconds)
    spent_since = [now - then for now, then in zip(spent(), before, strict=True)]
    return (spent_since[3] + spent_since[4]) / max(1, sum(spent_since))


def demand_quiet() -> None:
    """End the program where others use the machine: figures that are written must be its own."""
    if (idle := idle_share()) < QUIET:
        raise SystemExit(
            f"The machine is not quiet: {idle:.0%} of it are idle, {QUIET:.0%} are needed for "
            "figures that are written. Without --write (make bench) they are only printed."
        )


def description() -> str:
    model = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
    return (
        f"{os.cpu_count()} cores of {model}, Python {platform.python_version()}, "
        f"load average {LOAD_BEFORE:.1f} beforehand"
    )
