"""`manage.py migrate` without a database. What it does about locks, tests/regressions shows."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings

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
    done = subprocess.run(
        [sys.executable, "manage.py", "migrate", "--verbosity", "0"],
        cwd=settings.BASE_DIR,
        env={
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "tests.settings",
            "DATABASE_URL": url.format(folder=tmp_path),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("CommandError: the registry cannot be asked: ")
    assert why in done.stderr
    assert "Traceback" not in done.stderr
