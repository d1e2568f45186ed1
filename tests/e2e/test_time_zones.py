"""Times are in the reader's zone wherever they are: lists, forms, histories, filters."""

import json
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.support.servers import Server

pytestmark = pytest.mark.once(on="processes")

OpenPage = Callable[..., Page]
EAST = {"timezone_id": "Asia/Shanghai"}  # eight hours before UTC, all year round
ADD_RULE = "/admin/acl/commandpermission/add/?source_kind=everyone&destination_kind=itself"


def rule(registry: Server, pattern: str) -> dict[str, str]:
    rows = json.loads(registry.manage("dumpdata", "acl.commandpermission"))
    (found,) = [row for row in rows if row["fields"]["pattern"] == pattern]
    return {"pk": str(found["pk"]), **found["fields"]}


def test_a_form_takes_and_shows_the_readers_time(open_page: OpenPage, registry: Server) -> None:
    page = open_page(ADD_RULE, **EAST)
    assert page.locator("[data-utc]").count() == 0
    page.locator("#id_pattern").fill("/v1/Zone.Form")
    page.locator("#id_valid_from_0").fill("2030-01-02")
    page.locator("#id_valid_from_1").fill("03:04")
    page.locator("#id_valid_until_0").fill("2031-01-02")  # a date alone is its midnight
    page.get_by_role("button", name="Save and continue editing").click()

    saved = rule(registry, "/v1/Zone.Form")
    assert saved["valid_from"] == "2030-01-01T19:04:00Z"
    assert saved["valid_until"] == "2031-01-01T16:00:00Z"
    expect(page.locator("#id_valid_from_0")).to_have_value("2030-01-02")
    expect(page.locator("#id_valid_from_1")).to_have_value("03:04:00")
    expect(page.locator("#time-zone")).to_contain_text("Asia/Shanghai")

    page.locator("#id_note").fill("seen again")
    page.get_by_role("button", name="Save and continue editing").click()
    assert rule(registry, "/v1/Zone.Form")["valid_from"] == "2030-01-01T19:04:00Z"

    history = open_page(f"/admin/acl/commandpermission/{saved['pk']}/history/", **EAST)
    moment = history.locator("time.moment", has_text="2030-01-02 03:04").first
    expect(moment).to_have_attribute("title", "2030-01-01 19:04 UTC")


def test_a_moment_that_is_none_is_left_for_the_server_to_refuse(open_page: OpenPage) -> None:
    page = open_page(ADD_RULE, **EAST)
    page.locator("#id_pattern").fill("/v1/Zone.Wrong")
    page.locator("#id_valid_from_0").fill("2030-02-31")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.locator(".errorlist").first).to_contain_text("valid date")
    expect(page.locator("#id_valid_from_0")).to_have_value("2030-02-31")


def test_the_button_for_now_means_now(open_page: OpenPage) -> None:
    page = open_page(ADD_RULE, **EAST)
    page.locator(".field-valid_from .datetimeshortcuts a").first.click()  # today
    today = page.evaluate("new Date().toLocaleDateString('sv')")
    expect(page.locator("#id_valid_from_0")).to_have_value(today)
    assert page.locator(".timezonewarning").count() == 0


def test_a_filter_takes_the_readers_time(open_page: OpenPage) -> None:
    page = open_page("/admin/rpc/callrecord/", **EAST)
    page.locator("#filters > summary").click()
    page.locator("#period-from").fill("2030-01-02T03:04")
    page.locator("form.period input[type=submit]").click()
    page.wait_for_url("**/?*from=*")
    assert "from=2030-01-01T19%3A04" in page.url
    expect(page.locator("#period-from")).to_have_value("2030-01-02T03:04")


def test_a_question_about_another_moment_takes_the_readers_time(open_page: OpenPage) -> None:
    asked = "source=lamp&destination=lamp&command=/v1/X&at=2030-01-01T19:04"
    page = open_page(f"/admin/acl/commandpermission/explain/?{asked}", **EAST)
    assert page.locator("[data-utc]").count() == 0
    expect(page.locator("#id_at")).to_have_value("2030-01-02T03:04")
    expect(page.locator(".answer time.moment")).to_have_text("2030-01-02 03:04")
    page.get_by_role("button", name="Ask").click()
    page.wait_for_url("**at=2030-01-01T19%3A04")
    page.locator("#id_at").fill("")
    page.get_by_role("button", name="Ask").click()
    page.wait_for_url("**at=")
    assert page.locator(".answer time.moment").count() == 0


def test_lists_of_other_packages_say_when_in_the_same_zone(open_page: OpenPage) -> None:
    page = open_page("/admin/axes/accesslog/", **EAST)
    moment = page.locator("#result_list time.moment").first
    shown, utc = moment.inner_text(), str(moment.get_attribute("datetime"))
    hours = page.evaluate("utc => String((new Date(utc).getUTCHours() + 8) % 24)", utc)
    assert shown[11:13] == hours.zfill(2)
    page.goto("/admin/auth/user/1/change/")
    expect(page.locator(".field-date_joined time.moment")).to_be_visible()
    expect(page.locator("#time-zone")).to_be_visible()
