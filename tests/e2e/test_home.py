"""The start page and the search, in a real browser."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.support.servers import Server

pytestmark = pytest.mark.once(on="processes")

OpenPage = Callable[..., Page]


@pytest.fixture
def registry(furnished: Server) -> Server:
    return furnished


@pytest.fixture
def session(furnished_session: Any) -> Any:
    return furnished_session


def number_in(text: str) -> int:
    """Return the first number of a text."""
    found = re.search(r"\d+", text)
    assert found is not None, text
    return int(found.group())


def test_each_figure_leads_to_as_many_rows(open_page: OpenPage) -> None:
    page = open_page("/admin/")
    figures = [
        (link.inner_text(), str(link.get_attribute("href")))
        for link in page.locator(".figures a").all()
    ]
    assert len(figures) == 5
    for text, address in figures:
        page.goto(address)
        shown = page.locator(".list-tools .hits").inner_text()
        assert number_in(shown) == number_in(text), f"{text}: {address}"


def test_the_chart_is_drawn_and_can_be_read_as_a_table(open_page: OpenPage) -> None:
    page = open_page("/admin/")
    chart = page.get_by_role("img", name="Calls in each hour")
    expect(chart).to_be_visible()
    heights = chart.locator("rect").evaluate_all(
        "bars => bars.map((bar) => Math.round(bar.getBoundingClientRect().height))"
    )
    assert len(heights) == 2 * 24  # allowed above refused
    assert max(heights) > 50
    page.get_by_text("The chart as a table").click()
    rows = page.locator("details table tbody tr")
    counted = sum(number_in(row.locator("td").last.inner_text()) for row in rows.all())
    assert counted == number_in(page.locator("a.figure-value").inner_text())
    rows.get_by_role("link").first.click()
    expect(page.locator("#result_list")).to_contain_text("the secret is wrong")


def test_times_are_in_the_readers_zone_and_utc_is_at_hand(open_page: OpenPage) -> None:
    page = open_page("/admin/", timezone_id="Asia/Shanghai")
    moment = page.locator("[aria-labelledby=recent-changes] time.moment").first
    utc, shown = str(moment.get_attribute("datetime")), moment.inner_text()
    hours = page.evaluate("utc => String((new Date(utc).getUTCHours() + 8) % 24)", utc)
    assert re.fullmatch(rf"\d{{4}}-\d\d-\d\d {hours.zfill(2)}:{utc[14:16]}", shown)
    expect(moment).to_have_attribute("title", re.compile(r" UTC$"))
    expect(page.locator("#time-zone")).to_contain_text("Asia/Shanghai")


def test_without_scripts_the_page_says_utc_and_searches(open_page: OpenPage) -> None:
    page = open_page("/admin/", java_script_enabled=False)
    expect(page.locator("time.moment").first).to_contain_text("UTC")
    page.locator("#search-everything").fill("Berlin")
    page.keyboard.press("Enter")
    page.get_by_role("link", name="Berlin, north").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Berlin, north")


def test_a_device_is_found_from_any_page(open_page: OpenPage) -> None:
    page = open_page("/admin/acl/commandpermission/")
    page.keyboard.press("/")
    page.keyboard.type("//api.cesanta.com/therm")
    page.keyboard.press("Enter")
    expect(page.get_by_role("status").filter(has_text="1 hit.")).to_have_text("1 hit.")
    page.get_by_role("link", name="//api.cesanta.com/thermostat").click()
    expect(page.locator("#content")).to_contain_text("//api.cesanta.com/thermostat")


def test_a_narrow_list_shows_each_row_as_a_card_with_labels(open_page: OpenPage) -> None:
    page = open_page("/admin/devices/presharedkey/", viewport={"width": 360, "height": 780})
    row = page.get_by_role("row").filter(has_text="factory").first
    label = row.locator("td.field-shown_hint").evaluate(
        "cell => getComputedStyle(cell, '::before').content"
    )
    assert label == '"Secret begins: "'
    cells = row.get_by_role("cell").evaluate_all(
        "cells => cells.map((cell) => cell.getBoundingClientRect().right)"
    )
    assert max(cells) <= 360
