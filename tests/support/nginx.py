"""The TLS front of the tests: `python -m tests.support.nginx` installs nginx if need be."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

UNPACKED = Path.home() / ".cache" / "authsite-tests" / "nginx"  # where no package can be installed
PLACES = ["/usr/sbin", "/usr/local/sbin", "/opt/homebrew/bin", str(UNPACKED / "usr/sbin")]


def executable() -> str | None:
    """Return the path of nginx: the system's, or else the one that was unpacked for the tests."""
    return shutil.which("nginx", path=os.pathsep.join([os.environ.get("PATH", ""), *PLACES]))


def install() -> str:
    """Return the path of nginx, installing it where there is none; exits where it cannot."""
    if executable() is None and shutil.which("apt-get"):
        print("Installing nginx for the tests", file=sys.stderr)  # noqa: T201
        if os.geteuid() == 0:
            _run("apt-get", "update", "--quiet")
            _run("apt-get", "install", "--yes", "--no-install-recommends", "nginx")
        else:
            UNPACKED.mkdir(parents=True, exist_ok=True)
            _run("apt-get", "download", "nginx")
            for package in UNPACKED.glob("*.deb"):
                _run("dpkg-deb", "--extract", package.name, ".")
    if (found := executable()) is None:
        sys.exit("The tests of client certificates need nginx, and it cannot be installed here: "
                 "install it by hand so that `nginx` is on PATH.")  # fmt: skip
    return found


def _run(*command: str) -> None:
    folder = UNPACKED if UNPACKED.exists() else None
    subprocess.run(command, cwd=folder, stdout=sys.stderr, check=False)


if __name__ == "__main__":
    install()
