"""A real provider of OpenID Connect for the browser tests: npm's `oidc-provider`, on Node.js.

It is installed from a lock into a folder of caches, once. Where there is no Node.js, no npm or no
way to the registry of packages, the tests that need it are skipped, and say why.
"""

import hashlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from tests.support.postgres import free_port

HERE = Path(__file__).parent / "oidc"
CACHE = Path.home() / ".cache" / "authsite-tests"
NODE = 20  # the oldest release that it runs on
INSTALLING = 120  # seconds
STARTING = 20
CLIENT = {"OIDC_CLIENT_ID": "authsite", "OIDC_CLIENT_SECRET": "the-secret-of-this-client"}


def installed() -> Path:
    """Return the folder that the provider is installed in; skips the test where it cannot be."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("there is no node with npm on PATH (Debian: apt-get install nodejs npm)")
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=False)
    if int(version.stdout.strip().removeprefix("v").partition(".")[0] or 0) < NODE:
        pytest.skip(f"node is {version.stdout.strip()}, older than v{NODE}")
    lock = (HERE / "package-lock.json").read_bytes()
    folder = CACHE / f"oidc-provider-{hashlib.sha256(lock).hexdigest()[:12]}"
    if not (folder / "done").exists():
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copyfile(HERE / name, folder / name)
        words = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        try:
            done = subprocess.run(
                words, cwd=folder, capture_output=True, text=True, timeout=INSTALLING, check=False
            )
        except subprocess.TimeoutExpired:
            pytest.skip("npm did not end in time")
        if done.returncode:
            pytest.skip(f"npm could not install the provider: {done.stderr.strip()[-300:]}")
        (folder / "done").touch()
    return folder


class OpenIdProvider:
    """The running provider; `people` says who there is."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._people = folder / "people.json"
        self._log = folder / "provider.log"
        self._process: subprocess.Popen[bytes] | None = None

    def people(self, **people: Mapping[str, Any]) -> None:
        """Say who there is, in which groups, and how they prove who they are."""
        self._people.write_text(json.dumps(people))

    def start(self, registry: str) -> None:
        """Serve the registry of that address."""
        home = installed()
        shutil.copyfile(HERE / "provider.mjs", home / "provider.mjs")  # which finds its packages
        environment = {
            "PATH": os.environ.get("PATH", ""),
            "PORT": str(self.port),
            "PEOPLE": str(self._people),
            "REGISTRY": registry,
        }
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                ["node", "provider.mjs"], cwd=home, env=environment, stdout=log, stderr=log
            )
        until = time.monotonic() + STARTING
        while time.monotonic() < until and self._process.poll() is None:
            try:
                urlopen(f"{self.url}/.well-known/openid-configuration", timeout=2).close()
            except OSError:
                time.sleep(0.05)
            else:
                return
        self.stop()
        raise AssertionError(f"the provider did not start: {self._log.read_text()}")

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(STARTING)


@contextmanager
def openid_provider(folder: Path) -> Iterator[OpenIdProvider]:
    """Yield a provider that is to be started, and ends with the block."""
    installed()
    provider = OpenIdProvider(folder)
    try:
        yield provider
    finally:
        provider.stop()
