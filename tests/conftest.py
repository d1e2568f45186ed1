"""Factories and fixtures that every test may use."""

import gc
import itertools
import math
import re
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from django.conf import settings
from django.core.cache import cache
from django.db import DEFAULT_DB_ALIAS, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.sqlite3.base import DatabaseWrapper
from django.utils import timezone, translation
from pytest_django import DjangoDbBlocker

from authsite import middleware
from authsite.accounts.tokens import last_used as token_uses
from devices.admin.base import figures
from devices.credentials import hashing, throttle
from devices.database import last_used, outages
from devices.events import guesses
from devices.models import Device, DeviceGroup
from rpc import journal
from tests.support.servers import keep_migrated, own_cluster, server, session_cluster

__all__ = ["own_cluster", "server", "session_cluster"]  # fixtures that live elsewhere

# How long an example takes says how busy the machine is.
hypothesis.settings.register_profile("suite", deadline=None)
hypothesis.settings.load_profile("suite")

numbers = itertools.count(1)
ARGON2: dict[str, Any] = {
    name: getattr(hashing, name) for name in ("ARGON2_MEMORY_KIB", "ARGON2_PREFIX")
}

SESSION_WRITE_SECONDS = middleware.SESSION_WRITE_SECONDS

SUITES = ("sqlite", "postgres", "processes")
# What `make test` asks of each suite, and a file that one suite has for itself.
SUITE = re.compile(r"(?P<others>not once or )?once\(on='(?P<name>\w+)'\)")
OF_ONE_SUITE = re.compile(r"^pytestmark = .*once\(on=", re.MULTILINE)

# Garbage is looked for seldom: that took a tenth of the time, and a third of that before the tests.
gc.set_threshold(50_000, 20, 20)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Import no file of which a suite runs nothing: all files take a dozen seconds."""
    suite = SUITE.fullmatch(config.option.markexpr)
    if suite is None or not collection_path.name.startswith("test_"):
        return None
    text = collection_path.read_text()
    is_left_out = not suite["others"] or OF_ONE_SUITE.search(text)
    return True if is_left_out and f'on="{suite["name"]}"' not in text else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse a `once` that names no suite: it would run in both."""
    for item in items:
        for marker in item.iter_markers("once"):
            if marker.kwargs.get("on") not in SUITES:
                raise pytest.UsageError(f"{item.nodeid}: once(on=…) names one of {SUITES}")


def pytest_collection_finish(session: pytest.Session) -> None:
    """Look for no garbage in what is loaded by now."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _close_what_was_opened_beside() -> Iterator[None]:
    """Let a connection to SQLite in memory be closed, except the one that keeps the database.

    Django never closes one, since the database would end with the last. Those of ended threads and
    of slots would be found unclosed by Python 3.13, in whichever test runs.
    """
    close, kept = DatabaseWrapper.close, connections[DEFAULT_DB_ALIAS]

    def close_others(wrapper: DatabaseWrapper) -> None:
        if wrapper is kept:
            close(wrapper)
        else:
            BaseDatabaseWrapper.close(wrapper)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DatabaseWrapper, "close", close_others)
        yield


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> None:
    """Keep what was migrated for servers, too: to migrate once more takes seconds."""
    with django_db_blocker.unblock():
        keep_migrated()


@pytest.fixture(scope="session", autouse=True)
def _cheap_hashes() -> Iterator[None]:
    """Hash chosen secrets with little memory: at its cost, that took a twentieth of the time."""
    cheap = ARGON2["ARGON2_PREFIX"].replace(f"m={ARGON2['ARGON2_MEMORY_KIB']}", "m=64")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hashing, "ARGON2_MEMORY_KIB", 64)
        patch.setattr(hashing, "ARGON2_PREFIX", cheap)
        yield


@pytest.fixture
def production_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hash chosen secrets at the cost that they have in production."""
    for name, value in ARGON2.items():
        monkeypatch.setattr(hashing, name, value)


@pytest.fixture(autouse=True)
def _same_statements(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask the same for each page, whatever time passes between two of them.

    What is slow to count would be kept, and a session that is in use is written once a minute: a
    machine that stands still for so long, or a clock that is set, would change what a page asks.
    """
    monkeypatch.setattr(figures, "SLOW", math.inf)
    monkeypatch.setattr(middleware, "SESSION_WRITE_SECONDS", math.inf)


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> datetime:
    """Hold the clock, so that no minute, hour or week ends between two looks at it."""
    moment = timezone.now()
    monkeypatch.setattr(timezone, "now", lambda: moment)
    monkeypatch.setattr("time.time", moment.timestamp)
    return moment


@pytest.fixture
def prolonged_sessions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prolong sessions as in production."""
    monkeypatch.setattr(middleware, "SESSION_WRITE_SECONDS", SESSION_WRITE_SECONDS)


@pytest.fixture(autouse=True)
def _forget(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let no process-wide memory pass from one test to the next."""
    cache.clear()
    monkeypatch.setattr(outages.OutageLog, "every", 0.0)  # each failure has its line
    throttle.remembered = throttle.Remembered()
    throttle.queue = throttle.HashQueue()
    last_used.worker = last_used.LastUsedWorker()
    token_uses.worker = token_uses.TokenUseWorker()
    journal.journal = journal.Journal()
    guesses.worker = guesses.GuessWorker()
    translation.activate(settings.LANGUAGE_CODE)  # a browser's language stays on its thread
    yield
    cache.clear()


@pytest.fixture(scope="module")
def kept_rows(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """Let a fixture of this scope make rows once for a module; what a test changes is undone."""
    with django_db_blocker.unblock(), transaction.atomic():
        yield
        transaction.set_rollback(True)


@pytest.fixture
def make_group(db: None) -> Callable[..., DeviceGroup]:
    def make(name: str = "", **overrides: Any) -> DeviceGroup:
        group = DeviceGroup(name=name or f"group {next(numbers)}", **overrides)
        group.full_clean(validate_constraints=False)  # the database does, without asking
        group.save()
        return group

    return make


@pytest.fixture
def make_device(db: None) -> Callable[..., Device]:
    def make(identifier: str = "", *, groups: Any = (), **overrides: Any) -> Device:
        device = Device(identifier=identifier or f"device-{next(numbers):029d}", **overrides)
        device.full_clean(validate_constraints=False)
        device.save()
        device.groups.set(groups)
        return device

    return make
