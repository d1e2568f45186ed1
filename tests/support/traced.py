"""Trace a test for coverage in one suite of `make test`: one takes up to twice the time.

Where it is not traced, neither are its fixtures, as they are with pytest-cov's `no_cover`.

Tests of devices are traced on PostgreSQL, others on SQLite; in both are those of what differs
between databases, and those that one of the suites leaves out. Nothing is traced of tests that
ask other processes, nor of those that ask again and again what others ask, too: what coverage
says is true, and would be a little more if they were traced.
"""

import os
from collections.abc import Generator
from typing import Any

import pytest
from coverage import Coverage

from tests.support.postgres import SCHEMES

SUITES = ("sqlite", "postgres", "processes")
ON_POSTGRES = "tests/devices/"
NOWHERE = (
    *("tests/benchmarks/", "tests/contract/", "tests/e2e/", "tests/regressions/"),
    "tests/acl/engine/test_differential.py",
    "tests/authsite/test_roles.py",
    "tests/devices/test_attribute_definitions.py::test_lists_filter_by_a_value",
)
UNTRACED = pytest.StashKey[bool]()
STOPPED = pytest.StashKey[Coverage]()
IN_BOTH = ("tests/devices/database/", "tests/authsite/operations/", "tests/authsite/test_backup")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what the other suite traces; a `once` that names no suite would run in both."""
    is_postgres = os.environ.get("DATABASE_URL", "").startswith(SCHEMES)
    for item in items:
        for marker in item.iter_markers("once"):
            if marker.kwargs.get("on") not in SUITES:
                raise pytest.UsageError(f"{item.nodeid}: once(on=…) names one of {SUITES}")
        node = item.nodeid
        if node.startswith(NOWHERE):
            item.stash[UNTRACED] = True
            continue
        left_out = any(item.get_closest_marker(name) for name in ("once", "skipif"))
        if left_out or node.startswith(IN_BOTH):
            continue
        if node.startswith(ON_POSTGRES) != is_postgres:
            item.stash[UNTRACED] = True


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, Any, Any]:
    """Trace neither a test that is marked so nor its fixtures."""
    coverage = Coverage.current()
    if coverage is None or not item.stash.get(UNTRACED, False):
        return (yield)
    coverage.stop()
    item.config.stash[STOPPED] = coverage
    try:
        return (yield)
    finally:
        del item.config.stash[STOPPED]
        coverage.start()


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
) -> Generator[None, Any, Any]:
    """Trace the migrations, whichever test comes first: what they use has few other tests."""
    coverage = request.config.stash.get(STOPPED, None)
    if coverage is None or fixturedef.argname != "django_db_setup":
        return (yield)
    coverage.start()
    try:
        return (yield)
    finally:
        coverage.stop()
