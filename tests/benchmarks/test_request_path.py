"""How many files of ours a request passes: more of them are a longer way for who reads it."""

import os
import re

import pytest

from tests.support.commands import python
from tests.support.servers import migrated

pytestmark = pytest.mark.once(on="sqlite")

# Files and changes of file on SQLite, where the event loop runs statements itself, and statements.
BOUNDS = {"verify": (12, 24, 0), "rotate": (29, 64, 15)}


@pytest.mark.parametrize("request_", BOUNDS)
def test_a_request_passes_few_files(request_: str) -> None:
    environment = os.environ | {"EMPTY_SQLITE": migrated("sqlite://:memory:")}
    traced = python("-m", "benchmarks.request_path", request_, env=environment, timeout=None)

    found = re.search(r"(\d+) files, (\d+) changes of file, (\d+) statements", traced.stdout)
    assert found, traced.stderr
    passed = [int(number) for number in found.groups()]
    assert all(one <= most for one, most in zip(passed, BOUNDS[request_], strict=True)), passed
