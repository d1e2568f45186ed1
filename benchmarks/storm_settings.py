"""The project's settings with other bounds on guesses than the project's, or with none.

STORM_THROTTLE=off takes every bound away, to show what a storm costs then; STORM_REST and
STORM_SLOT_WAIT set two of them. Nothing but a benchmark may ever use this module.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from authsite.settings import *  # noqa: F403
from devices.credentials import throttle


class Unbounded(throttle.Guess):
    """A guess that is hashed whenever it is made."""

    @contextmanager
    def attempt(self) -> Iterator[bool]:
        """Yield at once, and count nothing."""
        yield True

    def succeeded(self) -> None:
        """Take nothing back."""


if os.environ.get("STORM_THROTTLE") == "off":
    throttle.Guess = Unbounded  # type: ignore[misc]
throttle.REST = float(os.environ.get("STORM_REST", throttle.REST))
throttle.SLOT_WAIT = float(os.environ.get("STORM_SLOT_WAIT", throttle.SLOT_WAIT))
