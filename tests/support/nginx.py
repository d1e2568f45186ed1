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
    if found := executable():
        return found
    if shutil.which("apt-get"):
        if os.geteuid() == 0:
            _say("Installing the system package nginx for the tests (apt-get, as root) …")
            _run("apt-get", "update", "--quiet")
            _run("apt-get", "install", "--quiet", "--yes", "--no-install-recommends", "nginx")
        else:
            _say(f"Unpacking nginx into {UNPACKED} for the tests …")
            UNPACKED.mkdir(parents=True, exist_ok=True)
            _run("apt-get", "download", "nginx")
            for package in UNPACKED.glob("*.deb"):
                _run("dpkg-deb", "--extract", package.name, ".")
    if (found := executable()) is None:
        sys.exit(
            "\nThe tests of client certificates need nginx, and there is none. Install it so that "
            "`nginx` is on PATH:\n    Debian:  apt-get install nginx   (as root)\n"
        )
    return found


def _run(*command: str) -> None:
    subprocess.run(
        command,
        cwd=UNPACKED if UNPACKED.exists() else None,
        stdout=sys.stderr,
        env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"},
        check=False,
    )


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    install()
