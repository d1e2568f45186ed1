"""A command waits for what others have locked for so long, and then says so."""

import sqlite3
from typing import Any

import pytest
from django.db import OperationalError, connection
from psycopg.errors import LockNotAvailable

from devices.management.base import LOCK_WAIT, LOCKED
from tests.support.commands import run


@pytest.mark.once(on="postgres")
@pytest.mark.parametrize(
    ("own_options", "environment", "waited"),
    [
        ("", "", f"{LOCK_WAIT}s"),
        ("-c lock_timeout=7s", "", "7s"),
        (None, "-c lock_timeout=6s", "6s"),
    ],
)
def test_a_command_waits_no_longer(
    db: None,
    monkeypatch: pytest.MonkeyPatch,
    own_options: str | None,
    environment: str,
    waited: str,
) -> None:
    def wait(command: Any, **_options: Any) -> None:
        command.has_printed = True
        with connection.copy().cursor() as cursor:  # a connection that is opened meanwhile
            cursor.execute("SHOW lock_timeout")
            assert cursor.fetchone() == (waited,)
            cursor.db.close()
        raise OperationalError from LockNotAvailable()

    own = connection.settings_dict
    monkeypatch.setenv("PGOPTIONS", environment)
    if own_options is not None:
        monkeypatch.setitem(own["OPTIONS"], "options", own_options)
    monkeypatch.setattr("devices.management.commands.list_groups.Command.handle", wait)
    _, complaint = run("list_groups", code=1)
    assert f"{LOCKED}\nWhat is printed above may not be stored" in complaint
    assert connection.settings_dict is own


@pytest.mark.once(on="sqlite")
def test_a_command_waits_as_long_for_the_writer_of_sqlite(monkeypatch: pytest.MonkeyPatch) -> None:
    def wait(_command: Any, **_options: Any) -> None:
        assert connection.settings_dict["OPTIONS"]["timeout"] == LOCK_WAIT
        error = OperationalError()
        error.__cause__ = sqlite3.OperationalError()
        error.__cause__.sqlite_errorcode = sqlite3.SQLITE_BUSY
        raise error

    own = connection.settings_dict
    monkeypatch.setattr("devices.management.commands.list_groups.Command.handle", wait)
    assert LOCKED in run("list_groups", code=1)[1]
    assert connection.settings_dict is own
