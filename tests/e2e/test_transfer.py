"""Devices in from files and out to them, in a real browser."""

import csv
import io
import json
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Download, Page, expect

from tests.e2e.test_admin import NARROW, verify
from tests.support.servers import Server

pytestmark = pytest.mark.once(on="processes")

OpenPage = Callable[..., Page]
IMPORT = "/admin/devices/device/import/"


def choose(page: Page, content: str, name: str = "devices.csv") -> None:
    """Choose a file and ask for its preview."""
    page.get_by_label("File:").set_input_files(
        {"name": name, "mimeType": "text/csv", "buffer": content.encode()}
    )
    page.get_by_role("button", name="Preview").click()
    expect(page.locator("#outcome h2, #outcome [role=alert]").first).to_be_visible()


def counts(page: Page) -> list[int]:
    """Return how many devices are new, changed, unchanged, rejected, as the page says."""
    row = (
        page.get_by_role("region", name="Counts")
        .get_by_role("row")
        .filter(has=page.get_by_role("rowheader", name="Devices"))
    )
    return [int(text) for text in row.get_by_role("cell").all_inner_texts()]


def rows(download: Download) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(download.path().read_text("utf-8-sig"), newline="")))


def uuid(number: int) -> str:
    return f"5d2f0000-3a55-4a0c-8a59-{number:012d}"


def test_a_file_is_previewed_imported_and_its_secrets_saved_once(
    open_page: OpenPage, registry: Server
) -> None:
    lines = [f"{uuid(n)},device,Imported lamp {n},Imported lamps,true," for n in range(1_000)]
    content = "\r\n".join(["identifier,kind,name,groups,enabled,secret", *lines])
    page = open_page("/admin/devices/device/")
    page.get_by_role("link", name="Import", exact=True).click()
    page.get_by_label("Create groups that do not exist").check()
    page.get_by_label("Generate secrets").check()
    choose(page, content)
    assert counts(page) == [1_000, 0, 0, 0]
    expect(page.locator("#outcome")).to_contain_text("1000 secrets are added")
    assert (
        registry.manage("export_devices", "--filter", "name__startswith=Imported lamp ", "--json")
        == "[]\n"
    )

    with page.expect_download() as saved:
        page.get_by_role("button", name="Import", exact=True).click()
    secrets = {row["identifier"]: row["secret"] for row in rows(saved.value)}
    assert len(secrets) == 1_000
    assert verify(registry, uuid(7), secrets[uuid(7)]) == "OK"
    expect(page.get_by_role("heading", name="Imported")).to_be_visible()
    assert secrets[uuid(7)] not in page.content()
    with page.expect_download() as again:
        page.get_by_role("link", name="Save the secrets again").click()
    assert rows(again.value)[7]["secret"] == secrets[uuid(7)]

    page.get_by_role("link", name="To the list of devices").click()
    page.get_by_role("link", name="Import", exact=True).click()
    choose(page, content)
    expect(page.locator("#outcome")).to_contain_text("nothing to import")
    assert counts(page) == [0, 0, 1_000, 0]


def test_an_erroneous_file_is_mended_row_by_row(open_page: OpenPage) -> None:
    page = open_page(IMPORT)
    choose(page, "identifier;enabled\nfine;\nnot fine;perhaps\n")
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("2 errors; nothing was imported")
    errors = page.get_by_role("region", name="Errors")
    expect(errors.get_by_role("row").nth(1)).to_contain_text("Write “true” or “false”")
    expect(errors.get_by_role("row").nth(2)).to_contain_text("identifier")
    expect(page.get_by_role("button", name="Import", exact=True)).to_have_count(0)

    choose(page, "identifer\nfine\n")
    expect(alert).to_contain_text("no column “identifer”. Known are: identifier, kind")
    choose(page, "identifier;enabled\nmended-in-the-browser;yes\n")
    page.get_by_role("button", name="Import", exact=True).click()
    expect(page.locator(".messagelist .success")).to_contain_text("“devices.csv” was imported")


def test_a_file_that_is_too_large_is_not_even_sent(open_page: OpenPage) -> None:
    page = open_page(IMPORT)
    page.locator("#import-form").evaluate("form => { form.dataset.mostBytes = 10; }")
    choose(page, "identifier\nfine-otherwise\n")
    expect(page.get_by_role("alert")).to_contain_text("larger than 64 MiB")


def test_without_a_script_the_file_is_chosen_twice(open_page: OpenPage, registry: Server) -> None:
    content = f"identifier\n{uuid(5_000)}\n"
    page = open_page(IMPORT, java_script_enabled=False)
    page.get_by_label("Generate secrets").check()
    choose(page, content)
    expect(page.get_by_text("Choose the same file again")).to_be_visible()
    page.get_by_label("File:").set_input_files(
        {"name": "devices.csv", "mimeType": "text/csv", "buffer": content.encode()}
    )
    with page.expect_download() as saved:
        page.get_by_role("button", name="Import", exact=True).click()
    [row] = rows(saved.value)
    assert verify(registry, row["identifier"], row["secret"]) == "OK"


def test_the_filtered_list_is_exported(open_page: OpenPage) -> None:
    page = open_page("/admin/devices/device/?q=cesanta")
    listed = page.locator("#result_list tbody tr").count()
    assert listed
    page.get_by_role("link", name="Export").click()
    page.get_by_label("Format:").select_option("json")
    with page.expect_download() as saved:
        page.get_by_role("button", name="Download").click()
    found = json.loads(saved.value.path().read_text())
    assert len(found) == listed
    assert all("cesanta" in device["identifier"] for device in found)


@pytest.mark.parametrize("color_scheme", ["light", "dark"])
@pytest.mark.parametrize("path", [IMPORT, "/admin/devices/device/export/"])
def test_pages_fit_a_phone(color_scheme: Any, path: str, open_page: OpenPage) -> None:
    page = open_page(path, viewport={**NARROW, "width": 360}, color_scheme=color_scheme)
    if path == IMPORT:
        choose(page, "identifier,name\nnot fine,x\n1.0,\n")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
