"""Look for garbage seldom: requests wait for the interpreter while it is looked for.

What is no longer referred to is freed at once in any case; what is looked for here refers to itself
in circles, as some of what staff's pages leave behind. New objects are looked through often, a few
at a time. All of them take 12 to 25 ms where many calls wait to be written, and that came every
other second under load; now a thread has it done once a minute (docs/performance.md, "The tail").
"""

import gc
import os
import threading
import time

YOUNG = (700, 3)  # new objects between two looks at them; such looks between two at the survivors
NEVER = 2**30
EVERY = 60.0  # seconds between two looks at everything


def collect_seldom() -> None:
    """Leave out what is loaded by now, and look through the rest by a thread of its own."""
    gc.collect()
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
