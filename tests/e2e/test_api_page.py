"""The page that shows the OpenAPI document, in a real browser."""

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.test_accessibility import LOOKS, faults

pytestmark = pytest.mark.once(on="processes")

OpenPage = Callable[..., Page]
LOADING = 30_000  # milliseconds: the document is large


@pytest.mark.parametrize("look", ["light", "narrow-dark"])
def test_anybody_reads_the_page(open_page: OpenPage, look: str) -> None:
    asked: list[str] = []
    options: dict[str, Any] = LOOKS[look]
    page = open_page("/admin/login/", signed_in=False, **options)
    page.on("request", lambda request: asked.append(request.url))
    page.goto("/api/#/Commands/AuthAuthenticate")

    command = page.locator("#operations-Commands-AuthAuthenticate")
    expect(command.locator("pre").last).to_be_visible(timeout=LOADING)
    assert faults(page) == []
    page.get_by_placeholder("Filter by tag").fill("RTIO")  # else only what is in view is drawn
    verifier = page.locator("#operations-RTIO-verify")
    verifier.locator(".opblock-summary-control").press("Enter")
    expect(verifier.get_by_label("Example").first).to_contain_text("the right secret")

    assert faults(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= options["viewport"]["width"]
    host = page.url.partition("/api/")[0]
    assert f"{host}/api/openapi.json" in asked
    assert all(url.startswith((host, "data:")) for url in asked)


def test_an_operation_is_tried_from_the_page(open_page: OpenPage) -> None:
    page = open_page("/api/#/RTIO/verify", signed_in=False)
    verifier = page.locator("#operations-RTIO-verify")
    verifier.get_by_role("button", name="Try it out").click(timeout=LOADING)
    verifier.get_by_role("button", name="Execute").click()
    expect(verifier.locator(".live-responses-table")).to_contain_text('"code": "OK"')
