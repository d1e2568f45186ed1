"""Rules, testers and assertions in a real browser."""

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.test_admin import choose

pytestmark = pytest.mark.once(on="processes")

OpenPage = Callable[..., Page]
RULES = "/admin/acl/commandpermission/"
THERMOSTAT = "//api.cesanta.com/thermostat"
CLOUD = "//api.cesanta.com/cloud"
DEVICE = "//api.cesanta.com/device_123"
NARROW = {"width": 360, "height": 800}


def save(page: Page) -> None:
    page.get_by_role("button", name="Save", exact=True).click()


def test_a_rule_is_added_and_read_as_a_sentence(open_page: OpenPage) -> None:
    page = open_page(RULES + "add/")
    save(page)  # nothing: one goes on at the first field in error
    expect(page.locator("#id_source_kind_0")).to_be_focused()
    page.locator("#id_effect").get_by_label("Deny").check()
    page.locator("#id_source_kind").get_by_label("Everyone").check()
    expect(page.locator(".field-source_device")).to_be_hidden()
    page.locator("#id_destination_kind").get_by_label("One device").check()
    choose(page, "destination_device", CLOUD)
    page.locator("#id_pattern").fill("/v1/Read.*")
    button = page.get_by_role("button", name="Save", exact=True)
    sent = """one => {
        const state = () => one.form.getAttribute("aria-busy");
        const escape = new KeyboardEvent("keydown", {key: "Escape", bubbles: true});
        setTimeout(() => one.click());  // that counts once
        return [one.click(), state(), one.dispatchEvent(escape), state(), one.click(), state()];
    }"""
    assert button.evaluate(sent)[1::2] == ["true", None, "true"]

    said = f"No one may send /v1/Read.* to {CLOUD}"
    expect(page.locator(".messagelist .success")).to_contain_text(said)
    row = page.locator("#result_list tbody tr", has_text=said)
    expect(row.locator(".field-says")).to_have_text(said)
    expect(row.locator(".field-state")).to_have_text("In force")
    row.get_by_role("link", name=CLOUD).click()
    panel = page.locator("section.module", has_text="Rules about this device")
    expect(panel).to_contain_text(said)


def suggests(page: Page, field: str, text: str) -> None:
    """Wait until a field suggests a text."""
    expect(page.locator(f"#{field}-suggestions option[value='{text}']")).to_be_attached()


def test_the_tester_by_keyboard(open_page: OpenPage) -> None:
    page = open_page(RULES + "explain/")
    page.get_by_role("combobox", name="Sender:").focus()
    page.keyboard.type("//api.cesanta.com/dev")
    suggests(page, "source", DEVICE)
    page.get_by_role("combobox", name="Sender:").fill(DEVICE)
    page.keyboard.press("Tab")
    page.keyboard.type("//api.cesanta.com/th")
    suggests(page, "destination", THERMOSTAT)
    page.keyboard.type("ermostat")
    page.keyboard.press("Tab")
    page.keyboard.type("/v1/Config.E")
    suggests(page, "command", "/v1/Config.Erase")
    page.keyboard.type("rase")
    page.keyboard.press("Enter")

    answer = page.locator(".answer")
    expect(answer).to_contain_text("Denied")
    expect(answer).to_contain_text("No one may send /v1/Config.Erase to anyone")
    expect(page.get_by_role("row", name="matches, but a rule that denies wins")).to_be_visible()
    again = open_page(page.url)
    expect(again.locator(".answer")).to_contain_text("Denied")


def test_the_tester_without_scripts(open_page: OpenPage) -> None:
    page = open_page(f"{RULES}explain/?source={DEVICE}", java_script_enabled=False)
    expect(page.get_by_label("Sender:")).to_have_value(DEVICE)
    page.get_by_label("Receiver:").fill(THERMOSTAT)
    page.get_by_label("Command:").fill("/v1/Config.Get")
    page.get_by_role("button", name="Ask").click()
    expect(page.locator(".answer")).to_contain_text("Allowed")


@pytest.mark.parametrize(
    ("secret", "verdict"), [("thermostat-secret-1", "Admitted"), ("not the secret", "Refused")]
)
def test_a_credential_is_tried_from_the_device_s_page(
    secret: str, verdict: str, open_page: OpenPage
) -> None:
    page = open_page(f"/admin/devices/device/?q={THERMOSTAT}")
    page.locator("#content").get_by_role("link", name="Try a credential").click()
    expect(page.get_by_role("combobox", name="Device:")).to_have_value(THERMOSTAT)
    page.get_by_label("Secret:").fill(secret)
    page.get_by_role("button", name="Try").click()
    expect(page.locator(".answer .verdict")).to_contain_text(verdict)
    expect(page.get_by_label("Secret:")).to_have_value("")
    assert secret not in page.content()


def test_saving_what_breaks_an_assertion_is_asked_about(open_page: OpenPage) -> None:
    page = open_page("/admin/acl/assertion/add/")
    page.get_by_label("Assertion:").fill(f"{THERMOSTAT} may /v1/Own itself")
    save(page)
    expect(page.locator("#result_list")).to_contain_text("holds")

    page = open_page(RULES + "add/")
    save(page)  # nothing: one goes on at the first field in error
    expect(page.locator("#id_source_kind_0")).to_be_focused()
    page.locator("#id_effect").get_by_label("Deny").check()
    page.locator("#id_source_kind").get_by_label("Everyone").check()
    page.locator("#id_destination_kind").get_by_label("The sender itself").check()
    page.locator("#id_pattern").fill("/v1/Own")
    page.get_by_role("button", name="Show what would change").click()
    expect(page.get_by_role("alert")).to_contain_text("This breaks an assertion")
    page.get_by_role("button", name="Back to the form").click()
    expect(page.get_by_text("Nothing is saved yet.")).to_be_visible()
    expect(page.locator("#id_pattern")).to_have_value("/v1/Own")
    save(page)
    expect(page.get_by_role("alert")).to_contain_text("This breaks an assertion")
    page.get_by_role("button", name="Do it all the same").click()

    expect(page.locator(".messagelist .warning", has_text="does not hold any more")).to_be_visible()
    expect(page.locator(".messagelist .info")).to_contain_text("allowed → denied")
    page = open_page("/admin/acl/assertion/")
    expect(page.locator("#result_list")).to_contain_text("broken")


def test_a_finding_is_mended_from_the_report(open_page: OpenPage) -> None:
    page = open_page(RULES + "add/")
    page.locator("#id_source_kind").get_by_label("Everyone").check()
    page.locator("#id_destination_kind").get_by_label("Everyone").check()
    page.locator("#id_pattern").fill("/*")
    save(page)
    expect(page.locator(".messagelist .warning", has_text="lets everyone send")).to_be_visible()

    page = open_page(RULES + "report/?fault=opens-everything")
    row = page.locator("#content .module tbody tr", has_text="Everyone may send /* to everyone")
    row.get_by_role("button", name=re.compile("^Switch rule")).click()
    page.get_by_role("button", name="Switch off").click()
    expect(page.locator(".messagelist .success")).to_contain_text("1 rule switched off.")
    page = open_page(RULES + "report/?fault=opens-everything")
    expect(page.get_by_role("heading", name="Assertions")).to_be_visible()
    expect(page.get_by_text("Everyone may send /* to everyone")).to_be_hidden()


@pytest.mark.parametrize(
    "path",
    [
        f"{RULES}explain/?source={DEVICE}&destination={THERMOSTAT}&command=/v1/Config.Get",
        RULES + "report/",
        "/admin/devices/device/try-credential/",
        "/admin/acl/assertion/",
    ],
)
def test_the_pages_fit_a_phone(path: str, open_page: OpenPage) -> None:
    page = open_page(path, viewport=NARROW)
    assert page.evaluate("document.documentElement.scrollWidth") <= NARROW["width"]
