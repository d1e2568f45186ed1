"""Staff try a device's credentials: the verdict with its reason, and what matched.

A try leaves no evidence of use and never counts against the device: wrong secrets are counted per
member of staff, so that neither a device is locked out nor its secret guessed here.
"""

import logging
from typing import Any

from django.core.cache import cache
from django.views.decorators.debug import sensitive_variables

from devices import history
from devices.authentication import authenticate
from devices.credentials import throttle
from devices.models import Device
from devices.verdicts import Verdict

FAILURES = 10  # tries of one member of staff that may fail
WINDOW = 15 * 60  # seconds that a failure counts
PERMISSION = "devices.try_credential"

log = logging.getLogger(__name__)


class Tries:
    """A member of staff's failed tries: each takes a place until WINDOW has passed.

    Places, as `credentials.throttle.Guess` has them: a cache's `add` is atomic in every cache.
    """

    def __init__(self, user: object) -> None:
        self._places = [f"staff-try:{user}:{number}" for number in range(FAILURES)]
        self._taken: str | None = None

    def begin(self) -> bool:
        """Take a place for the try that is to be made; False where none is free."""
        try:
            free = (place for place in self._places if cache.add(place, True, timeout=WINDOW))
            self._taken = next(free, None)
        except Exception:
            log.exception(throttle.UNCOUNTED)
            return False
        return self._taken is not None

    def succeeded(self) -> None:
        cache.delete(self._taken)


@sensitive_variables()
def try_credentials(user: object, device: Device, **presented: Any) -> Verdict | None:
    """Return the verdict on a secret, a certificate or both; None after too many failures.

    `user` is the primary key of whose tries are counted. That it was asked for is recorded, as
    coming from where changes come from now.
    """
    tries = Tries(user)
    if not tries.begin():
        return None
    sorts = [name for name in ("secret", "certificate") if presented.get(name)]
    with throttle.tried_by(f"staff {user}"):
        verdict = authenticate(
            device.identifier, record=False, **{name: presented[name] for name in sorts}
        )
    if verdict.verified:
        tries.succeeded()
    with history.origin(
        history.current_origin(), reason=f"tried {' and '.join(sorts)}: {verdict.outcome}"
    ):
        history.record([device], history.ChangeType.TRIED)
    return verdict
