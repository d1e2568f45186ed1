"""A reader chooses the language of the pages, or leaves it to the browser."""

import re
from typing import Any

import pytest
from django.test import Client

pytestmark = [pytest.mark.django_db, pytest.mark.once(on="sqlite")]

CHOOSE = "/admin/language/"
CHINESE, ENGLISH = 'lang="zh-hans"', 'lang="en"'


def page(client: Client, language: str = "en") -> str:
    answer = client.get("/admin/login/", HTTP_ACCEPT_LANGUAGE=language)
    return answer.content.decode().partition("<body")[0]


def test_a_choice_is_kept_and_can_be_taken_back(client: Client, settings: Any) -> None:
    assert ENGLISH in page(client)
    answer = client.post(CHOOSE, {"language": "zh-hans", "next": "/admin/search/?q=a"})
    assert answer["Location"] == "/admin/search/?q=a"
    cookie = answer.cookies["django_language"]
    assert (cookie["httponly"], cookie["samesite"]) == (True, "Lax")
    assert CHINESE in page(client)
    client.post(CHOOSE, {"language": "en"})
    assert ENGLISH in page(client, "zh-CN")
    client.post(CHOOSE, {"language": ""})
    assert CHINESE in page(client, "zh-CN")


@pytest.mark.parametrize("sent", [{"language": "xx"}, {"language": "../en"}, {}])
def test_a_language_that_there_is_not_changes_nothing(client: Client, sent: Any) -> None:
    assert client.post(CHOOSE, sent).status_code == 302
    assert ENGLISH in page(client)


def test_it_leads_to_no_other_site_and_needs_its_form(client: Client) -> None:
    answer = client.post(CHOOSE, {"language": "en", "next": "https://evil.example/"})
    assert answer["Location"] == "/"
    assert client.get(CHOOSE).status_code == 405
    assert Client(enforce_csrf_checks=True).post(CHOOSE, {"language": "en"}).status_code == 403


def test_a_choice_leads_back_to_the_page_of_a_long_address(client: Client) -> None:
    for query, way_back in (
        ("a" * 1900, "/admin/login/?next=" + "a" * 1900),
        ("a" * 2100, "/admin/login/"),
    ):
        content = client.get("/admin/login/", {"next": query}).content.decode()
        chosen = re.search(r'id="language".*?name="next" value="([^"]*)"', content, re.DOTALL)
        assert chosen is not None
        assert chosen[1] == way_back
        assert client.post(CHOOSE, {"language": "en", "next": chosen[1]})["Location"] == way_back
