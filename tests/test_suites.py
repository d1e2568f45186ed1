"""`tests.support.suites`: progress as it comes, failures whole at the end, one exit code."""

import shlex
import sys
from pathlib import Path

import pytest

from tests.support import suites
from tests.support.commands import python

pytestmark = pytest.mark.once(on="sqlite")

PASSING = """
def test_one(): pass
"""
FAILING = """
def test_two(): assert 1 == 2, "two is not one"
"""


def run(folder: Path, **sources: str) -> tuple[int, str]:
    """Run suites of these sources at once; return the exit code and what was printed."""
    words = []
    for name, source in sources.items():
        (folder / f"test_{name}.py").write_text(source)
        (folder / "none.ini").touch()
        command = [sys.executable, "-m", "pytest", "-c", str(folder / "none.ini")]
        command += ["--rootdir", str(folder), "-p", "no:cacheprovider", "--disable-plugin-autoload"]
        words.append(f"{name}={shlex.join([*command, str(folder / f'test_{name}.py')])}")
    done = python("-m", "tests.support.suites", *words)
    return done.returncode, done.stdout + done.stderr


def test_progress_carries_the_suite_and_summaries_close(tmp_path: Path) -> None:
    code, printed = run(tmp_path, left=PASSING, right=PASSING)

    assert code == 0
    lines = printed.splitlines()
    for name in ("left", "right"):
        assert any(line.startswith(name) and line.endswith("[100%]") for line in lines)
        assert f"{name}: passed" in lines
    assert sum(line.startswith("===") and " 1 passed in " in line for line in lines) == 2


def test_one_failure_fails_all_and_is_shown_whole_at_the_end(tmp_path: Path) -> None:
    code, printed = run(
        tmp_path, wrong=FAILING, broken="import nothing_of_that_name", right=PASSING
    )

    assert code == 1
    progress, _, closing = printed.partition("\nright: passed\n")
    assert "two is not one" not in progress
    passed, _, failed = closing.partition("\nwrong: failed (1)\n")
    assert " 1 passed in " in passed
    wrong, _, broken = failed.partition("\nbroken: failed (2)\n")
    assert "AssertionError: two is not one" in wrong
    assert " 1 failed in " in wrong.splitlines()[-1]
    assert "nothing_of_that_name" in broken


def test_a_suite_that_is_at_the_begin_of_a_line_shows_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suites, "QUIET", 0)
    silent = suites.Suite("silent", "true")
    with silent.process:
        silent.show_line_so_far()
    assert not capsys.readouterr().out
