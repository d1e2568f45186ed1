"""What commands write is whole or as it was before, by one process at a time."""

import errno
import fcntl
import os
import stat
from pathlib import Path

import pytest

from devices.management.files import FileRefused, new_file
from devices.models import DeviceGroup
from tests.support.commands import run

pytestmark = pytest.mark.once(on="sqlite")


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_a_file_is_there_once_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "one"
    with new_file(path) as part:
        part.write_text("whole")
        assert not path.exists()
    assert (path.read_text(), mode_of(path)) == ("whole", 0o600)
    with pytest.raises(FileRefused, match="name another file"), new_file(path) as part:
        part.write_text("another")
    with pytest.raises(UnicodeEncodeError), new_file(path, replace=True) as part:
        part.write_text("half \ud800", "utf-8")
    assert path.read_text() == "whole"
    assert [one.name for one in tmp_path.iterdir()] == ["one"]


@pytest.mark.parametrize("has_links", [True, False])
def test_a_file_that_comes_meanwhile_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_links: bool
) -> None:
    def refuse(path: Path, target: Path) -> None:
        raise PermissionError(errno.EPERM, "no hard links", str(target))

    if not has_links:
        monkeypatch.setattr(Path, "hardlink_to", refuse)
    with new_file(tmp_path / "one") as part:
        part.write_text("ours")
    assert (tmp_path / "one").read_text() == "ours"
    with pytest.raises(FileRefused, match="name another file"), new_file(tmp_path / "two"):
        (tmp_path / "two").write_text("theirs")
    assert (tmp_path / "two").read_text() == "theirs"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]


def test_a_folder_that_cannot_be_synced_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync = os.fsync

    def refuse_folders(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "no folders")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", refuse_folders)
    with new_file(tmp_path / "one") as part:
        part.write_text("whole")
    assert (tmp_path / "one").read_text() == "whole"


def test_what_is_no_file_and_cannot_be_written_is_told_in_words(db: None) -> None:
    DeviceGroup.objects.create(name="yard")
    _out, said = run("export_devices", "--format", "csv", "--output", "/dev/full", code=2)
    assert said == "/dev/full cannot be written: No space left on device"


def test_a_text_that_cannot_be_read_is_told_in_words(db: None, tmp_path: Path) -> None:
    gone = str(tmp_path / "gone")
    _out, said = run("import_permissions", gone, code=2)
    assert said == f"{gone} cannot be read: No such file or directory"


def test_an_export_keeps_who_may_read_and_what_was_there(db: None, tmp_path: Path) -> None:
    DeviceGroup.objects.create(name="yard")
    path, link = tmp_path / "groups.csv", tmp_path / "link.csv"
    umask = os.umask(0o027)
    try:
        run("export_devices", "--output", str(path))
    finally:
        os.umask(umask)
    assert mode_of(path) == 0o640
    path.chmod(0o604)
    link.symlink_to(path)
    run("export_devices", "--output", str(link))
    assert mode_of(path) == 0o604
    assert link.is_symlink()
    part = tmp_path / ".groups.csv.part"
    part.write_bytes(b"of a run that was killed")
    with part.open("rb") as held:  # or of one that goes on
        fcntl.flock(held, fcntl.LOCK_EX)
        _out, said = run("export_devices", "--output", str(path), code=2)
    assert ".groups.csv.part is being written" in said
    run("export_devices", "--output", str(path))
    assert not part.exists()
