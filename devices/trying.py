"""Staff try a device's credentials: the verdict with its reason, and what matched.

A try leaves no evidence of use and never counts against the device: wrong secrets are counted per
member of staff, so that neither a device is locked out nor its secret guessed here.
"""

from typing import Any

from django.views.decorators.debug import sensitive_variables

from devices import history
from devices.authentication import authenticate
from devices.credentials import throttle
from devices.history.context import MAX_REASON_LENGTH, current_reason
from devices.models import Device
from devices.verdicts import Verdict

MAX_FAILURES = 10  # tries of one member of staff that may fail
PERMISSION = "devices.try_credential"


@sensitive_variables()
def try_credentials(user: object, device: Device, **presented: Any) -> Verdict | None:
    """Return the verdict on a secret, a certificate or both; None after too many failures.

    `user` is the primary key of whose tries are counted. That it was asked for is recorded, as
    coming from where changes come from now.
    """
    tries = throttle.FailureMarks(f"staff-try:{user}", MAX_FAILURES)
    if not tries.take():
        return None
    sorts = [name for name in ("secret", "certificate") if presented.get(name)]
    with throttle.tried_by(f"staff {user}"):
        verdict = authenticate(
            device.identifier, record=False, **{name: presented[name] for name in sorts}
        )
    if verdict.verified:
        tries.give_back()
    tried = f"tried {' and '.join(sorts)}: {verdict.outcome}"
    said = current_reason()[: MAX_REASON_LENGTH - len(tried) - 2]
    with history.origin(history.current_origin(), reason=f"{said}: {tried}" if said else tried):
        history.record([device], history.ChangeType.TRIED)
    return verdict
