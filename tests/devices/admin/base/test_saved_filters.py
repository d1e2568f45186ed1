"""Filters of a list, by name: private or shared, and told apart from what cannot be used."""

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils.html import escape

from devices.models import SavedFilter
from tests.support.rules import make_rule
from tests.support.staff import browser_of, staff

pytestmark = pytest.mark.once(on="sqlite")

LISTS = ["/admin/devices/device/", "/admin/acl/commandpermission/"]


@pytest.fixture(autouse=True)
def _something_to_list(make_device: Any) -> None:
    device = make_device("lamp")
    make_rule(device, "itself")


def other() -> Client:
    return browser_of(User.objects.create_superuser("kim"))


@pytest.mark.parametrize("listed", LISTS)
def test_a_filter_is_named_used_shared_and_forgotten(admin_client: Client, listed: str) -> None:
    sent = {"name": "Lamps", "query": "q=lamp", "is_shared": "on"}
    assert admin_client.post(f"{listed}filters/", sent)["Location"] == f"{listed}?q=lamp"
    admin_client.post(f"{listed}filters/", sent | {"name": "<b>Mine</b>", "is_shared": ""})
    page = admin_client.get(listed).content.decode()
    assert 'href="?q=lamp"' in page
    assert "&lt;b&gt;Mine&lt;/b&gt;" in page
    theirs = other().get(listed).content.decode()
    assert "Lamps" in theirs
    assert "Mine" not in theirs
    shared = SavedFilter.objects.get(name="Lamps")
    other_client = browser_of(User.objects.get(username="kim"))
    other_client.post(f"{listed}filters/", {"forget": shared.pk})
    assert SavedFilter.objects.filter(pk=shared.pk).exists()
    admin_client.post(f"{listed}filters/", {"forget": shared.pk})
    assert not SavedFilter.objects.filter(pk=shared.pk).exists()


def test_a_second_filter_of_a_name_is_refused(admin_client: Client) -> None:
    for _ in range(2):
        page = admin_client.post(
            f"{LISTS[0]}filters/", {"name": "Lamps", "query": "q=x"}, follow=True
        )
    assert "You have a filter of this name." in page.content.decode()
    assert SavedFilter.objects.count() == 1


@pytest.mark.parametrize(
    ("query", "gone", "kept"),
    [
        ("enabled__exact=1&q=x", "", "enabled__exact=1&q=x"),
        ("group=none", "", "group=none"),
        ("attribute-77=x", "a removed attribute", ""),
        ("attribute-77=x&q=x&attribute-78=y", "a removed attribute", "q=x"),
        ("vanished=1&q=x", "“vanished”", "q=x"),
        ("q=x" + 1500 * "&", "", "q=x"),  # more parts than a page takes
        (900 * "a&" + "q=x" + 150 * "&", "“a”", "q=x"),
    ],
)
def test_a_filter_whose_field_is_gone_says_so_and_keeps_the_rest(
    admin_client: Client, query: str, gone: str, kept: str
) -> None:
    admin_client.post(f"{LISTS[0]}filters/", {"name": "Old", "query": query})
    page = admin_client.get(LISTS[0])
    (shown,) = page.context["saved_filters"]
    assert (shown["gone"], shown["query"]) == (gone, kept)
    text = page.content.decode()
    assert (f"(without {gone})" in text) is bool(gone)
    assert (f'class="saved-filter" href="?{escape(kept)}"' in text) is bool(kept)


def test_who_may_not_see_the_list_keeps_no_filter(db: None) -> None:
    answer = browser_of(staff()).post(f"{LISTS[0]}filters/", {"name": "x", "query": "q=x"})
    assert answer.status_code == 403
