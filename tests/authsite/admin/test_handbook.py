"""The handbook: the documents in the admin, and the way from each page to its chapter."""

import re
from html import unescape

import pytest
from django.http import HttpRequest
from django.test import Client
from django.urls import get_resolver, resolve

from authsite.admin import handbook
from tests.e2e.pages import PAGES

pytestmark = [pytest.mark.django_db, pytest.mark.once(on="sqlite")]  # it asks no rows


@pytest.mark.parametrize("name", sorted(handbook.CHAPTERS))
def test_links_lead_to_chapters_and_sections_that_are_there(name: str) -> None:
    chapter = handbook.chapter(name)
    assert chapter is not None
    assert chapter.title != name
    assert "<script" not in chapter.html
    assert "<img" not in chapter.html
    assert "&lt;!--" not in chapter.html  # HTML is escaped, a comment in it as well
    assert "<a>" not in chapter.html
    assert chapter.html.count("<a ") == chapter.html.count("</a>")
    for target in re.findall('href="([^"]*)"', chapter.html):
        if target.startswith(("http://", "https://")):
            continue
        there, _hash, section = unescape(target).partition("#")
        other = handbook.chapter(there.removeprefix("../").removesuffix("/")) if there else chapter
        assert other is not None, target
        assert not section or f'id="{section}"' in other.html, target


def test_help_leads_from_pages_to_sections_that_are_there() -> None:
    for wanted in [*handbook.HELP.values(), *handbook.HELP_ENDS.values()]:
        name, _hash, section = wanted.partition("#")
        chapter = handbook.chapter(name)
        assert chapter is not None, wanted
        assert not section or f'id="{section}"' in chapter.html, wanted


def test_help_names_pages_that_are_there() -> None:
    known = get_resolver("authsite.urls").namespace_dict["admin"][1].reverse_dict
    names = [name for name in known if isinstance(name, str)]
    for beginning in handbook.HELP:
        assert any(name.startswith(beginning) for name in names), beginning
    for end in handbook.HELP_ENDS:
        assert any(name.endswith(end) for name in names), end


@pytest.mark.parametrize(
    ("page", "section"),
    [
        ("home", "admin/#the-start-page"),
        ("devices", "admin/#lists"),
        ("add-rule", "permissions/#writing-a-rule"),
        ("history", "history/#reading-it"),
        ("expiry", "admin/#overviews"),
        ("group-tree", "admin/#overviews"),
        ("password", "accounts/#logging-in"),
    ],
)
def test_a_page_leads_to_its_chapter(admin_client: Client, page: str, section: str) -> None:
    assert f'href="/admin/help/{section}"' in admin_client.get(PAGES[page]).content.decode()


@pytest.mark.parametrize(
    ("path", "section"),
    [
        ("/admin/devices/device/1/history/", "history/#reading-it"),
        ("/admin/devices/device/1/history/2/undo/", "history/#undoing-and-restoring-one-row"),
        ("/admin/devices/devicegroup/1/change/", "admin/#devices"),
        ("/admin/rpc/callrecord/", "journal/#looking-through-it"),
        ("/admin/second-factor/app/", "accounts/#the-second-factor"),
    ],
)
def test_a_page_of_a_row_leads_to_its_chapter(path: str, section: str) -> None:
    request = HttpRequest()
    request.resolver_match = resolve(path)
    assert handbook.help_url(request) == f"/admin/help/{section}"


def test_chapters_are_listed_and_read_by_any_staff(admin_client: Client, client: Client) -> None:
    listed = admin_client.get("/admin/help/").content.decode()
    assert 'href="/admin/help/permissions/#writing-a-rule"' in listed
    read = admin_client.get("/admin/help/permissions/").content.decode()
    assert "<h1>Rules: who may command whom</h1>" in read
    assert "<table>" in read
    assert admin_client.get("/admin/help/settings/").status_code == 404
    assert admin_client.get("/admin/help/architecture/").status_code == 404
    assert client.get("/admin/help/").status_code == 302
