"""Factories and fixtures that every test may use."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.conf import settings
from django.core.cache import cache
from django.utils import translation

from devices.credentials import throttle
from devices.database import last_used, outages
from devices.models import Device, DeviceGroup
from rpc import journal
from tests.support.servers import server

__all__ = ["server"]  # a fixture that lives elsewhere

numbers = itertools.count(1)


@pytest.fixture(autouse=True)
def _forget(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let no process-wide memory pass from one test to the next."""
    cache.clear()
    monkeypatch.setattr(outages, "EVERY", 0.0)  # each failure has its line
    throttle.remembered = throttle.Remembered()
    throttle.queue = throttle.HashQueue()
    last_used.worker = last_used.LastUsedWorker()
    journal.journal = journal.Journal()
    translation.activate(settings.LANGUAGE_CODE)  # a browser's language stays on its thread
    yield
    cache.clear()


@pytest.fixture
def make_group(db: None) -> Callable[..., DeviceGroup]:
    def make(name: str = "", **overrides: Any) -> DeviceGroup:
        group = DeviceGroup(name=name or f"group {next(numbers)}", **overrides)
        group.full_clean()
        group.save()
        return group

    return make


@pytest.fixture
def make_device(db: None) -> Callable[..., Device]:
    def make(identifier: str = "", *, groups: Any = (), **overrides: Any) -> Device:
        device = Device(identifier=identifier or f"device-{next(numbers):029d}", **overrides)
        device.full_clean()
        device.save()
        device.groups.set(groups)
        return device

    return make
