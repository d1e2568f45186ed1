"""The admin: rules are kept, tried, explained and reported on; nothing typed is lost."""

import re
import sqlite3
from datetime import UTC, datetime
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils.http import urlencode

from acl.models import Assertion, CommandPermission, CommandSet
from devices.admin.base.actions import set_digest
from devices.events.models import Event
from tests.support.staff import browser_of, staff

ADD = "/admin/acl/commandpermission/add/"
LIST = "/admin/acl/commandpermission/"

pytestmark = [pytest.mark.django_db, pytest.mark.once(on="sqlite")]


def fields(**overrides: Any) -> dict[str, Any]:
    return {
        "effect": "allow",
        "source_kind": "everyone",
        "destination_kind": "everyone",
        "pattern": "/v1/Config.*",
        "enabled": "on",
        "note": "typed by hand",
    } | overrides


def test_a_rule_is_added(admin_client: Client, make_device: Any) -> None:
    lamp = make_device("lamp")
    response = admin_client.post(
        ADD, fields(source_kind="device", source_device=lamp.pk), follow=True
    )
    assert "was added successfully" in response.content.decode()
    assert CommandPermission.objects.named().get().notation == "allow lamp → everyone: /v1/Config.*"


def test_a_mistake_is_told_at_its_field_and_nothing_typed_is_lost(admin_client: Client) -> None:
    page = admin_client.post(ADD, fields(source_kind="device", pattern="/v1/*/x")).content.decode()
    assert "Which device? Choose one, or choose another kind." in page
    assert "Write /v1/*, or one pattern for each command." in page
    assert 'value="/v1/*/x"' in page
    assert 'value="typed by hand"' in page
    assert not CommandPermission.objects.exists()


def test_saving_warns_of_a_rule_that_opens_everything(admin_client: Client) -> None:
    page = admin_client.post(ADD, fields(pattern="*"), follow=True).content.decode()
    assert "This rule lets everyone send every command to everyone." in page


@pytest.mark.once(on="postgres")
def test_the_list_shows_searches_and_filters(
    admin_client: Client, make_device: Any, make_rule: Any, django_assert_max_num_queries: Any
) -> None:
    for _ in range(20):
        make_rule(make_device(), make_device(), "/v1/Config.*")
    rule = make_rule(make_device("lamp"), "same-group", "/v1/Sys.*", enabled=False)
    with django_assert_max_num_queries(14):
        assert admin_client.get(LIST).status_code == 200
    page = admin_client.get(LIST, {"q": "lamp"}).content.decode()
    assert f"#{rule.pk}</a>" in page
    assert "1 rule" in page
    for word in (f"%23{rule.pk}", "/v1/Sys", "'/v1/Sys.*'"):
        page = admin_client.get(f"{LIST}?q={word}").content.decode()
        assert f"#{rule.pk}</a>" in page
        assert "1 rule" in page
    for state, number in (("off", 1), ("force", 20), ("later", 0), ("expired", 0)):
        page = admin_client.get(LIST, {"state": state}).content.decode()
        assert f"{number} rule" in page


@pytest.mark.once(on="postgres")
@pytest.mark.parametrize(
    ("searched", "expected"),
    [
        ("/v1/Config.Get", {"*", "/v1/*", "/v1/Config.*", "/v1/Config.Get", "a set"}),
        ("/v1/Config.*", {"*", "/v1/*", "/v1/Config.*", "a set"}),
        ("/v1/Sys", {"*", "/v1/*", "/v1/Sys.Reboot"}),
        ("//api.example.com/lamp", set()),
    ],
)
def test_a_search_for_a_command_finds_the_rules_that_cover_it(
    admin_client: Any, make_rule: Any, make_set: Any, searched: str, expected: set[str]
) -> None:
    make_rule("everyone", "everyone", make_set("reading", "/v1/Config.*"))
    for pattern in ("*", "/v1/*", "/v1/Config.*", "/v1/Config.Get", "/v1/Sys.Reboot", "/v2/*"):
        make_rule("everyone", "everyone", pattern)
    listed = admin_client.get(LIST, {"q": searched}).context["cl"].result_list
    assert {rule.pattern or "a set" for rule in listed} == expected


def test_rules_are_switched_off_and_on(admin_client: Client, make_rule: Any) -> None:
    rule = make_rule()
    for action, said, enabled in (("disable", "off", False), ("enable", "on", True)):
        sent = {"_selected_action": [rule.pk], "action": action}
        asked = admin_client.post(LIST, sent).content.decode()
        assert "Reason for the history" in asked
        rule.refresh_from_db()
        assert rule.enabled is not enabled
        shown = set_digest(CommandPermission.objects.filter(pk=rule.pk))
        sent |= {"confirmed": "yes", "shown": shown, "_change_reason": f"why {said}"}
        form = "application/x-www-form-urlencoded"
        answer = admin_client.post(
            LIST, urlencode(sent, doseq=True), content_type=form, follow=True
        )
        assert f"1 rule switched {said}." in answer.content.decode()
        rule.refresh_from_db()
        assert rule.enabled is enabled
        assert rule.history.first().history_change_reason == f"why {said}"


def test_many_rules_are_deleted_with_as_many_statements_as_few(
    admin_client: Client, make_rule: Any
) -> None:
    def delete(rules: int) -> int:
        keys = [make_rule(pattern=f"/v1/Sys.{number}").pk for number in range(rules)]
        sent = {"action": "delete_selected", "_selected_action": keys, "post": "yes"}
        sent["shown"] = set_digest(CommandPermission.objects.all())
        with CaptureQueriesContext(connection) as asked:
            admin_client.post(LIST, sent)
        assert not CommandPermission.objects.exists()
        gone = CommandPermission.history.filter(history_type="-", id__in=keys)
        assert gone.filter(history_user_id="admin").count() == rules
        assert Event.objects.filter(kind="rule.deleted", data__by="admin").count() >= rules
        return len(asked)

    assert delete(2) == delete(20)


def test_more_rules_are_deleted_than_a_statement_of_sqlite_has_values() -> None:
    anybody = {"effect": "allow", "source_kind": "everyone", "destination_kind": "everyone"}
    texts = [f"/v1/Relay{number}" for number in range(1200)]
    CommandPermission.objects.bulk_create(
        CommandPermission(**anybody, pattern=text, command_key=text) for text in texts
    )
    client = browser_of(staff("view_commandpermission", "delete_commandpermission"))
    keys = [CommandPermission.objects.latest("pk").pk]
    sent = {"action": "delete_selected", "_selected_action": keys, "select_across": "1"}
    most = connection.connection.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, 1100)
    try:
        client.post(LIST, sent | {"post": "yes"})
    finally:
        connection.connection.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, most)
    assert not CommandPermission.objects.exists()


def test_the_page_that_explains(make_device: Any, make_rule: Any) -> None:
    make_device("//api.example.com/lamp")
    rule = make_rule(command="/v1/*", note="<b>careful</b>")
    make_rule(enabled=False)
    client = browser_of(staff("view_commandpermission"))
    listed = client.get(LIST).content.decode()
    assert reverse("admin:acl_commandpermission_explain") in listed
    assert reverse("admin:acl_commandpermission_report") in listed
    asked = {
        "source": "//api.example.com/lamp.led",
        "destination": "//api.example.com/lamp",
        "command": "/v1/Config.Get",
    }
    page = client.get(LIST + "explain/", asked).content.decode()
    assert "<strong>Allowed</strong>" in page
    assert "a rule allows it and none denies it" in page
    assert f"#{rule.pk}</a>" in page
    assert "would match, but is switched off" in page
    assert "&lt;b&gt;careful&lt;/b&gt;" in page
    page = client.get(LIST + "explain/", asked | {"source": "//a/b.c.d"}).content.decode()
    assert "one dot in its last segment" in page
    assert 'value="//a/b.c.d"' in page
    assert "verdict" not in page
    page = client.get(LIST + "explain/", {"source": "//api.example.com/lamp"}).content.decode()
    assert 'value="//api.example.com/lamp"' in page
    assert "errorlist" not in page
    assert "errorlist" not in client.get(LIST + "explain/").content.decode()


def test_the_page_that_explains_another_moment(make_device: Any, make_rule: Any) -> None:
    make_device("lamp")
    make_rule(valid_from=datetime(2126, 1, 3, 9, tzinfo=UTC))
    client = browser_of(staff("view_commandpermission"))
    asked = {"source": "lamp", "destination": "lamp", "command": "/v1/X"}

    def page(**more: str) -> str:
        text: str = client.get(LIST + "explain/", asked | more).content.decode()
        return text

    for moment in ("2126-01-03T09:00", "2126-01-03T10:00+01:00", "2126-01-04"):
        assert "<strong>Allowed</strong>" in page(at=moment)
    for written in ("2126-01-03T10:00:00+01:00", " 2126-01-03 09:00 "):
        assert 'name="at" value="2126-01-03T09:00"' in page(at=written)
    assert 'datetime="2126-01-03T09:00:00Z"' in page(at="2126-01-03T09:00")
    for now in ({}, {"at": ""}):
        assert "<strong>Denied</strong>" in page(**now)
        assert "rules and devices as they are now.</p>" not in page(**now)
    for wrong in ("tomorrow", "2126-02-30T09:00", "9" * 500):
        refused = page(at=wrong)
        assert "errorlist" in refused
        assert "verdict" not in refused


@pytest.mark.parametrize(
    ("permissions", "step"),
    [
        (["change_commandpermission", "add_commandpermission"], "Change the rule that would allow"),
        (["add_commandpermission"], "Write the rule that allows it"),
        ([], ""),
    ],
)
@pytest.mark.parametrize(
    "idle", [{"enabled": False}, {"valid_from": datetime(2126, 1, 3, tzinfo=UTC)}]
)
def test_a_refusal_offers_the_rule_that_is_not_in_force(
    make_device: Any, make_rule: Any, permissions: list[str], step: str, idle: Any
) -> None:
    make_device("lamp")
    make_rule(effect="deny", **idle)
    rule = make_rule(**idle)
    client = browser_of(staff("view_commandpermission", *permissions))
    asked = {"source": "lamp", "destination": "lamp", "command": "/v1/X"}
    page = client.get(LIST + "explain/", asked).content.decode()
    offered = re.search(r'<a class="button default" href="([^"]*)">([^<]*)</a>', page)
    assert bool(offered) is bool(step)
    if offered:
        assert offered[2].startswith(step)
        assert (offered[1] == f"{LIST}{rule.pk}/change/") is step.startswith("Change")


def test_the_report_page(make_device: Any, make_rule: Any) -> None:
    make_device("lamp")
    client = browser_of(staff("view_commandpermission", "view_assertion"))
    page = client.get(LIST + "report/").content.decode()
    assert "No rule is switched on." in page
    assert "No assertions are saved." in page
    rule = make_rule("everyone", make_device(), "/v1/X")
    assert "Every rule can decide something" in client.get(LIST + "report/").content.decode()
    rule.enabled = False
    rule.save()
    assert "No rule is switched on." in client.get(LIST + "report/").content.decode()
    make_rule()
    Assertion.objects.create(text="nobody may *")
    page = client.get(LIST + "report/").content.decode()
    assert "lets everyone send every command to everyone" in page
    assert "a rule allows it (Everyone may send any command to everyone)" in page


def test_the_report_shows_one_fault_and_ways_to_mend_it(
    admin_client: Client, make_device: Any, make_rule: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    useless, wide = make_rule(make_device("off", enabled=False)), make_rule()

    def numbers(**query: Any) -> list[int]:
        context = admin_client.get(LIST + "report/", query).context
        return [finding.rule.pk for finding in context["findings"]]

    assert numbers() == [useless.pk, wide.pk]
    assert numbers(fault="disabled-device") == [useless.pk]
    assert numbers(fault="opens-everything") == [wide.pk]
    assert numbers(fault="no-such-fault") == [useless.pk, wide.pk]
    page = admin_client.get(LIST + "report/", {"fault": "opens-everything"}).content.decode()
    assert f'name="_selected_action" value="{wide.pk}"' in page
    assert f'href="{LIST}{wide.pk}/delete/"' in page
    assert "No rule has this fault." in admin_client.get(
        LIST + "report/", {"fault": "expired"}
    ).content.decode()  # fmt: skip
    monkeypatch.setattr("acl.analysis.lint.MAX_EXAMINED", 1)
    assert numbers() == [useless.pk]
    assert "Only the oldest 1 rules" in admin_client.get(LIST + "report/").content.decode()
    monkeypatch.setattr("acl.analysis.lint.MAX_FINDINGS", 0)
    assert "Only the first 0 are shown" in admin_client.get(LIST + "report/").content.decode()


def test_who_may_only_look_mends_nothing(make_rule: Any) -> None:
    make_rule()
    page = browser_of(staff("view_commandpermission")).get(LIST + "report/").content.decode()
    assert "Switch" not in page
    assert "/delete/" not in page


def test_the_list_of_assertions_says_which_hold(
    admin_client: Client, make_device: Any, django_assert_max_num_queries: Any
) -> None:
    make_device("lamp")
    for number in range(6):
        Assertion.objects.create(text=f"lamp may not /v1/{number} itself")
        Assertion.objects.create(text=f"lamp may /v1/{number} itself")
    with django_assert_max_num_queries(20):
        page = admin_client.get("/admin/acl/assertion/").content.decode()
    assert page.count(">holds</span>") == 6
    assert page.count(">broken</span> lamp → lamp: no rule allows it") == 6


@pytest.mark.parametrize("page", ["", "explain/", "report/"])
def test_pages_ask_for_the_right_to_view(page: str) -> None:
    assert browser_of(staff("view_device")).get(LIST + page).status_code == 403


def test_a_set_is_kept_with_its_commands(admin_client: Client, make_rule: Any) -> None:
    inline = {
        "patterns-TOTAL_FORMS": 2,
        "patterns-INITIAL_FORMS": 0,
        "patterns-0-pattern": "/v1/Config.Get",
        "patterns-1-pattern": "/v1/Sys*",
    }
    page = admin_client.post("/admin/acl/commandset/add/", {"name": "reading"} | inline)
    assert "Did you mean /v1/*?" in page.content.decode()
    assert not CommandSet.objects.exists()
    inline["patterns-1-pattern"] = "/v1/Sys.*"
    admin_client.post("/admin/acl/commandset/add/", {"name": "reading"} | inline)
    command_set = CommandSet.objects.get()
    make_rule(command=command_set)
    listed = admin_client.get("/admin/acl/commandset/").content.decode()
    assert '<td class="field-pattern_count">2</td>' in listed
    rules = f'<a href="{LIST}?command_set__id__exact={command_set.pk}">1</a>'
    assert f'<td class="field-rule_count">{rules}</td>' in listed
    shown = admin_client.get(f"/admin/acl/commandset/{command_set.pk}/change/")
    assert rules in shown.content.decode()


def test_an_assertion_that_does_not_hold_is_saved_with_a_warning(
    admin_client: Client, make_device: Any
) -> None:
    make_device("lamp")
    text = "lamp   may /v1/X itself"
    saved = admin_client.post("/admin/acl/assertion/add/", {"text": text}, follow=True)
    page = saved.content.decode()
    assert "It does not hold: lamp → lamp: no rule allows it" in page
    assert Assertion.objects.get().text == "lamp may /v1/X itself"
    for text, complaint in (
        ("lamp may", "Write: SENDER may"),
        ("lamp may /v1/X stranger", "No device “stranger” is registered."),
        ("nobody outside group:gone may /v1/X", "There is no group named “gone”."),
    ):
        page = admin_client.post("/admin/acl/assertion/add/", {"text": text}).content.decode()
        assert complaint in page
