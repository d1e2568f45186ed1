"""Run the garbage collector seldom: requests wait for the interpreter while it runs.

It frees only objects that refer to each other in a circle, as some that staff's pages leave; all
others are freed at once. Its young generations are collected often, a few objects at a time. A full
collection takes 12 to 25 ms where many calls wait to be written, and would come every other second
under load: a thread runs it once a minute instead (docs/performance.md, "The tail").
"""

import gc
import os
import threading
import time

YOUNG = (700, 3)  # new objects between two collections; those between two of the survivors
NEVER = 2**30
EVERY = 60.0  # seconds between two full collections


def collect_seldom() -> None:
    """Leave out what is loaded by now, and collect the rest in a thread of its own.

    To look for garbage in it first would free next to nothing, and is a tenth of a worker's start.
    """
    gc.freeze()
    gc.set_threshold(*YOUNG, NEVER)
    _start()
    os.register_at_fork(after_in_child=_start)  # a server that loads us before it forks


def _start() -> None:
    threading.Thread(target=_collect, name="garbage", daemon=True).start()


def _collect() -> None:
    while True:
        time.sleep(EVERY)
        gc.collect()
