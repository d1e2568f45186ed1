"""Picture the main pages: `python -m tests.e2e.screenshots FOLDER`.

It serves the demo of `make run` and writes FOLDER/NAME-LOOK.jpg for each page, in light, dark,
narrow and, of some pages, Chinese.
"""

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

from tests.e2e.conftest import sign_in
from tests.e2e.pages import PAGES
from tests.support.browser import ARGUMENTS, install
from tests.support.servers import Server, Staff, empty_registry

PICTURED = [
    "home",
    "devices",
    "device",
    "edit-device",
    "group",
    "expiry",
    "group-tree",
    "history",
    "keys",
    "add-certificate",
    "rules",
    "add-rule",
    "explain",
    "calls",
    "search",
    "second-factor",
]
OTHERS = {  # than those that tests look at, in a registry of their own
    "device": "/admin/devices/device/21/change/",
    "edit-device": "/admin/devices/device/21/change/?edit=1",
    "second-factor": "/admin/second-factor/app/",
}
WIDE = {"viewport": {"width": 1366, "height": 850}}
LOOKS: dict[str, dict[str, Any]] = {
    "light": WIDE,
    "dark": {**WIDE, "color_scheme": "dark"},
    "narrow": {"viewport": {"width": 390, "height": 780}},
    "chinese": {**WIDE, "locale": "zh-CN"},
}
IN_CHINESE = ["home", "device", "edit-device", "expiry", "rules", "explain", "second-factor"]
QUALITY = 60  # per cent
TALLEST = 1600  # pixels: what a long page goes on with is more of the same


def main(folder: Path) -> None:
    """Serve, sign in, and picture each page in each look."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
    folder.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as scratch,
        empty_registry(Path(scratch)) as database_url,
        demo(Path(scratch), database_url) as server,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=install(), args=ARGUMENTS)
        session = sign_in(browser, server)
        for look, options_of_look in LOOKS.items():
            options = {**options_of_look, "base_url": server.url, "storage_state": session}
            page = browser.new_context(**options).new_page()
            width = page.viewport_size["width"]  # type: ignore[index]
            for name in IN_CHINESE if look == "chinese" else PICTURED:
                page.goto((PAGES | OTHERS)[name])
                height = min(page.evaluate("document.documentElement.scrollHeight"), TALLEST)
                page.screenshot(
                    path=folder / f"{name}-{look}.jpg",
                    type="jpeg",
                    quality=QUALITY,
                    full_page=True,
                    clip={"x": 0, "y": 0, "width": width, "height": height},
                )
        browser.close()


def demo(folder: Path, database_url: str) -> Server:
    """Return a server, not started yet, on what `make run` fills an empty registry with."""
    server = Server(folder, database_url, STAFF_SECOND_FACTOR="optional")
    seeded = server.manage("seed_demo", "--furnish", "--staff-user", "admin", "--json")
    server.staff = Staff("admin", json.loads(seeded)["password"])
    return server


if __name__ == "__main__":
    main(Path(sys.argv[1]))
