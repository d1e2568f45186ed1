"""Garbage is looked for by a thread, and never by whoever makes many objects that stay."""

import pytest

from tests.support.commands import python

pytestmark = pytest.mark.once(on="postgres")

PROGRAM = """
import gc, time, weakref
from authsite.operations import garbage

class Circle:
    pass

def circle():
    made = Circle()
    made.itself = made
    return weakref.ref(made)

whole = []
gc.callbacks.append(lambda phase, info: whole.append(phase) if info["generation"] == 2 else None)
garbage.EVERY = 1.0
garbage.collect_seldom()
whole.clear()
left = circle()
kept = [[number] for number in range(200_000)]
assert not whole, "everything was looked through while objects were made"
gc.collect(1)
old = circle()
gc.collect(1)
deadline = time.monotonic() + 20
while not whole or left() or old():
    assert time.monotonic() < deadline, "nobody looked for garbage"
    time.sleep(0.05)
print("collected")
"""


def test_a_thread_looks_for_garbage() -> None:
    done = python("-c", PROGRAM)
    assert done.stdout == "collected\n", done.stderr
