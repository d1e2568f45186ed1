"""A second load generator, which nobody here wrote: wrk (`apt-get install wrk`)."""

import pickle
import re
import resource
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

PROGRAM = shutil.which("wrk")
MILLISECONDS = {"us": 0.001, "ms": 1.0, "s": 1000.0}
# Whole requests, as they are, one drawn at random each time; `Connection: close` where asked for.
SCRIPT = """
local requests, bytes, at = {{}}, io.open("{requests}", "rb"):read("*a"), 1
while at <= #bytes do
  local length = tonumber(bytes:sub(at, at + 7))
  requests[#requests + 1] = bytes:sub(at + 8, at + 7 + length)
  at = at + 8 + length
end
math.randomseed(os.time())
request = function() return requests[math.random(#requests)] end
"""


def load(
    port: int, exchanges: Path, seconds: float, *, connections: int, fresh: bool = False
) -> dict[str, float]:
    """Load a server and return what was measured; raises SystemExit for a failure.

    `answered` requests, their `rate`, `p50` and `p99` in ms, `cpu`: cores that wrk took.
    """
    if PROGRAM is None:
        raise SystemExit("wrk is not installed")
    with tempfile.TemporaryDirectory() as folder:
        requests, script = Path(folder, "requests"), Path(folder, "script.lua")
        with requests.open("wb") as file:
            for request, _expected in pickle.loads(exchanges.read_bytes()):
                sent = request
                if fresh:
                    sent = request.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
                file.write(b"%8d%s" % (len(sent), sent))
        script.write_text(SCRIPT.format(requests=requests))
        words = ["-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--latency"]
        began, cpu = time.perf_counter(), cpu_of_children()
        done = subprocess.run(
            [PROGRAM, *words, "--timeout", "10s", "-s", script, f"http://127.0.0.1:{port}/"],
            capture_output=True,
            text=True,
            check=True,
        )
    spent = cpu_of_children() - cpu
    return figures(done.stdout) | {"cpu": spent / (time.perf_counter() - began)}


def cpu_of_children() -> float:
    """Return the CPU seconds of the programs that this one has run."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def figures(printed: str) -> dict[str, float]:
    if failed := re.search(r"Non-2xx.*|Socket errors.*", printed):
        raise SystemExit(f"wrk: {failed[0]}")
    found = {"rate": float(re.search(r"Requests/sec:\s+([\d.]+)", printed)[1])}  # type: ignore[index]
    found["answered"] = float(re.search(r"(\d+) requests in", printed)[1])  # type: ignore[index]
    for name in ("50", "99"):
        number, unit = re.search(rf"^\s+{name}%\s+([\d.]+)(\w+)", printed, re.MULTILINE).groups()  # type: ignore[union-attr]
        found[f"p{name}"] = float(number) * MILLISECONDS[unit]
    return found
