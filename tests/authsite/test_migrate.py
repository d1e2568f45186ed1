"""`manage.py migrate` without a database. What it does about locks, tests/regressions shows."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.core.management.commands import migrate
from django.db import OperationalError

from tests.support.commands import PROJECT, python

pytestmark = pytest.mark.once(on="sqlite")


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("sqlite:///{folder}/gone/db", "unable to open database file"),
        ("sqlite:///{folder}/garbage", "file is not a database"),
        ("postgres://me@127.0.0.1:1/registry", "Connection refused"),
    ],
)
def test_a_database_that_does_not_answer_is_said_in_a_sentence(
    url: str, why: str, tmp_path: Path
) -> None:
    (tmp_path / "garbage").write_bytes(b"no database\n" * 1000)
    database = {
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "DATABASE_URL": url.format(folder=tmp_path),
    }
    done = python("manage.py", "migrate", "--verbosity", "0", env=os.environ | database)
    assert done.returncode == 2
    assert done.stderr.startswith("CommandError: the registry cannot be asked: ")
    assert why in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("closed", [">&-", "2>&-"])
def test_whoever_closes_its_output_hears_of_nothing(closed: str, tmp_path: Path) -> None:
    done = subprocess.run(
        ["sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, "manage.py", "migrate", "--plan"],
        cwd=PROJECT,
        env={
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "tests.settings",
            "DATABASE_URL": f"sqlite:///{tmp_path}/db",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_database_that_fails_on_the_way_is_said_in_a_sentence(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_args: object, **_kw: object) -> None:
        raise OperationalError("server closed the connection unexpectedly")

    monkeypatch.setattr(migrate.Command, "handle", fail)
    with pytest.raises(CommandError, match="run it again") as failure:
        call_command("migrate")
    assert failure.value.returncode == 2
