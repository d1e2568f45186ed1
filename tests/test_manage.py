"""What `manage.py` does around commands."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import manage
from tests.support.environment import NOT_SET
from tests.support.servers import PEPPERS

pytestmark = pytest.mark.once(on="sqlite")

PROJECT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize(
    ("words", "streams"),
    [
        (("migrate", "--plan"), ("stdout",)),  # Django's, whose few lines are written at the end
        (("help",), ("stdout",)),
        (("make_jwt_key",), ("stdout", "stderr")),
        (("export_rtio",), ("stdout",)),  # without the tables
        (("export_rtio",), ("stdout", "stderr")),
    ],
    ids=" ".join,
)
def test_whoever_has_read_enough_is_told_no_more(
    words: tuple[str, ...], streams: tuple[str, ...], tmp_path: Path
) -> None:
    environment = {
        **os.environ,
        **NOT_SET,
        "DJANGO_SETTINGS_MODULE": "authsite.settings",
        "SECRET_KEY": "for tests only",
        "PEPPERS": PEPPERS,
        "DATABASE_URL": f"sqlite:///{tmp_path}/db.sqlite3",
    }
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [sys.executable, "manage.py", *words],
            cwd=PROJECT,
            env=environment,
            stdout=writing,
            stderr=writing if "stderr" in streams else subprocess.PIPE,
            timeout=60,
            check=False,
        )
    finally:
        os.close(writing)
    told_elsewhere = streams == ("stdout",) and words[0] == "export_rtio"
    assert done.returncode == (2 if told_elsewhere else 128 + signal.SIGPIPE), done.stderr
    assert b"Traceback" not in (done.stderr or b"")
    assert bool(done.stderr) == told_elsewhere


@pytest.mark.parametrize("words", [("check",), ("serve",)], ids=" ".join)
def test_without_its_packages_it_says_what_to_run(words: tuple[str, ...]) -> None:
    done = subprocess.run(
        [sys.executable, "-S", "manage.py", *words],  # as an interpreter outside of .venv
        cwd=PROJECT,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "django is not installed for " in done.stderr
    assert "run `make setup`" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_module_that_python_itself_lacks_is_told_as_that() -> None:
    """Make setup mends none: one is built without SQLite where its headers were not there."""
    error = ModuleNotFoundError("No module named '_sqlite3'", name="_sqlite3")
    assert "was built without its module _sqlite3" in manage._missing(error)
    error = ModuleNotFoundError("No module named 'django'", name="django.core")
    assert "run `make setup`" in manage._missing(error)


def test_nothing_takes_the_place_of_a_stream_that_is_closed() -> None:
    """CWE-910: what is printed would go into the socket or the file that has its number."""
    code = "import manage, os; manage.fill_streams(); [os.fstat(number) for number in range(3)]"
    words = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", sys.executable, "-c", code]
    assert subprocess.run(words, cwd=PROJECT, check=False).returncode == 0


def test_an_interrupt_is_told_in_a_line_also_before_the_command_begins(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(manage, "_run", interrupted)
    with pytest.raises(SystemExit) as ended:
        manage.main()
    assert ended.value.code == 128 + signal.SIGINT
    assert capsys.readouterr().err == "interrupted\n"
