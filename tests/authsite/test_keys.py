"""`python -m authsite.keys`: an `.env` gets the keys that it lacks, and loses nothing."""

import errno
import fcntl
import os
import shutil
import stat
import threading
from pathlib import Path
from unittest import mock

import environ
import pytest

from authsite import keys, readers
from authsite.env import Environment
from tests.support.commands import python

pytestmark = pytest.mark.once(on="sqlite")


@pytest.fixture(autouse=True)
def _no_keys_given(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in keys.KEYS:
        monkeypatch.delenv(name, raising=False)


def read(folder: Path) -> dict[str, str]:
    """Return the values of the keys, and of PORT, as Django would get them."""
    with mock.patch.dict(os.environ):
        os.environ.pop("PORT", None)
        environ.Env.read_env(folder / ".env")
        return {name: os.environ.get(name, "") for name in ("SECRET_KEY", "PEPPERS", "PORT")}


def is_pepper(text: str) -> bool:
    """Return whether the settings take it."""
    with mock.patch.dict(os.environ, PEPPERS=text):
        return len(Environment(Path("/nowhere/.env")).read("PEPPERS", readers.peppers)) == 1


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "# mine\nPORT=18000",
        "SECRET_KEY=\nPEPPERS=\n",
        "export SECRET_KEY=\nPEPPERS = ",
        "SECRET_KEY=\n",
        "SECRET_KEY=''\nexport PEPPERS=\"\"",
        "PEPPERS=\n# more\nPEPPERS=\nSECRET_KEY=\nPORT=18000\nexport SECRET_KEY=''\n",
        Path(keys.BASE_DIR, ".env.example").read_text(),
    ],
)
def test_both_keys_are_made_where_there_are_none(text: str | None, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / ".env").write_text(text)

    assert keys.main(["--demo"], tmp_path) == 0

    assert stat.S_IMODE((tmp_path / ".env").stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [".env"]
    made = read(tmp_path)
    assert len(made["SECRET_KEY"]) >= 50
    assert is_pepper(made["PEPPERS"])
    kept = (tmp_path / ".env").read_text().splitlines()
    for line in (text or "").splitlines():
        assert line in kept or line.rstrip(" '\"").endswith("=")


def test_only_the_missing_one_is_added(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / ".env").write_text("SECRET_KEY=mine\nPORT=18000")

    assert keys.main(["--demo"], tmp_path) == 0

    said = capsys.readouterr().err
    assert "Added new keys to .env, readable by you only: PEPPERS.\n" in said
    made = read(tmp_path)
    assert made["SECRET_KEY"] == "mine"
    assert made["PORT"] == "18000"
    assert is_pepper(made["PEPPERS"])
    assert made["PEPPERS"] not in said


@pytest.mark.parametrize(
    "text",
    [
        "SECRET_KEY=mine\nPEPPERS=one:two\n",
        "export SECRET_KEY='mine'\nPEPPERS_FILE=/run/secrets/peppers\n",
    ],
)
def test_what_is_there_is_left_alone(text: str, tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text(text)
    before = path.stat()

    assert keys.main(["--demo"], tmp_path) == 0

    assert path.read_text() == text
    after = path.stat()  # a ctime stays where nothing was written; reading changes the atime only
    assert (after.st_ino, after.st_ctime_ns) == (before.st_ino, before.st_ctime_ns)


@pytest.mark.parametrize("text", ["PEPPERS=one:two\n", "SECRET_KEY=\nPEPPERS=one:two\n# Grüße\n"])
def test_a_file_with_a_byte_order_mark_is_read(text: str, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(text, "utf-8-sig")

    assert keys.main(["--demo"], tmp_path) == 0

    written = (tmp_path / ".env").read_text("utf-8")
    assert written.count("PEPPERS=") == 1
    assert read(tmp_path)["PEPPERS"] == "one:two"
    assert text.removeprefix("SECRET_KEY=\n") in written
    assert len(read(tmp_path)["SECRET_KEY"]) >= 50


def test_keys_of_the_environment_are_not_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_KEY", "mine")
    monkeypatch.setenv("PEPPERS_FILE", "/run/secrets/peppers")

    assert keys.main(["--demo"], tmp_path) == 0

    assert not (tmp_path / ".env").exists()


@pytest.mark.parametrize("name", keys.OWN)
@pytest.mark.parametrize("form", ["{}=x", "export {}=x", "{}_FILE=/x"])
def test_a_registry_of_its_own_gets_no_keys(
    name: str, form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = form.format(name) + "\n"
    (tmp_path / ".env").write_text(text)

    assert keys.main([], tmp_path) == 0
    assert keys.main(["--demo"], tmp_path) == 1

    assert "configures a registry of its own" in capsys.readouterr().err
    assert (tmp_path / ".env").read_text() == text


def test_a_database_whose_peppers_are_lost_is_told_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "db.sqlite3").touch()

    assert keys.main(["--demo"], tmp_path) == 0

    assert "db.sqlite3 holds secrets under PEPPERS that .env no longer has" in (
        capsys.readouterr().err
    )


def test_a_write_that_breaks_off_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text("PORT=18000\n")

    def fail(source: Path, target: Path) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(Path, "replace", fail)

    with pytest.raises(OSError, match="no space left"):
        keys.main(["--demo"], tmp_path)

    assert [path.name for path in tmp_path.iterdir()] == [".env"]
    assert (tmp_path / ".env").read_text() == "PORT=18000\n"


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "env").write_text("PORT=18000\n")
    (tmp_path / ".env").symlink_to("shared/env")

    assert keys.main(["--demo"], tmp_path) == 0

    assert (tmp_path / ".env").is_symlink()
    assert "SECRET_KEY=" in (tmp_path / "shared" / "env").read_text()


def test_two_that_begin_together_make_one_set_of_keys(tmp_path: Path) -> None:
    other = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_EX)
    second = threading.Thread(target=keys.main, args=(["--demo"], tmp_path))
    second.start()
    second.join(0.2)
    assert not (tmp_path / ".env").exists(), "it waits for whoever began before"
    (tmp_path / ".env").write_text("SECRET_KEY=first\nPEPPERS=of:another\n")
    os.close(other)
    second.join(10)
    assert (tmp_path / ".env").read_text() == "SECRET_KEY=first\nPEPPERS=of:another\n"


@pytest.mark.parametrize("text", ["PORT=18000\n", "SECRET_KEY=mine\nPEPPERS=one:two\n"])
def test_a_folder_that_cannot_be_locked_does_no_harm(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_folder: int, _how: int) -> None:
        raise OSError(errno.EBADF, "Bad file descriptor")  # as NFS says of a folder

    monkeypatch.setattr(fcntl, "flock", refuse)
    (tmp_path / ".env").write_text(text)

    assert keys.main(["--demo"], tmp_path) == 0

    assert not keys.missing((tmp_path / ".env").read_text())


def test_a_folder_in_which_nothing_is_missing_is_not_locked(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("SECRET_KEY=mine\nPEPPERS=one:two\n")
    with mock.patch("fcntl.flock") as flock:
        assert keys.main(["--demo"], tmp_path) == 0
    flock.assert_not_called()


@pytest.mark.parametrize(
    ("kind", "why"), [("folder", "Is a directory"), ("binary", "can't decode")]
)
def test_a_file_that_cannot_be_read_is_said_in_a_line(kind: str, why: str, tmp_path: Path) -> None:
    (tmp_path / "authsite").mkdir()
    script = shutil.copy(keys.__file__, tmp_path / "authsite")
    if kind == "folder":
        (tmp_path / ".env").mkdir()
    else:
        (tmp_path / ".env").write_bytes(b"\xff")
    done = python(script)
    assert done.returncode == 1
    assert done.stderr.startswith(".env cannot be read or written: ")
    assert why in done.stderr
    assert done.stderr.count("\n") == 1


def test_no_two_peppers_have_one_id() -> None:
    """Of one month, or of two machines: a restored database would take one for the other."""
    assert len({keys.KEYS["PEPPERS"]().partition(":")[0] for _ in range(9)}) == 9
