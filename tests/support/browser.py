"""The browser of end-to-end tests; `python -m tests.support.browser` installs one if need be."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ARGUMENTS = [
    "--headless",
    "--no-sandbox",  # it visits only the server under test, and CI's root cannot have one
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
]


# Debian's; the first has no windows, and pages cost half as much.
BROWSERS = ("chromium-headless-shell", "chromium")
LIBRARY = "libatomic1"  # Playwright's driver needs it
PLAYWRIGHTS = """
from playwright.sync_api import sync_playwright
with sync_playwright() as playwright:
    print(playwright.chromium.executable_path)
"""


def executable() -> str | None:
    """Return the path of a Chromium that starts: the system's, or else Playwright's.

    None as well where Playwright itself cannot start.
    """
    # In a process of its own, since only one Playwright may run in each.
    asked = subprocess.run(
        [sys.executable, "-c", PLAYWRIGHTS], capture_output=True, text=True, check=False
    )
    if asked.returncode:
        return None
    found = (shutil.which(name) for name in (*BROWSERS, "chromium-browser", "google-chrome"))
    return next((path for path in (*found, asked.stdout.strip()) if path and _starts(path)), None)


def _starts(path: str) -> bool:
    """Return whether it runs: a library may be missing, or it may only point to another package."""
    if not Path(path).exists():
        return False
    return subprocess.run([path, "--version"], capture_output=True, check=False).returncode == 0


def install() -> str:
    """Return the path of a Chromium, installing one where there is none; exits where it cannot."""
    if found := executable():
        return found
    if os.geteuid() == 0 and shutil.which("apt-get"):
        _say("Installing a system package for the browser tests (apt-get, as root) …")
        _apt_get("update")
        for browser in BROWSERS:
            if executable() is None:
                _apt_get("install", "--yes", "--no-install-recommends", browser, LIBRARY)
    if executable() is None:
        _say("Downloading Playwright's Chromium into your home folder for the browser tests …")
        playwright = [sys.executable, "-m", "playwright", "install", "chromium"]
        subprocess.run(playwright, stdout=sys.stderr, check=False)
    if (found := executable()) is None:
        sys.exit(
            "\nThe browser tests need Chromium, and there is none that starts. Install it so that "
            f"`chromium` is on PATH:\n    Debian:  apt-get install chromium {LIBRARY}   (as root)\n"
        )
    return found


def _apt_get(*words: str) -> None:
    subprocess.run(
        ["apt-get", "--quiet", *words],
        stdout=sys.stderr,
        env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"},
        check=False,
    )


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    install()
