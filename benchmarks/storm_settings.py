"""The project's settings without any bound on guesses, to show what a storm costs then.

Nothing but a benchmark may ever use this module.
"""

from collections.abc import Callable
from typing import Any

from django.apps import AppConfig

from authsite.settings import *  # noqa: F403
from authsite.settings import INSTALLED_APPS


def hash_at_once(_guess: Any, _secret: str, work: Callable[[], Any], _recall: Any) -> Any:
    """Hash a guess whenever it is made, and count nothing."""
    return work()


class Unbounded(AppConfig):
    """Takes the bounds away once the models are loaded, which the throttle needs."""

    name = "benchmarks"

    def ready(self) -> None:
        from devices.credentials.throttle import Guess

        Guess.hashed = hash_at_once  # type: ignore[assignment,method-assign]


INSTALLED_APPS = [*INSTALLED_APPS, "benchmarks.storm_settings.Unbounded"]
