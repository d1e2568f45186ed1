"""What a storm costs without a throttle: see `benchmarks.storm_settings`."""

from collections.abc import Callable

from devices.credentials.throttle import Guess, Result


class Unbounded(Guess):
    """A guess that is hashed whenever it is made."""

    def hashed(
        self, secret: str, work: Callable[[], Result], recall: Callable[[], Result | None]
    ) -> Result | None:
        """Hash at once, and count nothing."""
        return work()
