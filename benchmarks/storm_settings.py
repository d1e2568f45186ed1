"""The project's settings with other bounds on guesses than the project's, or with none.

STORM_THROTTLE=off takes every bound away, to show what a storm costs then; STORM_WAIT sets the
seconds that a question may wait for its turn. Nothing but a benchmark may ever use this module.
"""

import os

from django.apps import AppConfig

from authsite.settings import *  # noqa: F403
from authsite.settings import INSTALLED_APPS


class Bounds(AppConfig):
    """Sets the bounds once the models are loaded, which the throttle needs."""

    name = "benchmarks"

    def ready(self) -> None:
        """Set them."""
        from benchmarks.unbounded import Unbounded  # needs the models
        from devices.credentials import throttle

        if os.environ.get("STORM_THROTTLE") == "off":
            throttle.Guess = Unbounded  # type: ignore[misc]
        if "STORM_WAIT" in os.environ:
            throttle.WAIT = (float(os.environ["STORM_WAIT"]),) * 2


INSTALLED_APPS = [*INSTALLED_APPS, "benchmarks.storm_settings.Bounds"]
