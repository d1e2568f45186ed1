"""Every page holds the worst names, the longest labels, the narrowest and the widest windows.

One registry has names of 255 characters without a space, from right to left, emoji, combining
marks, look-alikes and markup, in a language whose texts are 40 % longer. Each page of the admin, as
its URLs say, is opened once and looked at in every width; a page that is new is among them.
"""

import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.e2e.conftest import sign_in
from tests.e2e.hostile import HEBREW
from tests.support.lengthened import write_catalog
from tests.support.servers import Server, demo_server

pytestmark = pytest.mark.once(on="processes")

CHECKS = Path(__file__).with_name("bounds.js")
WIDTHS = (2560, 1366, 768, 683, 390, 360)  # 683: a window of 1366 pixels at a zoom of 200 %
HEIGHT = 850
USUAL = 1366
PAPER = 718  # as wide as A4 is between usual margins
# What addresses do not say: a list that is narrowed, found nothing, a window over another page.
MORE = {
    "device, edited": "/admin/devices/device/1/change/?edit=1",
    "group, edited": "/admin/devices/devicegroup/1/change/?edit=1",
    "devices narrowed": "/admin/devices/device/?group=1&enabled__exact=1&_facets=True",
    "devices, nothing found": "/admin/devices/device/?q=*nothing-is-called-so",
    "devices in a window": "/admin/devices/device/?_popup=1&_to_field=id",
    "changes of groups": "/admin/history/?model=devices.devicegroup",
    "found": "/admin/search/?q=%D7%97",
    "explained": (
        "/admin/acl/commandpermission/explain/?source=//api.cesanta.com/device_123"
        "&destination=//api.cesanta.com/misslecontrol&command=/v1/Nuke.Launch"
    ),
}


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Return a server in the longest language, on a registry of the worst names."""
    folder = tmp_path_factory.mktemp("hostile")
    write_catalog(folder)
    longest = {"DJANGO_SETTINGS_MODULE": "tests.support.lengthened", "LENGTHENED": str(folder)}
    with demo_server(folder, **longest) as server:
        server.run("-m", "tests.e2e.hostile")
        yield server


def checked(page: Page, *checks: str) -> list[str]:
    """Return what checks of bounds.js find wrong."""
    found: list[str] = page.evaluate(
        "checks => checks.flatMap((name) => bounds[name]())", list(checks)
    )
    return found


def faults(page: Page) -> Iterator[str]:
    """Yield what is wrong with the page that is open, at each width, and with larger text."""
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": HEIGHT})
        yield from (f"{width}: {one}" for one in checked(page, "sideways", "cut", "lost"))
    page.set_viewport_size({"width": USUAL, "height": HEIGHT})
    page.evaluate("document.documentElement.style.fontSize = '200%'")
    yield from (f"text 200 %: {one}" for one in checked(page, "sideways", "cut", "lost"))
    page.evaluate("document.documentElement.style.fontSize = ''")
    page.keyboard.press("Tab")
    yield from checked(page, "turned", "unreachable")
    page.emulate_media(forced_colors="active")
    yield from (f"forced colours: {one}" for one in checked(page, "flat"))
    page.set_viewport_size({"width": PAPER, "height": HEIGHT})
    page.emulate_media(forced_colors="none", media="print")
    yield from (f"on paper: {one}" for one in checked(page, "sideways"))
    page.emulate_media(media="screen")


def test_no_name_no_label_and_no_width_breaks_a_page(hostile: Server, browser: Browser) -> None:
    pages = json.loads(hostile.run("-m", "tests.support.admin_pages"))["pages"] | MORE
    with browser.new_context(
        base_url=hostile.url,
        storage_state=sign_in(browser, hostile),
        viewport={"width": USUAL, "height": HEIGHT},
    ) as context:
        context.add_init_script(path=CHECKS)
        page = context.new_page()
        wrong = defaultdict(list)
        for name, path in pages.items():
            answer: Any = page.goto(path)
            for fault in faults(page) if answer.ok else [f"answers {answer.status}"]:
                wrong[fault].append(name)
    lines = [f"{fault} ({len(on)}: {', '.join(on[:4])})" for fault, on in wrong.items()]
    assert not lines, "\n".join(lines)


def test_the_main_jobs_are_done_without_scripts(hostile: Server, browser: Browser) -> None:
    identifier = "0badcafe-4913-4ad7-a936-2e26f9671b05"
    with browser.new_context(
        base_url=hostile.url, storage_state=sign_in(browser, hostile), java_script_enabled=False
    ) as context:
        page = context.new_page()
        page.goto("/admin/devices/device/add/")
        page.locator("#id_identifier").fill(identifier)
        page.locator("#id_name").fill(HEBREW)
        page.locator("input[name=_issue]").click()
        assert len(page.locator("#secret").inner_text().strip()) >= 20

        page.goto(f"/admin/devices/device/?q={identifier}")  # a whole identifier opens its device
        device = page.url
        expect(page.locator("h1")).to_have_text(HEBREW)
        page.locator("a[href$='/disable/']").click()
        page.locator("#content input[type=submit]").click()
        expect(page.locator(".messagelist .success")).to_be_visible()
        assert page.url == device
        page.locator("a.switch.on").click()
        page.locator("#content input[type=submit]").click()
        page.locator("a[href$='/rotate-keys/']").click()
        page.locator("#content input[type=submit].default").click()
        expect(page.locator("#secret")).to_be_visible()

        asked = f"?source={identifier}&destination={identifier}&command=/v1/Config.Get"
        page.goto(f"/admin/acl/commandpermission/explain/{asked}")
        page.locator("#content a[href*='/commandpermission/add/']").first.click()
        page.locator("input[name=_save]").click()
        expect(page.locator(".messagelist .success")).to_be_visible()

        page.goto("/admin/devices/devicegroup/1/change/")
        page.locator("textarea[name=devices-typed]").fill(identifier)
        page.locator("#members-form input[type=submit]").click()
        expect(page.locator(".members")).to_contain_text(identifier)

        page.goto(f"/admin/devices/device/?q={identifier[:12]}")
        page.locator(".action-select").check()
        page.locator("select[name=action]").select_option("revoke_credentials")
        page.locator(".actions button[name=index]").click()
        page.locator("#content input[type=submit].destructive").click()
        expect(page.locator(".messagelist .success")).to_be_visible()
