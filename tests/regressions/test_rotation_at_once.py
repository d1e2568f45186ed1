"""Rotating at once was a time: a clock that stepped back admitted the old secret again.

A public report of this kind: https://github.com/pendulum-project/ntpd-rs/issues/196.
"""

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.core.management import call_command
from django.utils import timezone

from devices.authentication import authenticate
from devices.models import Device, PreSharedKey
from devices.verdicts import Outcome

pytestmark = pytest.mark.django_db


def test_a_clock_that_steps_back_admits_no_rotated_secret(
    make_device: Callable[..., Device],
) -> None:
    device = make_device("lamp")
    _, generated = PreSharedKey.objects.issue(device=device)
    PreSharedKey.objects.register(device=device, secret="a chosen secret")
    call_command("rotate_key", "lamp", overlap=timedelta())
    for secret in (generated, "a chosen secret"):
        for back in (0, 60, 86_400):
            now = timezone.now() - timedelta(seconds=back)
            outcome = authenticate("lamp", secret=secret, now=now).outcome
            assert outcome is Outcome.REVOKED
    assert PreSharedKey.objects.exclude(revoked_at=None).count() == 2


def test_an_overlap_ends_by_the_clock(make_device: Callable[..., Device]) -> None:
    device, now = make_device("lamp"), timezone.now()
    _, old = PreSharedKey.objects.issue(device=device)
    PreSharedKey.objects.rotate(device=device, overlap=timedelta(hours=1), now=now)
    assert authenticate("lamp", secret=old, now=now).verified
    later = now + timedelta(hours=1)
    assert authenticate("lamp", secret=old, now=later).outcome is Outcome.EXPIRED
