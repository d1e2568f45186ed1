"""The jobs that staff come for, from the start page, in as many clicks as they may take.

Typing is free, and so are Enter and Tab: what is counted is each press of the pointer, in the
browser itself.
"""

from collections.abc import Callable
from itertools import count
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.test_admin import verify
from tests.support.servers import Server

pytestmark = pytest.mark.once(on="processes")

OpenPage = Callable[..., Page]
COUNT = 'addEventListener("pointerdown", (event) => event.isTrusted && pressed(), true);'
numbers = count(1)


def identifier() -> str:
    return f"c11c0000-6a1c-4c55-9a9b-{next(numbers):012d}"


@pytest.fixture
def start(open_page: OpenPage) -> tuple[Page, list[int]]:
    """Return the start page, and a list that grows by one with each click."""
    page = open_page("/admin/", permissions=["clipboard-read", "clipboard-write"])
    clicks: list[int] = []
    page.context.expose_function("pressed", lambda: clicks.append(1))
    page.context.add_init_script(COUNT)
    page.goto("/admin/")
    return page, clicks


def find(page: Page, text: str) -> None:
    """Search everything, by keyboard."""
    page.keyboard.press("/")
    page.keyboard.type(text)
    page.keyboard.press("Enter")
    page.wait_for_url("**/admin/*/**")


def registered(registry: Server, *words: str) -> tuple[str, str]:
    """Register a device with a key; return its identifier and secret."""
    name = identifier()
    registry.manage(
        "add_device", name, "--secret-stdin", *words, stdin="an-old-secret-of-24-letters\n"
    )
    return name, "an-old-secret-of-24-letters"


def test_a_device_with_a_key_ready_to_paste_takes_three(
    start: tuple[Page, list[int]], registry: Server
) -> None:
    (page, clicks), name = start, identifier()
    page.locator("a[href='/admin/devices/device/add/']:visible").first.click()
    page.get_by_label("Identifier:").fill(name)
    page.get_by_role("button", name="Save and issue a key").click()
    page.get_by_role("button", name="Copy the secret").click()
    expect(page.get_by_role("status").filter(has_text="Copied.")).to_have_text("Copied.")
    secret = page.evaluate("navigator.clipboard.readText()")
    assert len(clicks) == 3
    assert verify(registry, name, secret) == "OK"
    said = page.locator("#content").inner_text()
    for text in (name, f'{{"deviceid": "{name}", "devicesecret": "{secret}"}}', "curl "):
        assert text in said
    page.reload()  # the browser sends the form again
    expect(page.locator(".errorlist")).to_contain_text("exists")
    assert secret not in page.content()


def test_a_rotation_with_an_overlap_takes_three(
    start: tuple[Page, list[int]], registry: Server
) -> None:
    page, clicks = start
    name, old = registered(registry)
    find(page, name)
    page.get_by_role("link", name="Rotate keys").click()
    page.get_by_role("button", name="Issue the new key").click()
    page.get_by_role("button", name="Copy the secret").click()
    expect(page.get_by_role("status").filter(has_text="Copied.")).to_have_text("Copied.")
    new = page.evaluate("navigator.clipboard.readText()")
    assert len(clicks) == 3
    assert [verify(registry, name, secret) for secret in (old, new)] == ["OK", "OK"]


def test_why_it_was_refused_takes_none_but_the_search(
    start: tuple[Page, list[int]], registry: Server
) -> None:
    page, clicks = start
    name, _secret = registered(registry)
    assert verify(registry, name, "not-the-secret-of-the-device") == "VERIFICATION_FAILED"
    find(page, name)
    calls = page.locator("section.panel", has_text="Last calls")
    for _ in range(50):  # the journal is written behind the requests
        if calls.get_by_text("the secret is wrong").count():
            break
        page.wait_for_timeout(200)
        page.reload()
    expect(calls).to_contain_text("the secret is wrong")
    assert len(clicks) <= 2


def test_a_group_that_sends_a_command_set_takes_four(
    start: tuple[Page, list[int]], registry: Server
) -> None:
    page, clicks = start
    registry.run(
        "-c",
        "import django; django.setup()\n"
        "from devices.models import DeviceGroup; from acl.models import CommandSet\n"
        "DeviceGroup.objects.create(name='Clicking group')\n"
        "CommandSet.objects.create(name='clicked').patterns.create(pattern='/v1/Clicked.*')",
    )
    find(page, "Clicking group")
    page.locator("#content").get_by_role("link", name="Clicking group").click()
    page.get_by_role("link", name="Let it send commands…").click()
    page.locator(".field-command_set .select2-selection").click()
    page.keyboard.type("clicked")
    page.locator(".select2-results__option--highlighted", has_text="clicked").wait_for()
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.locator(".messagelist .success")).to_be_visible()
    assert len(clicks) <= 5
    page.goto("/admin/acl/commandpermission/?q=clicked")
    expect(page.locator("#result_list")).to_contain_text("Clicking group may send")


def test_what_was_denied_is_allowed_from_the_tester(
    start: tuple[Page, list[int]], registry: Server
) -> None:
    page, clicks = start
    sender, _ = registered(registry)
    receiver, _ = registered(registry)
    asked = f"/admin/acl/commandpermission/explain/?source={sender}&destination={receiver}"
    page.goto(f"{asked}&command=/v1/Clicked.Once")
    page.get_by_role("link", name="Write the rule that allows it").click()
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.locator(".messagelist .success")).to_be_visible()
    assert len(clicks) == 2
    page.goto(f"{asked}&command=/v1/Clicked.Once")
    expect(page.locator(".answer .verdict")).to_contain_text("Allowed")


def sent(lines: list[str]) -> Any:
    content = "\r\n".join(["identifier,enabled", *lines]).encode()
    return {"name": "devices.csv", "mimeType": "text/csv", "buffer": content}


def test_an_import_of_500_takes_five(start: tuple[Page, list[int]]) -> None:
    page, clicks = start
    lines = [f"{identifier()},true" for _ in range(500)]
    page.locator("a[href='/admin/devices/device/']:visible").first.click()
    page.get_by_role("link", name="Import", exact=True).click()
    with page.expect_file_chooser() as chooser:
        page.get_by_label("File:").click()
    chooser.value.set_files(sent([*lines[:-1], f"{identifier()},perhaps"]))
    expect(page.get_by_role("region", name="Errors")).to_contain_text("It says “perhaps”.")
    page.get_by_label("File:").set_input_files(sent(lines))  # mended, and the same click
    expect(page.get_by_role("button", name="Import", exact=True)).to_be_visible()
    page.get_by_label("Generate secrets").click()
    expect(page.locator("#outcome")).to_contain_text("500 secrets are added")
    with page.expect_download():
        page.get_by_role("button", name="Import", exact=True).click()
    assert len(clicks) == 5


def test_what_a_bulk_action_did_to_251_devices_is_undone_in_two(
    start: tuple[Page, list[int]], registry: Server
) -> None:
    page, clicks = start
    registry.run(
        "-c",
        "import django; django.setup()\n"
        "from devices import history; from devices.models import Device\n"
        "history.bulk_create([Device(identifier=f'undone-{n:03}') for n in range(251)])",
    )
    page.goto("/admin/devices/device/?q=undone-")
    page.locator("#action-toggle").check()
    page.locator(".actions .question a").click()
    page.get_by_label("Action:").select_option(label="Disable selected devices")
    page.locator(".actions button[name=index]").click()
    page.get_by_role("button", name="Disable").click()
    expect(page.locator(".messagelist .success")).to_contain_text("251 devices disabled.")
    clicks.clear()
    page.locator(".messagelist").get_by_role("link", name="Undo…").click()
    page.get_by_role("button", name="Undo", exact=True).click()
    expect(page.locator(".messagelist .success")).to_contain_text(
        "251 rows are as they were before: 251 devices."
    )
    assert len(clicks) == 2
    page.goto("/admin/devices/device/?q=undone-&enabled__exact=1")
    expect(page.locator(".paginator").first).to_contain_text("251")

    page.goto("/admin/history/")  # where it is one entry, and so is its undo
    expect(page.get_by_role("link", name="251 changes, made together")).to_have_count(2)
