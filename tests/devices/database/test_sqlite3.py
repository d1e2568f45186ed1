"""Transactions of SQLite take turns: one that waits looks again in short steps."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from django.db import OperationalError, connections, transaction

from devices.database.conflicts import is_locked
from devices.database.sqlite3 import base

pytestmark = [pytest.mark.once(on="sqlite"), pytest.mark.django_db]


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a database that the connection `own` leads to."""
    path = tmp_path / "registry.sqlite3"
    options = {"timeout": 5, "transaction_mode": "IMMEDIATE"}
    given = {**connections.settings["default"], "NAME": str(path), "OPTIONS": options}
    connections["own"] = base.DatabaseWrapper(given, "own")
    yield path
    connections["own"].close()
    del connections["own"]


def timeout_of_statements() -> Any:
    return connections["own"].cursor().execute("PRAGMA busy_timeout").fetchone()[0]


def test_a_transaction_looks_again_until_the_writer_is_through(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    with closing(sqlite3.connect(file, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")

        def wait(seconds: float) -> None:
            waited.append(seconds)
            if len(waited) == 3:
                writer.execute("COMMIT")

        monkeypatch.setattr("devices.database.sqlite3.base.time.sleep", wait)
        with transaction.atomic(using="own"):
            assert connections["own"].connection.in_transaction
    assert len(waited) == 3
    assert max(waited) <= max(base.AGAIN)
    assert timeout_of_statements() == 5000  # of those in no transaction


def test_it_fails_where_others_write_for_too_long(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connections["own"].settings_dict["OPTIONS"]["timeout"] = 0
    with closing(sqlite3.connect(file, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        with pytest.raises(OperationalError) as raised, transaction.atomic(using="own"):
            pass
    assert is_locked(raised.value)
    with transaction.atomic(using="own"):
        assert connections["own"].connection.in_transaction
