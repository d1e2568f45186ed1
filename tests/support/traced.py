"""Trace a test for coverage in one suite of `make test FULL=1`: one takes up to twice the time.

Where it is not traced, neither are its fixtures, as they are with pytest-cov's `no_cover`.

Tests of devices and the migrations are traced on PostgreSQL, other tests and what is loaded with
them on SQLite; in both are tests of what differs between databases, and those that one of the
suites leaves out. Nothing is traced of tests that ask other processes, nor of those that ask again
and again what others ask, too: what coverage says is true, and would be a little more if they were
traced.
"""

import os
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from coverage import Coverage

from tests.support.postgres import SCHEMES

IS_POSTGRES = os.environ.get("DATABASE_URL", "").startswith(SCHEMES)
ON_POSTGRES = "tests/devices/"
NOWHERE = (
    *("tests/benchmarks/", "tests/contract/", "tests/e2e/", "tests/regressions/"),
    "tests/acl/engine/test_differential.py",
    "tests/authsite/api/test_document.py::test_the_document_can_be_written_to_a_file",
    "tests/authsite/test_roles.py",
    "tests/devices/test_attribute_definitions.py::test_lists_filter_by_a_value",
)
UNTRACED = pytest.StashKey[bool]()
TRACER = pytest.StashKey[Coverage | None]()
STOPPED = pytest.StashKey[bool]()
IN_BOTH = ("tests/devices/database/", "tests/authsite/operations/", "tests/authsite/test_backup")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what the other suite traces."""
    for item in items:
        node = item.nodeid
        if node.startswith(NOWHERE):
            item.stash[UNTRACED] = True
            continue
        left_out = any(item.get_closest_marker(name) for name in ("once", "skipif"))
        if left_out or node.startswith(IN_BOTH):
            continue
        if node.startswith(ON_POSTGRES) != IS_POSTGRES:
            item.stash[UNTRACED] = True


def pytest_configure(config: pytest.Config) -> None:
    """Keep what pytest-cov has started: one that was stopped is not current."""
    config.stash[TRACER] = Coverage.current()
    config.stash[STOPPED] = False


@contextmanager
def _tracing(config: pytest.Config, wanted: bool) -> Iterator[None]:
    """Trace what the block does, or do not, whatever happens around it."""
    coverage, stopped = config.stash[TRACER], config.stash[STOPPED]
    if coverage is None or stopped is not wanted:
        yield
        return
    start, stop = coverage.start, coverage.stop
    (start if wanted else stop)()
    config.stash[STOPPED] = not wanted
    try:
        yield
    finally:
        config.stash[STOPPED] = stopped
        (stop if wanted else start)()


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Generator[None, Any, Any]:
    """Trace in one suite what tests load."""
    with _tracing(session.config, not IS_POSTGRES):
        return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, Any, Any]:
    """Trace neither a test that is marked so nor its fixtures."""
    with _tracing(item.config, not item.stash.get(UNTRACED, False)):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
) -> Generator[None, Any, Any]:
    """Trace the migrations in one suite, whichever test comes first: it has few other tests."""
    if fixturedef.argname != "django_db_setup":
        return (yield)
    with _tracing(request.config, IS_POSTGRES):
        return (yield)
