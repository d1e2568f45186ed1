"""X.509 certificates of devices. None can be registered yet: every one presented is refused."""

from datetime import datetime

from devices.verdicts import Outcome, Verdict


def examine(identifier: str, presented: str, *, now: datetime) -> Verdict:  # noqa: ARG001
    """Answer whether the presented certificate is one of the device's."""
    return Verdict(Outcome.NO_CREDENTIAL)
