"""Add the keys that `.env` lacks: `python -m authsite.keys [--demo]`, before Django can start.

What is there already is never changed. An `.env` that configures a registry of its own gets no
keys: its operator has them, and a new pepper would make every stored secret useless. With `--demo`
such a file is refused.
"""

import base64
import fcntl
import os
import re
import secrets
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent.parent
OWN = ("DATABASE_URL", "ALLOWED_HOSTS", "BACKEND_NETWORKS")  # what a demo's .env never sets
NOTHING = r"""[ \t]*(?:''|"")?[ \t]*$"""  # what stands behind the equals sign of an empty value
HEADING = (
    "# Keys made by `make`. Back PEPPERS up, apart from the database; .env.example explains.\n"
)


def _secret_key() -> str:
    return secrets.token_urlsafe(50)


def _peppers() -> str:
    """Return one pepper; no other one has its ID, of the same month or on another machine."""
    pepper = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
    return f"{time.strftime('%Y%m')}-{secrets.token_hex(3)}:{pepper}"


KEYS: dict[str, Callable[[], str]] = {"SECRET_KEY": _secret_key, "PEPPERS": _peppers}


def is_set(text: str, name: str) -> bool:
    """Return whether the text of an `.env` gives a value, or a file that holds it."""
    given = rf"^[ \t]*(export[ \t]+)?{name}(_FILE)?[ \t]*=(?!{NOTHING})"
    return re.search(given, text, re.MULTILINE) is not None


def missing(text: str) -> list[str]:
    """Return the keys that neither the environment nor the text of an `.env` gives."""
    return [
        name
        for name in KEYS
        if not (os.environ.get(name) or os.environ.get(f"{name}_FILE") or is_set(text, name))
    ]


def add(text: str, names: list[str]) -> str:
    """Return the text with new keys: in place of empty lines `NAME=`, otherwise at the end."""
    added: list[str] = []
    for name in names:
        line = f"{name}={KEYS[name]()}\n"
        # The last line of a name counts, so that no empty one may stay below the new one.
        empty = re.compile(rf"^[ \t]*(?:export[ \t]+)?{name}[ \t]*={NOTHING}\n?", re.MULTILINE)
        first, *others = empty.split(text)
        if others:
            text = first + line + "".join(others)
        else:
            added.append(line)
    if added and text and not text.endswith("\n"):
        text += "\n"
    return text + (HEADING if added else "") + "".join(added)


def write(path: Path, text: str) -> None:
    """Replace the file at once, readable by its owner only."""
    handle, name = tempfile.mkstemp(prefix=".env.", dir=path.parent)  # mode 0600
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def main(words: list[str], folder: Path = BASE_DIR) -> int:
    """Add what is missing and say so, one process at a time; return the exit code."""
    path = (folder / ".env").resolve()  # a link to the file stays one
    text = _read(path)
    own = any(is_set(text, name) for name in OWN)
    if own and "--demo" in words:
        return _say(
            "This .env configures a registry of its own, which gets no demo data: use\n"
            ".venv/bin/python manage.py serve (docs/operations.md)."
        )
    if own or not missing(text):
        return 0
    held = os.open(path.parent, os.O_RDONLY)
    try:
        with suppress(OSError):  # NFS locks no folders
            fcntl.flock(held, fcntl.LOCK_EX)  # two that begin together would make two sets of keys
        return _add_missing(path, folder)
    finally:
        os.close(held)


def _read(path: Path) -> str:
    """Return the text of an `.env`, without the byte order mark of some editors."""
    return path.read_text("utf-8-sig") if path.exists() else ""


def _add_missing(path: Path, folder: Path) -> int:
    text = _read(path)  # another process may have added them meanwhile
    names = missing(text)
    if not names:
        return 0
    if "PEPPERS" in names and (folder / "db.sqlite3").exists():
        _say(
            "db.sqlite3 holds secrets under PEPPERS that .env no longer has: they will not be "
            "accepted.\nPut the old .env back, or remove db.sqlite3 to begin again."
        )
    write(path, add(text, names))
    did = "Added new keys to" if text else "Wrote new keys to"
    _say(f"{did} .env, readable by you only: {', '.join(names)}.")
    return 0


def _say(text: str) -> int:
    sys.stderr.write(f"{text}\n")
    return 1


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (OSError, UnicodeDecodeError) as error:
        sys.exit(_say(f".env cannot be read or written: {error}"))
