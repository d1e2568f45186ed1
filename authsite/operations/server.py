"""The main process of `manage.py serve`: granian, with an orderly stop around it.

On SIGTERM, and on SIGHUP as of a terminal that closes, `/readyz` says first that no request should
come, for DRAIN_SECONDS in which every one that comes is answered; only then do the workers stop. A
second signal ends the wait.
"""

import copy
import json
import os
import shutil
import signal
import sys
import tempfile
import threading
from pathlib import Path
from types import FrameType
from typing import Any

from granian import Granian
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.log import LOGGING_CONFIG, LogLevels

from authsite.operations import RUNTIME

DRAINING = "draining"  # a file in it: the server was told to stop
IDLE_CONNECTION = 600  # seconds: RTIO keeps connections, and loses what it asks as one is closed
METRICS = "PROMETHEUS_MULTIPROC_DIR"


def main(options: dict[str, Any]) -> None:
    """Serve until a signal comes.

    `options` are Granian's, and `drain` and `log_format`: DRAIN_SECONDS and LOG_FORMAT.
    """
    seconds, log_format = options.pop("drain"), options.pop("log_format")
    options["log_level"] = LogLevels(options["log_level"])
    folder = Path(tempfile.mkdtemp(prefix="authsite-"))
    os.environ[RUNTIME] = str(folder)
    os.environ.setdefault(METRICS, str(folder))
    server = Granian(
        "authsite.asgi:application",
        interface=Interfaces.ASGINL,
        http=HTTPModes.http1,
        websockets=False,
        # How long the head of a request may take, counted from the end of the one before.
        http1_settings=HTTP1Settings(header_read_timeout=IDLE_CONNECTION * 1000),
        respawn_failed_workers=True,
        log_dictconfig=log_config(log_format),
        **options,
    )
    hangup_counts = signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN  # as it is under nohup
    server.on_startup(lambda: drain_on_signal(folder, seconds, hangup_counts=hangup_counts))
    try:
        server.serve()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def leave_group() -> None:
    """Have a signal to the whole process group reach the main process alone, which passes it on."""
    if RUNTIME in os.environ:
        os.setpgrp()


def log_config(log_format: str) -> dict[str, Any]:
    """Return how granian's own lines are written: as the registry's are."""
    config: dict[str, Any] = copy.deepcopy(LOGGING_CONFIG)
    if log_format == "json":
        config["formatters"]["generic"] = {"()": "authsite.operations.logging.JsonFormatter"}
    return config


def drain_on_signal(folder: Path, seconds: float, *, hangup_counts: bool) -> None:
    """Let the first SIGTERM be answered by draining, and what it did before follow.

    So is SIGHUP, unless it is ignored. Granian would start the workers again, with settings that
    are the same: the environment of a process does not change.
    """
    stop = signal.getsignal(signal.SIGTERM)
    main_process = os.getpid()

    def drain(number: int, _frame: FrameType | None) -> None:
        if os.getpid() != main_process:
            os._exit(128 + number)  # a worker that has not loaded the application yet
        signal.signal(signal.SIGTERM, stop)  # a second one does not wait
        (folder / DRAINING).touch()
        timer = threading.Timer(seconds, os.kill, (main_process, signal.SIGTERM))
        timer.daemon = True
        timer.start()

    interrupt = signal.getsignal(signal.SIGINT)

    def end(number: int, frame: FrameType | None) -> None:
        if os.getpid() == main_process:
            (folder / DRAINING).touch()  # who waits for events is answered now
        if callable(interrupt):
            interrupt(number, frame)

    signal.signal(signal.SIGTERM, drain)
    signal.signal(signal.SIGHUP, drain if hangup_counts else signal.SIG_IGN)
    signal.signal(signal.SIGINT, end)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
