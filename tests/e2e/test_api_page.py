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
    expect(command.get_by_role("rowheader", name="credentials.psk")).to_be_visible()
    answer = command.locator("details").first
    expect(answer.locator("pre")).to_be_hidden()
    answer.locator("summary").press("Enter")
    expect(answer.locator("pre")).to_contain_text('"result": true')

    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    host = page.url.partition("/api/")[0]
    assert all(url.startswith((host, "data:")) for url in asked)
