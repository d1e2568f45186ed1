"""A browser that asks for Chinese gets pages that are Chinese, whole and usable."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.pages import PAGES
from tests.e2e.test_accessibility import LOOKS, faults
from tests.support.servers import Server

pytestmark = pytest.mark.once(on="processes")

OpenPage = Callable[..., Page]

CHINESE = {"locale": "zh-CN"}
READ = [
    *("home", "devices", "device", "add-device", "delete-device", "issue-key", "rotate-keys"),
    *("keys", "revoke-key", "certificate", "add-certificate", "anchor", "rules", "rule"),
    *("add-rule", "explain", "report", "command-sets", "assertions", "calls", "search"),
]
# What is read or read out, but for code and moments, which are alike in every language.
TEXTS = """() => {
    const apart = "script, style, template, code, pre, time, svg";
    const found = [document.title];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const within = walker.currentNode.parentElement;
        if (within.checkVisibility() && !within.closest(apart)) {
            found.push(walker.currentNode.textContent);
        }
    }
    for (const name of ["aria-label", "placeholder", "title", "value"]) {
        for (const element of document.querySelectorAll(`[${name}]`)) {
            if (name !== "value" || element.matches("input[type=submit]")) {
                found.push(element.matches(apart) ? "" : element.getAttribute(name));
            }
        }
    }
    return found;
}"""
# A name, an account, a curve, a language, a scale of time, formats.
ALIKE = {"Authsite", "admin", "EC secp256r", "English", "UTC", "CSV", "NDJSON"}


@pytest.fixture
def registry(furnished: Server) -> Server:
    return furnished


@pytest.fixture
def session(furnished_session: Any) -> Any:
    return furnished_session


def texts(page: Page) -> set[str]:
    """Return what a page says in Latin letters, without numbers and signs at its ends."""
    titles = (text.removesuffix(" | Authsite") for text in page.evaluate(TEXTS))
    said = (re.sub(r"^[\W\d]+|[\W\d]+$", "", text) for text in titles)
    return {text for text in said if re.search("[A-Za-z]{3}", text)} - ALIKE


def test_no_english_is_left_but_what_staff_wrote(open_page: OpenPage, registry: Server) -> None:
    written = registry.manage("dumpdata", "devices", "acl", "rpc")
    english, chinese = open_page("/admin/"), open_page("/admin/", **CHINESE)
    left = {}
    for name in READ:
        english.goto(PAGES[name])
        chinese.goto(PAGES[name])
        expect(chinese.locator("html")).to_have_attribute("lang", "zh-hans")
        same = texts(chinese) & texts(english)
        if found := sorted(text for text in same if text not in written):
            left[name] = found
    assert left == {}


@pytest.mark.parametrize("look", ["light", "narrow-dark"])
def test_chinese_pages_are_as_accessible_and_no_wider(look: str, open_page: OpenPage) -> None:
    page = open_page("/admin/", **CHINESE, **LOOKS[look])
    for name in ("home", "device", "devices"):
        page.goto(PAGES[name])
        assert faults(page) == []
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= page.viewport_size["width"]  # type: ignore[index]


def test_staff_log_in_and_read_messages_in_chinese(open_page: OpenPage) -> None:
    page = open_page("/admin/login/", signed_in=False, **CHINESE)
    expect(page.get_by_label("密码")).to_be_visible()
    page = open_page("/admin/devices/device/3/disable/", **CHINESE)
    page.get_by_role("button", name="停用").click()
    expect(page.locator(".messagelist")).to_contain_text("已停用 1 个设备。")
    page.goto("/admin/devices/device/3/enable/")
    page.get_by_role("button", name="启用").click()
    expect(page.locator(".messagelist")).to_contain_text("已启用 1 个设备。")


def test_a_reader_chooses_the_language(open_page: OpenPage) -> None:
    page = open_page("/admin/login/?next=/admin/search/", signed_in=False, locale="zh-CN")
    page.get_by_role("button", name="English").click()
    expect(page.get_by_role("button", name="Log in")).to_be_visible()
    assert page.url.endswith("/admin/login/?next=/admin/search/")
    page.get_by_role("button", name="As the browser says").click()
    expect(page.get_by_role("button", name="登录")).to_be_visible()
