"""The page that reads the description of the machine endpoints."""

import json
import re

import pytest
from django.conf import settings
from django.contrib.staticfiles import finders
from django.test import Client

from rpc.commands.registry import COMMANDS

pytestmark = pytest.mark.django_db


def test_the_document_is_served_to_anybody(client: Client) -> None:
    response = client.get("/api/openapi.json")
    assert response["Content-Type"] == "application/json"
    assert response.json() == json.loads((settings.BASE_DIR / "docs/openapi.json").read_text())


def test_the_page_tells_each_path_schema_answer_and_example(client: Client) -> None:
    response = client.get("/api/")
    assert response.status_code == 200
    page = response.content.decode()
    for path in ("/deviceverifier", "/", "/rpc", *COMMANDS):
        assert f"<code>POST {path}</code>" in page
    for told in (
        "&quot;psk&quot;: {",
        "&quot;deadline&quot;: {",
        "&quot;maxItems&quot;: 1000",
        "INTERNAL_SERVER_ERROR",
        "//api.cesanta.com/misslecontrol",
        "VerificationRequest",
    ):
        assert told in page, told


def test_the_page_needs_no_script_style_or_host_of_others(client: Client) -> None:
    page = client.get("/api/").content.decode()
    _, _, body = page.partition('<div id="content-main"')
    assert "<script" not in body.partition("</details>\n\n</div>")[0]
    assert not re.search(r"\sstyle=|\son[a-z]+=", body)
    assert not re.search(r"(?:src|href)=\"(?:https?:)?//", page)
    assert finders.find("rpc/api.css")
    assert '/static/rpc/api.css"' in page


@pytest.mark.parametrize("path", ["/api/", "/api/openapi.json"])
def test_it_is_only_read(client: Client, path: str) -> None:
    assert client.head(path).status_code == 200
    assert client.post(path).status_code == 405
