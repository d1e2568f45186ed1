"""Write files that are whole or as they were before, one process at a time."""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

TAKEN = "%s exists: name another file"


class FileRefused(Exception):
    """The file was not written; the text says why."""


@contextmanager
def new_file(path: Path, *, replace: bool = False, mode: int = 0o600) -> Iterator[Path]:
    """Yield an empty file beside `path` that takes its place; raises FileRefused.

    One process at a time has it; what a killed one left of it is removed. Anybody but its owner
    can read it only as far as `mode` and the umask say.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        with suppress(FileNotFoundError), part.open("rb") as left:
            _hold(left.fileno(), part)
            _remove(part)
        written = os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode)
        try:
            _hold(written, part)
            try:
                yield part
                os.fsync(written)
                if replace:
                    part.replace(path)
                else:
                    _become(part, path)
            except BaseException:
                _remove(part)
                raise
        finally:
            os.close(written)
        with suppress(OSError):  # the file is there: some folders can be written, and not synced
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:  # it names what was read
            raise FileRefused(f"{path}: {error.strerror}") from error
        raise FileRefused(f"{error.filename or path}: {error.strerror}") from error


def check_free(path: Path) -> None:
    """Raise FileRefused where there is a file of that name, or a link, if only a dangling one."""
    if os.path.lexists(path):
        raise FileRefused(TAKEN % path)


def _become(part: Path, path: Path) -> None:
    """Give a file its name, unless there is one of that name by now; raises FileRefused."""
    try:
        try:
            path.hardlink_to(part)
        except FileExistsError:
            raise
        except OSError:  # a file system without hard links: the name is taken by an empty file
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            part.replace(path)
        else:
            part.unlink()
    except FileExistsError:
        raise FileRefused(TAKEN % path) from None


def _hold(descriptor: int, part: Path) -> None:
    """Lock a file until it is closed; raises FileRefused where another process has it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        is_ours = part.stat().st_ino == os.fstat(descriptor).st_ino
    except (BlockingIOError, FileNotFoundError):
        is_ours = False
    except OSError:  # a file system that knows no locks
        return
    if not is_ours:
        raise FileRefused(f"{part} is being written: wait until that is over")


def _remove(part: Path) -> None:
    for suffix in ("", "-journal"):  # SQLite's, of what was not written to the end
        part.with_name(part.name + suffix).unlink(missing_ok=True)
