"""Set-up: what a shell exports for other projects, and an environment that was broken off."""

import os
import shutil
import subprocess
import venv
from pathlib import Path

import psycopg
import pytest
from django.conf import settings

from tests.support.postgres import running

pytestmark = pytest.mark.once(on="sqlite")

MAKEFILE = settings.BASE_DIR / "Makefile"
# Says yes to everything, and leaves a note where it is asked to make an environment.
INTERPRETER = """#!/bin/sh
[ "$2" = venv ] && touch made
exit 0
"""


def make(folder: Path, target: str, **environment: str) -> str:
    """Run a target of the Makefile in a folder; return what it printed."""
    done = subprocess.run(
        ["make", "--silent", target],
        cwd=folder,
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_what_other_projects_need_is_not_handed_on(tmp_path: Path) -> None:
    """Modules of theirs would be imported, settings of theirs read, packages installed there."""
    (tmp_path / "ours").symlink_to(MAKEFILE)  # whose folder may have a space in its name
    (tmp_path / "Makefile").write_text("show:\n\t@env\n\ninclude ours\n")
    theirs = {
        "DJANGO_SETTINGS_MODULE": "shop.settings",
        "PIP_CONSTRAINT": "/shop/constraints.txt",
        "PIP_TARGET": "/shop/packages",
        "PYTHONHOME": "/usr",
        "PYTHONPATH": "/shop",
        "PYTHONSAFEPATH": "1",
    }
    kept = {"PIP_INDEX_URL": "https://packages.example", "HTTPS_PROXY": "http://proxy.example"}

    shown = dict(
        line.split("=", 1)
        for line in make(tmp_path, "show", PIP_USER="1", **theirs, **kept).splitlines()
        if "=" in line
    )

    assert not theirs.keys() & shown.keys()
    assert shown["PIP_USER"] == "0"
    assert kept.items() <= shown.items()


@pytest.mark.parametrize("finished", [False, True], ids=["broken off", "finished"])
def test_an_environment_that_was_broken_off_is_made_again(
    tmp_path: Path, *, finished: bool
) -> None:
    """Killed between its interpreter and its pip, it could never be installed into."""
    shutil.copy(MAKEFILE, tmp_path)
    (tmp_path / "python3.14").write_text(INTERPRETER)
    (tmp_path / "python3.14").chmod(0o755)
    venv.create(tmp_path / ".venv", with_pip=False)
    if finished:
        (tmp_path / ".venv" / "run.stamp").touch()

    make(tmp_path, ".venv/pyvenv.cfg", PATH=f"{tmp_path}:{os.environ['PATH']}")

    assert (tmp_path / "made").exists() is not finished


def test_an_interpreter_that_cannot_be_used_says_why_itself(tmp_path: Path) -> None:
    """A version manager has names on PATH that lead to none, and says how to mend it."""
    shutil.copy(MAKEFILE, tmp_path)
    (tmp_path / "chosen").write_text("#!/bin/sh\necho choose a version first >&2\nexit 127\n")
    (tmp_path / "chosen").chmod(0o755)
    with pytest.raises(subprocess.CalledProcessError) as failed:
        make(tmp_path, ".venv/pyvenv.cfg", PYTHON=str(tmp_path / "chosen"), MAKEFLAGS="-e")
    assert "is no Python 3.11 or newer" in failed.value.stderr
    assert "choose a version first" in failed.value.stderr


def test_a_server_of_the_tests_own_is_none_of_the_shells(monkeypatch: pytest.MonkeyPatch) -> None:
    """With PGSSLMODE=require it was waited for in vain, and then said not to have started."""
    monkeypatch.setenv("PGSSLMODE", "require")
    monkeypatch.setenv("PGOPTIONS", "-c nothing.such")
    with running() as url:
        psycopg.connect(url).close()
