"""The page that describes the machine endpoints, in a real browser."""

import re
from collections.abc import Callable
from typing import Literal

import pytest
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.once

OpenPage = Callable[..., Page]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_anybody_reads_the_page_on_a_narrow_screen(
    open_page: OpenPage, scheme: Literal["light", "dark"]
) -> None:
    asked: list[str] = []
    page = open_page(
        "/admin/login/",
        signed_in=False,
        viewport={"width": 360, "height": 740},
        color_scheme=scheme,
    )
    page.on("request", lambda request: asked.append(request.url))
    page.goto("/api/")

    page.get_by_role("link", name="POST /v1/Auth.Authenticate").click()
    expect(page).to_have_url(re.compile("#AuthAuthenticate$"))
    command = page.locator("#AuthAuthenticate")
    expect(command.locator("figure pre").last).to_contain_text('"result": true')
    schemas = command.locator("details")
    expect(schemas.locator("pre").first).to_be_hidden()
    schemas.locator("summary").press("Enter")
    expect(schemas.locator("pre").first).to_contain_text('"psk"')

    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    host = page.url.partition("/api/")[0]
    assert all(url.startswith((host, "data:")) for url in asked)
