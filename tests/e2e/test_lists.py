"""Lists: how much fits a screen, columns that people choose, whole identifiers, phones."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.support.servers import Server

pytestmark = pytest.mark.once(on="processes")

OpenPage = Callable[..., Page]
DEVICES = "/admin/devices/device/"
LAPTOP = {"viewport": {"width": 1366, "height": 850}}
PHONE = {"viewport": {"width": 390, "height": 844}}
AROUND = 400  # pixels of a page beside its rows


@pytest.fixture
def registry(furnished: Server) -> Server:
    return furnished


@pytest.fixture
def session(furnished_session: Any) -> Any:
    return furnished_session


def heights(page: Page) -> list[float]:
    """Return how high the rows of a list are."""
    found: list[float] = page.locator("#result_list tbody tr").evaluate_all(
        "rows => rows.map((row) => row.getBoundingClientRect().height)"
    )
    assert len(found) > 10
    return found


def test_fifty_rows_fit_three_screens_and_an_identifier_one_line(open_page: OpenPage) -> None:
    page = open_page(DEVICES, **LAPTOP)
    rows = heights(page)
    assert 50 * max(rows) + AROUND <= 3 * 850
    assert page.evaluate("document.documentElement.scrollHeight") - sum(rows) <= AROUND
    first = page.get_by_role("link", name="00000001-4913-4ad7-a936-")
    lines, cut = first.evaluate(
        "link => [link.getClientRects().length, link.scrollWidth > link.clientWidth]"
    )
    assert (lines, cut) == (1, False)


def test_a_phone_shows_a_device_as_one_compact_row(open_page: OpenPage) -> None:
    page = open_page(DEVICES, **PHONE)
    assert max(heights(page)) <= 90
    assert sum(heights(page)) / len(heights(page)) <= 65
    row = page.get_by_role("row").filter(has_text="Valve north 2")
    expect(row.get_by_role("link").first).to_be_visible()
    label = row.locator("td.field-name").evaluate(
        "cell => getComputedStyle(cell, '::before').content"
    )
    assert label == "none"


def test_columns_are_chosen_and_stay_chosen(open_page: OpenPage) -> None:
    page = open_page(DEVICES, **LAPTOP)
    page.locator("#columns > summary").click()
    page.get_by_role("checkbox", name="Groups").uncheck()
    page.get_by_role("checkbox", name="Kind").check()
    page.get_by_role("button", name="Show these").click()
    heads = page.locator("#result_list thead")
    expect(heads).to_contain_text("Kind")
    expect(heads).not_to_contain_text("Groups")
    page.goto(DEVICES)
    expect(heads).to_contain_text("Kind")
    page.locator("#columns > summary").click()
    page.get_by_role("button", name="The usual ones").click()
    expect(heads).to_contain_text("Groups")


def test_a_whole_identifier_opens_its_device(open_page: OpenPage) -> None:
    page = open_page(DEVICES, **LAPTOP)
    page.locator("#searchbar").fill("//api.cesanta.com/thermostat")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("/change/$"))


@pytest.mark.parametrize("scripts", [True, False])
def test_filters_unfold_and_what_is_chosen_can_be_taken_off(
    open_page: OpenPage, scripts: bool
) -> None:
    page = open_page(DEVICES, java_script_enabled=scripts, **LAPTOP)
    expect(page.locator("#changelist-filter")).to_be_hidden()
    page.locator("#filters > summary").click()
    page.locator("#changelist-filter").get_by_role("link", name="Disabled").click()
    chip = page.locator(".chips a").first
    expect(chip).to_contain_text("State: Disabled")
    chip.click()
    expect(page.locator(".chips")).to_have_count(0)


def test_the_side_bar_is_there_without_scripts_and_on_a_phone(open_page: OpenPage) -> None:
    page = open_page(DEVICES, java_script_enabled=False, **LAPTOP)
    expect(page.get_by_role("link", name="Who may command whom")).to_be_visible()
    page = open_page(DEVICES, java_script_enabled=False, **PHONE)
    expect(page.get_by_role("link", name="Who may command whom")).to_be_hidden()
    page.get_by_role("link", name="Menu").click()
    expect(page.get_by_role("link", name="Try a credential")).to_be_visible()
    page.get_by_role("link", name="Close").click()
    expect(page.get_by_role("link", name="Try a credential")).to_be_hidden()


def test_on_a_tablet_a_table_has_the_whole_width_and_no_word_falls_into_letters(
    open_page: OpenPage,
) -> None:
    page = open_page(DEVICES, viewport={"width": 768, "height": 1024})
    expect(page.locator("#nav-sidebar")).to_be_hidden()
    page.get_by_role("link", name="Menu").click()
    expect(page.get_by_role("link", name="Try a credential")).to_be_visible()
    page.goto("/admin/devices/device/1/change/")
    button = page.locator("table.credentials .button.revoke").first
    assert button.evaluate("button => button.getClientRects().length") == 1
    assert button.bounding_box()["height"] < 36  # type: ignore[index]


def test_the_first_control_after_the_name_of_the_site_is_the_search(open_page: OpenPage) -> None:
    page = open_page("/admin/", **LAPTOP)
    for _ in range(3):  # past the link that skips to the page, and that of the start page
        page.keyboard.press("Tab")
    expect(page.locator("#search-everything")).to_be_focused()
    page.goto("/admin/acl/commandpermission/explain/?source=b")
    expect(page.locator("#id_destination")).to_be_focused()


def test_a_short_list_does_not_cut_its_filters_off(open_page: OpenPage) -> None:
    page = open_page(f"{DEVICES}?q=Valve+north+2", **LAPTOP)
    page.locator("#filters > summary").click()
    sheet = page.locator("#filters > .menu-sheet")
    box = sheet.bounding_box()
    assert box is not None
    is_seen = sheet.evaluate(
        "(sheet, [x, y]) => sheet.contains(document.elementFromPoint(x, y))",
        [box["x"] + box["width"] / 2, box["y"] + box["height"] - 4],
    )
    assert is_seen
