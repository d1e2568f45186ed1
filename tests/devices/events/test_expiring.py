"""Credentials that expire are announced 30, 7 and 1 days before, each once."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from devices.events import expiring
from devices.events.kinds import Kind
from devices.events.models import Event
from devices.models import Certificate, PreSharedKey
from tests.support import pki

pytestmark = pytest.mark.django_db
DAY = timedelta(days=1)
Make = Callable[..., Any]


def said() -> list[tuple[str, int]]:
    rows = Event.objects.filter(kind=Kind.CREDENTIAL_EXPIRING).order_by("pk")
    return [(row.data["label"], row.data["days"]) for row in rows]


def test_each_is_announced_three_times(make_device: Make, make_group: Make) -> None:
    group = make_group()
    device = make_device(groups=[group])
    now = timezone.now()
    for days in (45, 20, 3):
        PreSharedKey.objects.issue(device=device, label=f"{days}", not_after=now + days * DAY)
    PreSharedKey.objects.issue(device=device, label="for ever")
    assert expiring.announce(now) == 2
    assert said() == [("20", 30), ("3", 7)]
    event = Event.objects.latest("pk")
    assert (event.groups, event.data["origin"]) == ([group.pk], "registry")
    assert Event.objects.latest("pk").data["device"]["identifier"] == device.identifier
    assert expiring.announce(now) == 0
    assert expiring.announce(now + timedelta(minutes=1)) == 0
    for hours in range(0, 46 * 24, 7):
        expiring.announce(now + timedelta(hours=hours))
    assert sorted(said()) == sorted(
        [("20", 30), ("20", 7), ("20", 1), ("3", 7), ("3", 1), ("45", 30), ("45", 7), ("45", 1)]
    )


def test_after_a_long_stop_the_nearest_one_counts(make_device: Make) -> None:
    now = timezone.now()
    expiring.announce(now)
    PreSharedKey.objects.issue(device=make_device(), label="a", not_after=now + 60 * DAY)
    expiring.announce(now + 58 * DAY)
    assert said() == [("a", 7)]


def test_a_clock_that_goes_back_repeats_nothing(make_device: Make) -> None:
    now = timezone.now()
    PreSharedKey.objects.issue(device=make_device(), not_after=now + 20 * DAY)
    assert [expiring.announce(now + hours * DAY / 24) for hours in (0, -5, 0)] == [1, 0, 0]


def test_what_nobody_waits_for(make_device: Make) -> None:
    now = timezone.now()
    off = make_device(enabled=False)
    PreSharedKey.objects.issue(device=off, not_after=now + DAY)
    key, _ = PreSharedKey.objects.issue(device=make_device(), not_after=now + 2 * DAY)
    key.revoke(by="kim")
    assert expiring.announce(now) == 0


def test_certificates_expire_too_but_not_pinned_keys(make_device: Make) -> None:
    device = make_device()
    presented = pki.device_certificate("pump", pki.authority("CA")).pem
    certificate = Certificate.objects.register(device=device, presented=presented, label="c")
    now = certificate.not_after - 5 * DAY
    Certificate.objects.update(pin="public-key")
    assert expiring.announce(now) == 0
    Certificate.objects.update(pin="certificate")
    assert expiring.announce(now + timedelta(seconds=0)) == 0
    assert expiring.announce(certificate.not_after - DAY / 2) == 1
    assert said() == [("c", 1)]
