"""The project's settings with other bounds on guesses than the project's, or with none.

STORM_THROTTLE=off takes every bound away, to show what a storm costs then; STORM_WAIT sets the
seconds that a question may wait for its turn. Nothing but a benchmark may ever use this module.
"""

import os
from collections.abc import Callable

from authsite.settings import *  # noqa: F403
from devices.credentials import throttle
from devices.credentials.throttle import Result


class Unbounded(throttle.Guess):
    """A guess that is hashed whenever it is made."""

    def hashed(
        self, secret: str, work: Callable[[], Result], recall: Callable[[], Result | None]
    ) -> Result | None:
        """Hash at once, and count nothing."""
        return work()


if os.environ.get("STORM_THROTTLE") == "off":
    throttle.Guess = Unbounded  # type: ignore[misc]
if "STORM_WAIT" in os.environ:
    throttle.WAIT = (float(os.environ["STORM_WAIT"]),) * 2
