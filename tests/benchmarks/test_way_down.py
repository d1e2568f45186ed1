"""How many files of ours a verification passes: more of them are a longer way for who reads it."""

import re
import subprocess
import sys

import pytest

pytestmark = pytest.mark.once(on="sqlite")

MAX_FILES = 14  # on SQLite; the event loop asks PostgreSQL without `statements`
MAX_CHANGES = 28


def test_a_verification_passes_few_files() -> None:
    traced = subprocess.run(
        [sys.executable, "-m", "benchmarks.way_down", "verify"],
        capture_output=True,
        text=True,
        check=False,
    )

    found = re.search(r"(\d+) files, (\d+) changes of file, 0 statements", traced.stdout)
    assert found, traced.stderr
    assert int(found[1]) <= MAX_FILES, traced.stdout
    assert int(found[2]) <= MAX_CHANGES, traced.stdout
