"""What a change turns is shown, and asked about where it breaks an assertion.

Each way to break one: tests/regressions/test_changes_that_break_assertions.py.
"""

from collections.abc import Iterator
from html import unescape
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client

from acl.engine.decisions import Request
from acl.extension_points import REQUEST_SOURCES
from acl.models import Assertion, CommandPermission
from devices.models import Device

pytestmark = pytest.mark.once(on="sqlite")

LIST = "/admin/acl/commandpermission/"
ASKED = "This breaks an assertion. Nothing is saved yet."
TOLD = "An assertion does not hold any more: lamp may /v1/X itself"


@pytest.fixture
def lamp(make_device: Any) -> Device:
    device: Device = make_device("lamp")
    return device


@pytest.fixture
def assertion(lamp: Device) -> Assertion:
    return Assertion.objects.create(text="lamp may /v1/X itself")


@pytest.fixture
def _seen() -> Iterator[None]:
    """Let another app have seen a request."""
    REQUEST_SOURCES.append(lambda: {Request("lamp", "lamp", "/v1/Seen"): 12})
    yield
    REQUEST_SOURCES.pop()


def fields(**overrides: Any) -> dict[str, Any]:
    return {
        "effect": "allow",
        "source_kind": "everyone",
        "destination_kind": "everyone",
        "pattern": "*",
        "enabled": "on",
    } | overrides


def text_of(response: Any) -> str:
    return unescape(response.content.decode())


def test_what_breaks_nothing_is_done_and_what_it_turned_is_told(
    admin_client: Client, assertion: Assertion
) -> None:
    page = text_of(admin_client.post(LIST + "add/", fields(), follow=True))
    assert "1 known answer has changed: lamp → lamp: /v1/X: denied → allowed" in page
    assert ASKED not in page
    assert CommandPermission.objects.count() == 1


def test_a_rule_that_begins_later_is_asked_about_before(
    admin_client: Client, assertion: Assertion, make_rule: Any
) -> None:
    make_rule()
    later = fields(effect="deny", valid_from_0="2126-01-31", valid_from_1="08:00")
    page = text_of(admin_client.post(LIST + "add/", later))
    assert ASKED in page
    assert "lamp may /v1/X itself: from 2126-01-31 08:00 UTC on: lamp → lamp" in page
    assert 'datetime="2126-01-31T08:00:00Z"' in page
    assert CommandPermission.objects.count() == 1
    page = text_of(admin_client.post(LIST + "add/", later | {"_confirmed": "x"}, follow=True))
    assert f"{TOLD}: from 2126-01-31 08:00 UTC on" in page
    assert CommandPermission.objects.count() == 2


@pytest.mark.usefixtures("_seen")
def test_a_rule_is_tried_without_saving_and_then_saved(
    admin_client: Client, assertion: Assertion
) -> None:
    page = text_of(admin_client.post(LIST + "add/", fields(_try="x")))
    assert "The answers to 2 of 2 known questions would change." in page
    assert '<td data-label="Command">/v1/Seen</td>' in page
    assert page.count('<td data-label="Asked of late">12 times</td>') == 1
    assert page.count('<td data-label="Asked of late">—</td>') == 1
    assert "No assertion breaks. Nothing is saved yet." in page
    assert '<input type="hidden" name="pattern" value="*">' in page
    assert "_try" not in page
    assert "successfully" not in page
    assert not CommandPermission.objects.exists()
    assert not LogEntry.objects.exists()
    admin_client.post(LIST + "add/", fields(_confirmed="x"))
    assert CommandPermission.objects.count() == 1


def test_the_way_back_to_the_form_keeps_what_was_typed(admin_client: Client, lamp: Device) -> None:
    page = text_of(admin_client.post(LIST + "add/", fields(note="typed", _edit="x")))
    assert "Nothing is saved yet." in page
    assert 'value="typed"' in page
    assert not CommandPermission.objects.exists()


def test_a_mistake_is_told_before_anything_is_tried(
    admin_client: Client, assertion: Assertion
) -> None:
    page = text_of(admin_client.post(LIST + "add/", fields(pattern="/v1/*/x", _try="x")))
    assert "Write /v1/*, or one pattern for each command." in page


def test_what_was_broken_before_is_not_asked_about(
    admin_client: Client, assertion: Assertion
) -> None:
    page = text_of(admin_client.post(LIST + "add/", fields(pattern="/v1/Other"), follow=True))
    assert "was added successfully" in page
    assert "does not hold" not in page


def test_a_stale_form_changes_only_what_was_changed_in_it(
    admin_client: Client, make_rule: Any
) -> None:
    rule = make_rule()
    address = f"{LIST}{rule.pk}/change/"
    form = admin_client.get(address).context["adminform"].form
    shown = {
        bound.html_initial_name: bound.value() if bound.value() is not None else ""
        for bound in form
        if bound.field.show_hidden_initial
    }
    assert shown["initial-enabled"] is True
    CommandPermission.objects.filter(pk=rule.pk).update(enabled=False, pattern="/v1/Kept")
    sent = fields(note="typed late") | {"initial-enabled": "True"}
    admin_client.post(address, shown | sent)
    rule.refresh_from_db()
    assert (rule.note, rule.enabled, rule.pattern) == ("typed late", False, "/v1/Kept")
