"""A browser, signed in to the admin of a running server."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from tests.support.browser import ARGUMENTS, install
from tests.support.servers import Server, demo_server

PATIENCE = 10_000  # milliseconds


@pytest.fixture(scope="package")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Return a server on a demo registry that these tests may change."""
    with demo_server(tmp_path_factory.mktemp("e2e")) as server:
        yield server


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    # Within the package only: Playwright's event loop would bar later tests from the database.
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=install(), args=ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="package")
def furnished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Return a server on a demo registry with something to show on every page."""
    with demo_server(tmp_path_factory.mktemp("furnished")) as server:
        server.furnish()
        yield server


def sign_in(browser: Browser, server: Server) -> Any:
    """Return the cookies of a staff member who has signed in."""
    with browser.new_context(base_url=server.url) as context:
        page = context.new_page()
        page.goto("/")
        assert page.url.endswith("/admin/login/?next=/admin/")
        page.locator("#id_username").fill(server.staff.name)  # in whatever language
        page.locator("#id_password").fill(server.staff.password)
        page.keyboard.press("Enter")
        page.wait_for_url(server.url + "/admin/")
        return context.storage_state()


@pytest.fixture(scope="package")
def session(browser: Browser, registry: Server) -> Any:
    """Return the cookies of a staff member who has signed in."""
    return sign_in(browser, registry)


@pytest.fixture(scope="package")
def furnished_session(browser: Browser, furnished: Server) -> Any:
    """Return the cookies of a staff member of the furnished registry."""
    return sign_in(browser, furnished)


OpenPage = Callable[..., Page]


@pytest.fixture
def open_page(browser: Browser, registry: Server, session: Any) -> Iterator[OpenPage]:
    """Return a function that opens a page as staff; what the browser complains of fails the test.

    Its arguments are those of a Playwright context: viewport, color_scheme …
    """
    complaints: list[str] = []
    with ExitStack() as stack:

        def open_(path: str, *, signed_in: bool = True, **options: Any) -> Page:
            context: BrowserContext = stack.enter_context(
                browser.new_context(
                    base_url=registry.url, storage_state=session if signed_in else None, **options
                )
            )
            context.set_default_timeout(PATIENCE)
            page = context.new_page()
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.on(
                "console",
                lambda message: (
                    complaints.append(message.text)
                    if message.type in ("error", "warning")
                    else None
                ),
            )
            page.on(
                "response",
                lambda response: (
                    complaints.append(f"{response.status} {response.url}")
                    if response.status >= 400
                    else None
                ),
            )
            page.goto(path)
            return page

        yield open_
    assert complaints == []
