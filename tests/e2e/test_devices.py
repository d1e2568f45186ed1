"""Devices, their secrets and certificates, in a real browser."""

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.test_admin import verify
from tests.support.pki import device_certificate
from tests.support.servers import Server

pytestmark = pytest.mark.once(on="processes")

OpenPage = Callable[..., Page]


def added(open_page: OpenPage, identifier: str, **options: object) -> Page:
    """Add a device and stay on its page."""
    page = open_page("/admin/devices/device/add/", **options)
    page.get_by_label("Identifier:").fill(identifier)
    page.get_by_role("button", name="Save and continue editing").click()
    expect(page.locator("#standing")).to_contain_text("enabled")
    return page


def listed(open_page: OpenPage, search: str, action: str) -> Page:
    """Choose an action for all that a search finds."""
    page = open_page(f"/admin/devices/device/?q={search}")
    page.locator("#action-toggle").check()
    page.get_by_label("Action:").select_option(label=action)
    page.locator(".actions button[name=index]").click()
    return page


def test_a_secret_is_copied_by_keyboard_and_shown_once(
    open_page: OpenPage, registry: Server
) -> None:
    identifier = "5d0b6d52-6a1c-4c55-9a9b-0d5f2f4a1c01"
    page = added(open_page, identifier, permissions=["clipboard-read", "clipboard-write"])
    address = page.url
    page.get_by_role("link", name="Issue a key").click()
    page.get_by_role("button", name="Issue the key").click()
    secret = page.locator("#secret").inner_text()
    page.get_by_role("button", name="Copy the secret").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("status").filter(has_text="Copied.")).to_have_text("Copied.")
    assert page.evaluate("navigator.clipboard.readText()") == secret
    assert verify(registry, identifier, secret) == "OK"

    page.reload()  # the browser sends the form again
    expect(page.locator(".messagelist .warning")).to_contain_text("sent before")
    assert secret not in page.content()
    page.goto(address)
    expect(page.locator("table.credentials tbody tr")).to_have_count(1)
    page.go_back()
    assert secret not in page.content()


def test_two_tabs_rotate_one_key_each(open_page: OpenPage) -> None:
    page = added(open_page, "5d0b6d52-6a1c-4c55-9a9b-0d5f2f4a1c02")
    address = page.url.replace("change/", "rotate-keys/")
    secrets = set()
    for tab in [open_page(address), open_page(address)]:
        tab.get_by_role("button", name="Issue the new key").click()
        secrets.add(tab.locator("#secret").inner_text())
    assert len(secrets) == 2


@pytest.mark.parametrize(
    ("secret", "verdict"),
    [("ab", "3 to 128"), ("abc123", "shorter than 16"), ("correct horse battery staple", "Fair")],
)
def test_a_chosen_secret_is_weighed_while_it_is_written(
    open_page: OpenPage, secret: str, verdict: str
) -> None:
    page = open_page("/admin/devices/device/1/issue-key/")
    page.get_by_text("More choices").click()  # shows icons
    page.wait_for_load_state("networkidle")
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url))
    page.get_by_label("Known secret:").press_sequentially(secret)
    expect(page.locator("#secret-strength")).to_contain_text(verdict)
    assert sent == []


def test_devices_are_disabled_enabled_and_deleted_together(open_page: OpenPage) -> None:
    for number in (1, 2):
        added(open_page, f"e2e-bulk-{number}")
    page = listed(open_page, "e2e-bulk", "Disable selected devices")
    expect(page.locator("#bulk-count")).to_contain_text("2 devices will change.")
    page.get_by_role("button", name="Disable").click()
    expect(page.locator(".messagelist .success")).to_contain_text("2 devices disabled.")

    page.get_by_role("link", name="e2e-bulk-1").click()
    page.get_by_role("link", name="Enable this device…").click()
    page.get_by_role("button", name="Enable").click()
    expect(page.locator("#standing")).to_contain_text("enabled")

    page = listed(open_page, "e2e-bulk", "Delete selected devices")
    page.get_by_role("button", name="Disable them instead").click()
    expect(page.locator("#bulk-count")).to_contain_text("1 device will change.")
    page = listed(open_page, "e2e-bulk", "Delete selected devices")
    page.get_by_role("button", name="Delete").click()
    expect(page.locator(".messagelist .success")).to_contain_text("2 devices deleted.")


def test_a_certificate_is_looked_at_then_saved(open_page: OpenPage) -> None:
    page = added(open_page, "e2e-pinned")
    page.get_by_text("More", exact=True).click()
    page.get_by_role("link", name="Register a certificate").click()
    page.get_by_label("Certificate:").fill(device_certificate("e2e-pinned").pem)
    page.get_by_role("button", name="Preview").click()
    expect(page.locator("#preview")).to_contain_text("CN=e2e-pinned")
    expect(page.locator("#preview")).to_contain_text("Nothing is saved yet.")
    page.get_by_role("button", name="Save").click()
    expect(page.locator(".messagelist .success")).to_contain_text("is registered")
    page.get_by_role("link", name="Revoke", exact=True).click()
    page.get_by_label("Reason:").fill("lost")
    page.get_by_role("button", name="Revoke").click()
    expect(page.locator("#content")).to_contain_text(re.compile("revoked", re.IGNORECASE))


def test_filters_count_and_the_list_fits_a_phone(open_page: OpenPage) -> None:
    page = open_page("/admin/devices/device/", viewport={"width": 360, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    expect(page.locator("#changelist-filter")).to_contain_text(re.compile(r"Enabled \([\d,]+\)"))
