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


def executable() -> str | None:
    """Return the path of a Chromium: the system's, or else the one that Playwright installed."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    return path if Path(path).exists() else None


def install() -> str:
    """Return the path of a Chromium, installing one where there is none; exits where it cannot."""
    tries = [[sys.executable, "-m", "playwright", "install", "chromium"]]
    if os.geteuid() == 0 and shutil.which("apt-get"):
        tries.insert(0, ["apt-get", "install", "--yes", "--no-install-recommends", "chromium"])
    while (found := executable()) is None and tries:
        command = tries.pop(0)
        print("Installing a browser for the tests:", *command, file=sys.stderr)  # noqa: T201
        if command[0] == "apt-get":
            subprocess.run(["apt-get", "update", "--quiet"], stdout=sys.stderr, check=False)
        subprocess.run(command, stdout=sys.stderr, check=False)
    if found is None:
        sys.exit("The browser tests need Chromium, and it cannot be installed here: install it by "
                 "hand so that `chromium` is on PATH.")  # fmt: skip
    return found


if __name__ == "__main__":
    install()
