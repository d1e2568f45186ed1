"""Every page is usable by everybody: axe finds nothing, nothing is cut off, no mouse is needed."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.e2e.pages import PAGES
from tests.support.servers import Server

pytestmark = pytest.mark.once(on="processes")

OpenPage = Callable[..., Page]

# All that WCAG 2.2 asks up to AA, and axe's own recommendations. The styles are not fetched apart:
# the policy of the pages forbids what axe would do with them.
AXE = {
    "preload": False,
    "resultTypes": ["violations"],  # what passes is not told node by node, which takes seconds
    "runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
}
# A dark page differs from a light one in its colours alone.
COLOURS = AXE | {"runOnly": ["color-contrast", "link-in-text-block"]}
NARROW_PARTS = ("home", "devices", "device", "history")  # have all that is seen when narrow alone
# What else a width changes: how large and how far apart things are, and what is scrolled.
SIZES = AXE | {"runOnly": ["target-size", "scrollable-region-focusable"]}
LOOKS = {
    "light": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "light"},
    "dark": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "dark"},
    "narrow": {"viewport": {"width": 360, "height": 780}, "color_scheme": "light"},
    "narrow-dark": {"viewport": {"width": 360, "height": 780}, "color_scheme": "dark"},
}


def faults(page: Page, options: dict[str, Any] = AXE) -> list[str]:
    """Return what axe finds wrong with a page, a line for each element."""
    return [
        f"{violation['id']}: {node['html'][:200]} ({node['failureSummary']})"
        for violation in Axe().run(page, options=options).response["violations"]
        for node in violation["nodes"]
    ]


@pytest.fixture
def registry(furnished: Server) -> Server:
    return furnished


@pytest.fixture
def session(furnished_session: Any) -> Any:
    return furnished_session


@pytest.mark.parametrize("look", ["light", "narrow"])
def test_axe_finds_nothing_and_no_page_is_wider_than_its_window(
    look: str, open_page: OpenPage, registry: Server
) -> None:
    page = open_page("/admin/", **LOOKS[look])
    wrong, pages = {}, dict(PAGES)
    if look == "light":  # and every page that the URLs have, of which most are alike when narrow
        known = json.loads(registry.run("-m", "tests.support.admin_pages"))["pages"]
        pages |= {name: path for name, path in known.items() if path not in PAGES.values()}
    for name, path in pages.items():
        page.goto(path)
        is_whole = look == "light" or name in NARROW_PARTS
        found = faults(page, AXE if is_whole else SIZES)
        if is_whole and name in PAGES:
            page.emulate_media(color_scheme="dark", reduced_motion="reduce")  # none between two
            found += faults(page, COLOURS)
            page.emulate_media(color_scheme="light")
        width = page.evaluate("document.documentElement.scrollWidth")
        if width > page.viewport_size["width"]:  # type: ignore[index]
            found.append(f"{width} pixels wide")
        if found:
            wrong[name] = found
    assert wrong == {}


@pytest.mark.parametrize("look", ["light", "narrow-dark"])
def test_axe_finds_nothing_where_nobody_is_signed_in(look: str, open_page: OpenPage) -> None:
    page = open_page("/admin/login/", signed_in=False, **LOOKS[look])
    assert faults(page) == []


def test_the_columns_of_lists_fit_a_small_laptop(open_page: OpenPage) -> None:
    page = open_page("/admin/", **LOOKS["light"])
    for name in ("devices", "keys", "certificates", "rules", "calls"):
        page.goto(PAGES[name])
        shown, needed = page.locator("#changelist-form .results").evaluate(
            "list => [list.clientWidth, list.scrollWidth]"
        )
        assert needed <= shown, name


def focused(page: Page) -> str:
    """Return what the element in focus is called by, and that its focus can be seen."""
    text, outline = page.evaluate(
        "() => { const one = document.activeElement; const style = getComputedStyle(one);"
        " return [one.id || one.name || one.value || one.textContent.trim(),"
        " style.outlineStyle + ' ' + style.outlineWidth]; }"
    )
    assert outline == "solid 3px", f"{text}: {outline}"
    return str(text)


def tab_to(page: Page, name: str, most: int = 80) -> None:
    """Press Tab until the element of this name is in focus."""
    passed = []
    for _ in range(most):
        page.keyboard.press("Tab")
        passed.append(focused(page))
        if passed[-1] == name:
            return
    raise AssertionError(f"{name!r} was not reached: {passed}")


def test_a_device_is_disabled_by_keyboard_alone(open_page: OpenPage, registry: Server) -> None:
    page = open_page("/admin/", signed_in=False)
    assert focused(page) == "id_username"
    page.keyboard.type(registry.staff.name)
    tab_to(page, "id_password")
    page.keyboard.type(registry.staff.password)
    page.keyboard.press("Enter")
    page.wait_for_url(registry.url + "/admin/")

    page.keyboard.press("/")
    assert focused(page) == "search-everything"
    page.keyboard.type("Valve north 2")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("/search/"))
    page.keyboard.press("Tab")
    assert focused(page) == "Skip to main content"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    identifier = focused(page)
    assert identifier.startswith("00000002-")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("/change/"))

    page.goto(f"/admin/devices/device/?q={identifier[:30]}")
    tab_to(page, "action-toggle")
    page.keyboard.press("Space")
    page.locator("select[name=action]").focus()
    page.keyboard.type("Disable")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Disable")).to_be_visible()
    tab_to(page, "Disable")
    page.keyboard.press("Enter")
    expect(page.locator(".messagelist .success")).to_contain_text("1 device disabled.")


def test_the_search_box_is_entered_and_left_by_keys(open_page: OpenPage) -> None:
    page = open_page("/admin/devices/device/1/change/")
    box = page.locator("#search-everything")
    page.keyboard.press("/")
    expect(box).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator("#content-start")).to_be_focused()

    page.goto("/admin/devices/device/add/")
    name = page.get_by_label("Name:", exact=True)
    name.fill("")
    name.press_sequentially("a/b")
    expect(name).to_have_value("a/b")  # in a field, `/` is a letter
