"""What staff do all day, in a real browser."""

import json
import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Error, Page, expect

from tests.support.servers import Server

pytestmark = pytest.mark.once(on="processes")

OpenPage = Callable[..., Page]
THERMOSTAT = "//api.cesanta.com/thermostat"
NARROW = {"width": 390, "height": 844}  # a phone


def verify(server: Server, identifier: str, secret: str) -> str:
    """Return the verifier's code for a device."""
    document = {"id": 1, "method": "verify", "deviceid": identifier, "devicesecret": secret}
    answer = server.ask("POST", "/deviceverifier", json.dumps(document).encode())
    code: str = json.loads(answer.body)["code"]
    return code


def add_device(page: Page, identifier: str) -> None:
    """Add a device from the start page and stay on its page."""
    page.locator("a[href='/admin/devices/device/add/']:visible").first.click()
    page.get_by_label("Identifier:").fill(identifier)
    page.get_by_label("Name:", exact=True).fill("Made in the browser")
    page.get_by_role("button", name="Save and continue editing").click()
    expect(page.locator(".messagelist .success")).to_contain_text(identifier)


def test_a_wrong_password_is_refused(open_page: OpenPage) -> None:
    page = open_page("/admin/", signed_in=False)
    page.get_by_label("Username:").fill("admin")
    page.get_by_label("Password:").fill("guess")
    page.get_by_role("button", name="Log in").click()

    expect(page.locator(".errornote")).to_contain_text("username or the password is wrong")


def test_a_device_is_added_gets_a_key_and_is_disabled(
    open_page: OpenPage, registry: Server
) -> None:
    identifier = "0b9c2f6e-3a55-4a0c-8a59-1c2d3e4f5a6b"
    page = open_page("/admin/")
    add_device(page, identifier)

    page.get_by_role("link", name="Issue a key").click()
    page.get_by_text("More choices").click()
    page.get_by_label("Label:").fill("from the browser")
    page.get_by_role("button", name=re.compile("Issue|Register")).click()
    secret = page.locator("#secret").inner_text()
    assert len(secret) == 32
    assert verify(registry, identifier, secret) == "OK"

    page.get_by_role("link", name="I have copied it").click()
    expect(page.get_by_text("from the browser", exact=True).first).to_be_visible()
    assert secret not in page.content()
    with pytest.raises(Error, match="ERR_CACHE_MISS"):  # the browser kept no copy
        page.go_back()

    page = open_page("/admin/devices/device/?q=" + identifier[:30])
    page.locator("#changelist .action-select").check()
    page.get_by_label("Action:").select_option(label="Disable selected devices")
    page.locator(".actions button").click()
    page.get_by_role("button", name=re.compile("Disable|Yes", re.IGNORECASE)).click()
    expect(page.locator(".messagelist .success")).to_be_visible()
    assert verify(registry, identifier, secret) == "VERIFICATION_FAILED"


def test_an_address_with_a_component_is_refused_with_the_id_to_use(open_page: OpenPage) -> None:
    page = open_page("/admin/devices/device/add/")
    page.get_by_label("Identifier:").fill("//api.cesanta.com/lamp.switch")
    page.get_by_role("button", name="Save", exact=True).click()

    expect(page.locator(".errorlist").last).to_contain_text("use //api.cesanta.com/lamp")


def test_devices_are_found_by_part_of_their_identifier(open_page: OpenPage) -> None:
    page = open_page("/admin/devices/device/")
    page.locator("#searchbar").fill("thermo")
    page.keyboard.press("Enter")

    expect(page.locator("#result_list tbody tr")).to_have_count(1)
    expect(page.locator("#result_list")).to_contain_text(THERMOSTAT)


def decide(server: Server, command: str) -> bool:
    """Return whether the thermostat may send a command to the cloud."""
    frame = {
        "v": 1,
        "cmds": [
            {
                "cmd": "/v1/Auth.AuthorizeCommand",
                "id": 1,
                "args": {"src": THERMOSTAT, "dst": "//api.cesanta.com/cloud", "cmd": command},
            }
        ],
    }
    answer = server.ask("POST", "/", json.dumps(frame).encode())
    allowed: bool = json.loads(answer.body)["resp"][0]["resp"]
    return allowed


def choose(page: Page, label: str, text: str) -> None:
    """Choose what an autocomplete field finds for a text."""
    row = page.locator(f".field-{label}")
    row.locator(".select2-selection").click()
    page.locator(".select2-search__field").last.fill(text)
    page.locator(".select2-results__option", has_text=text).first.click()


def test_a_permission_counts_from_the_moment_it_is_saved(
    open_page: OpenPage, registry: Server
) -> None:
    assert not decide(registry, "/v1/Log.Append")
    page = open_page("/admin/acl/commandpermission/add/")
    page.locator("#id_source_kind").get_by_label("One device").check()
    choose(page, "source_device", THERMOSTAT)
    page.locator("#id_destination_kind").get_by_label("Everyone").check()
    page.locator("#id_pattern").fill("/v1/Log.*")
    page.get_by_role("button", name="Save", exact=True).click()

    expect(page.locator(".messagelist .success")).to_be_visible()
    assert decide(registry, "/v1/Log.Append")
    assert not decide(registry, "/v1/Other.Append")


PAGES = [
    "/admin/",
    "/admin/devices/device/",
    "/admin/devices/device/add/",
    "/admin/devices/devicegroup/",
    "/admin/devices/presharedkey/",
    "/admin/acl/commandpermission/",
    "/admin/acl/commandpermission/add/",
    "/admin/password_change/",
]


# Luminances of the page and of its heading, from 0 (black) to 1.
LUMINANCES = r"""() => {
    const luminance = (color) => {
        const [r, g, b] = color.match(/[\d.]+/g).map(Number);
        return (0.2126 * r + 0.7152 * g + 0.0722 * b) / 255;
    };
    const heading = document.querySelector("#content h1");
    return [
        luminance(getComputedStyle(document.body).backgroundColor),
        luminance(getComputedStyle(heading).color),
    ];
}"""


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize("color_scheme", ["light", "dark"])
def test_pages_fit_a_phone_and_the_night(color_scheme: str, path: str, open_page: OpenPage) -> None:
    page = open_page(path, viewport=NARROW, color_scheme=color_scheme)

    assert page.evaluate("document.documentElement.scrollWidth") <= NARROW["width"]
    background, heading = page.evaluate(LUMINANCES)
    if color_scheme == "dark":
        assert background < 0.25
        assert heading > 0.5
    else:
        assert background > 0.75
        assert heading < 0.5


@pytest.mark.parametrize("theme", ["dark", "auto"])
def test_a_page_is_printed_dark_on_light_and_without_what_is_clicked(
    open_page: OpenPage, theme: str
) -> None:
    page = open_page("/admin/devices/device/1/change/", color_scheme="dark")
    page.evaluate("theme => localStorage.setItem('theme', theme)", theme)
    page.reload()
    expect(page.locator("#nav-sidebar")).to_be_visible()
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).colorScheme") == "light"
    ink = page.evaluate("getComputedStyle(document.body).color.match(/\\d+/g).map(Number)")
    assert max(ink) < 64
    for clicked in ("#header", "#nav-sidebar", ".breadcrumbs", ".head-actions", ".row-foot a"):
        expect(page.locator(clicked).first).to_be_hidden()
    expect(page.locator("h1")).to_be_visible()
    expect(page.locator("table.credentials").first).to_be_visible()
