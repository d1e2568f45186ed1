"""The history as staff read it: of a row, of everything, and back to an earlier state."""

import re
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db.models import Q
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from acl.models import CommandPermission, CommandSet
from devices import history
from devices.history import Origin, timeline
from devices.models import Certificate, Device, DeviceGroup, PreSharedKey, Webhook
from tests.support import pki
from tests.support.rules import make_rule
from tests.support.staff import browser_of, staff

pytestmark = pytest.mark.django_db
ALL = "/admin/history/"


def role(name: str) -> Client:
    return browser_of(staff(role=name, name=f"{name} account"))


def page_of(device: Device) -> str:
    return f"/admin/devices/device/{device.pk}/history/"


def last_entry(row: Any) -> timeline.Entry:
    return timeline.latest(timeline.of(type(row), row.pk)).entries[0]


def test_a_row_s_page_says_who_when_where_and_what(admin_client: Client, make_device: Any) -> None:
    device = make_device(name="old name")
    with history.origin("import", user="kim", reason="devices.csv"):
        device.name, device.enabled = "new name", False
        device.save()
    shown = admin_client.get(page_of(device)).content.decode()
    for text in ("old name", "new name", "kim", "Import", "devices.csv", "Enabled"):
        assert text in shown
    assert f"{timezone.now():%Y-%m-%d}" in shown


def test_fields_are_compared_as_staff_read_them(make_device: Any, make_group: Any) -> None:
    site, room = make_group("site"), make_group("room")
    room.parent = site
    room.save()
    assert last_entry(room).fields == [("parent_id", "Within", "", "site")]
    device = make_device(attributes={"floor": 1})
    device.kind, device.enabled, device.attributes = "backend", False, {"floor": 2}
    device.save()
    assert last_entry(device).fields == [
        ("kind", "Kind", "Device", "Backend"),
        ("enabled", "Enabled", "Yes", "No"),
        ("attributes", "Attributes", '{"floor": 1}', '{"floor": 2}'),
    ]


@pytest.mark.once(on="sqlite")
def test_lists_are_read_as_words_and_an_empty_one_as_nothing(admin_client: Client) -> None:
    hook = Webhook(name="hook", url="https://example.com/", kinds=["key.issued", "device.created"])
    hook.pepper = hook.sealed = "x"
    hook.save()
    assert last_entry(hook).fields[-1] == (
        "kinds",
        "Kinds of events",
        "",
        "key.issued, device.created",
    )
    hook.kinds = []
    hook.save()
    assert last_entry(hook).fields == [
        ("kinds", "Kinds of events", "key.issued, device.created", "")
    ]
    shown = admin_client.get(f"/admin/devices/webhook/{hook.pk}/history/").content.decode()
    assert "<bdi>key.issued, device.created</bdi>" in shown
    assert "<bdi>—</bdi></ins>" in shown
    assert "[" not in "".join(re.findall("<bdi>.*?</bdi>", shown))


def test_a_beginning_says_what_is_not_as_ever(make_device: Any) -> None:
    device = make_device("the-identifier", name="pump")
    entry = last_entry(device)
    assert entry.kind is history.ChangeType.CREATED
    assert entry.fields == [
        ("identifier", "Identifier", "", "the-identifier"),
        ("name", "Name", "", "pump"),
    ]


@pytest.mark.once(on="sqlite")
def test_a_save_that_changes_nothing_says_so(admin_client: Client, make_device: Any) -> None:
    device = make_device()
    device.save()
    assert last_entry(device).fields == []
    assert "Saved without a change" in admin_client.get(page_of(device)).content.decode()


def test_a_device_s_page_tells_of_its_credentials_and_groups(
    admin_client: Client, make_device: Any, make_group: Any
) -> None:
    device = make_device(groups=[make_group("boilers")])
    key, _secret = PreSharedKey.objects.issue(device=device, label="factory")
    key.revoke(by="kim", reason="lost on the way")
    party = pki.device_certificate("pump", pki.authority("CA"))
    Certificate.objects.register(device=device, presented=party.pem, label="leaf")
    shown = admin_client.get(page_of(device)).content.decode()
    for text in ("boilers", "factory", "lost on the way", "leaf"):
        assert text in shown


def test_a_device_s_own_page_shows_its_latest_changes(make_device: Any) -> None:
    device = make_device(name="first name")
    for number in range(6):
        device.name = f"name {number}"
        device.save()
    page = role("Operator").get(f"/admin/devices/device/{device.pk}/change/").content.decode()
    assert "Latest changes" in page
    assert "name 5" in page
    assert "first name" not in page
    assert page_of(device) in page


def test_what_was_deleted_keeps_its_page_and_its_names(
    admin_client: Client, make_device: Any, make_group: Any
) -> None:
    group = make_group("boilers")
    device = make_device("gone-device", groups=[group])
    rule = make_rule(device, "everyone", "/v1/Config.Get")
    address, pk = page_of(device), rule.pk
    device.delete()
    group.delete()
    shown = admin_client.get(address).content.decode()
    assert "gone-device" in shown
    assert "boilers" in shown
    assert "Restore this state" not in shown
    assert "gone-device" in str(
        timeline.latest(timeline.of(CommandPermission, pk)).entries[0].subject
    )


@pytest.mark.once(on="sqlite")
def test_a_row_that_never_was_has_no_page(admin_client: Client) -> None:
    assert admin_client.get("/admin/devices/device/4711/history/").status_code == 404
    assert admin_client.get("/admin/devices/device/x/history/").status_code == 404


def test_the_page_of_everything_is_filtered(admin_client: Client, make_device: Any) -> None:
    with history.origin("import", user="kim"):
        make_device("imported-device")
    with history.origin("command", user="lee"):
        CommandSet.objects.create(name="read configuration")
    history.history_of(CommandSet).objects.update(history_date=timezone.now() - timedelta(days=10))
    week = f"{timezone.now() - timedelta(days=7):%Y-%m-%d}"
    for query, here, absent in (
        ("", "imported-device", "nothing at all"),
        ("?model=devices.device", "imported-device", "read configuration"),
        ("?model=acl.commandset", "read configuration", "imported-device"),
        ("?user=kim", "imported-device", "read configuration"),
        ("?origin=command", "read configuration", "imported-device"),
        (f"?since={week}", "imported-device", "read configuration"),
        (f"?until={week}", "read configuration", "imported-device"),
    ):
        shown = admin_client.get(ALL + query).content.decode()
        assert here in shown, query
        assert absent not in shown, query


def test_older_changes_follow_page_by_page(make_device: Any) -> None:
    for _ in range(5):
        make_device()
        DeviceGroup.objects.create(name=f"group {timezone.now()}")
    moment = timezone.now()  # many at one moment, as an import leaves them
    for model in (Device, DeviceGroup):
        history.history_of(model).objects.update(history_date=moment)
    where = {history.history_of(model): Q() for model in (Device, DeviceGroup)}
    seen, after = [], None
    while True:
        page = timeline.latest(where, 3, after)
        seen += [(type(entry.change), entry.change.history_id) for entry in page.entries]
        if page.older is None:
            break
        after = timeline.Cursor.read(str(page.older))
        assert after == page.older
    assert len(seen) == len(set(seen)) == 10


@pytest.mark.once(on="sqlite")
@pytest.mark.parametrize(
    "text",
    ["", "x", "2026-01-01|a|1", "2026-13-01T00:00Z|a|1", "||", "0001-01-01T00:00:00+23:59|a|1"],
)
def test_a_cursor_that_makes_no_sense_is_none(text: str) -> None:
    assert timeline.Cursor.read(text) is None


@pytest.mark.parametrize("asked", ["since=0001-01-01", "until=9999-12-31"])
def test_the_history_goes_from_the_first_day_to_the_last(admin_client: Client, asked: str) -> None:
    assert admin_client.get(f"{reverse('admin:changes')}?{asked}").status_code == 200


@pytest.mark.parametrize("rows", [1, 20])
def test_statements_do_not_grow_with_the_changes(
    rows: int, make_device: Any, make_group: Any, django_assert_max_num_queries: Any
) -> None:
    for _ in range(rows):
        device = make_device(groups=[make_group()])
        device.name = "changed"
        device.save()
        PreSharedKey.objects.issue(device=device)
        make_rule(device, "itself")
    admin = User.objects.create_superuser("kim")
    what_keys_are_called = 1
    with django_assert_max_num_queries(len(history.all_histories()) + 2 + 2 + what_keys_are_called):
        entries = timeline.recent(100, admin)
    assert len(entries) == min(100, rows * 6)


@pytest.mark.once(on="sqlite")
@pytest.mark.parametrize(
    ("name", "everything", "device"),
    [("Viewer", 403, 403), ("Operator", 200, 200), ("Security", 200, 200), ("Auditor", 200, 200)],
)
def test_who_reads_histories(name: str, everything: int, device: int, make_device: Any) -> None:
    client = role(name)
    assert client.get(ALL).status_code == everything
    assert client.get(page_of(make_device())).status_code == device


@pytest.mark.once(on="sqlite")
def test_who_reads_no_history_finds_none_on_a_page(make_device: Any) -> None:
    device = make_device("lamp", name="first")
    device.name = "second"
    device.save()
    viewer = role("Viewer")
    page = viewer.get(f"/admin/devices/device/{device.pk}/change/").content.decode()
    assert page_of(device) not in page
    assert "first" not in page
    assert viewer.get(first_state(device)).status_code == 403


@pytest.mark.once(on="sqlite")
def test_an_operator_reads_no_keys_in_the_history_of_a_device(make_device: Any) -> None:
    device = make_device("lamp")
    PreSharedKey.objects.issue(device=device, label="of the factory")
    assert "of the factory" not in role("Operator").get(page_of(device)).content.decode()
    assert "of the factory" in role("Security").get(page_of(device)).content.decode()


@pytest.mark.once(on="sqlite")
def test_an_operator_reads_no_history_of_rules(make_device: Any) -> None:
    make_device("a-device")
    CommandSet.objects.create(name="read configuration")
    shown = role("Operator").get(ALL).content.decode()
    assert "a-device" in shown
    assert "read configuration" not in shown


@pytest.mark.once(on="sqlite")
def test_staff_say_why_they_change_something(admin_client: Client, make_group: Any) -> None:
    group = make_group("boilers")
    address = f"/admin/devices/devicegroup/{group.pk}/change/?edit=1"
    assert 'name="_change_reason"' in admin_client.get(address).content.decode()
    sent = {"name": "pumps", "_change_reason": " the site was rebuilt "}
    admin_client.post(address, urlencode(sent), "application/x-www-form-urlencoded")
    assert last_entry(group).change.history_change_reason == "the site was rebuilt"
    assert "the site was rebuilt" in admin_client.get(ALL).content.decode()


@pytest.mark.once(on="sqlite")
@pytest.mark.parametrize(
    "page",
    [
        "/admin/devices/devicegroup/{pk}/change/",
        "/admin/devices/devicegroup/{pk}/delete/",
        "/admin/devices/devicegroup/{pk}/history/{change}/undo/",
        "/admin/history/together/{batch}/",
        "/admin/devices/devicegroup/",
    ],
)
def test_a_reason_that_is_too_long_comes_back_with_all_that_was_sent(
    page: str, admin_client: Client, make_group: Any
) -> None:
    group = make_group("boilers")
    with history.origin("admin", reason="x" * 255):
        group.description = "in the cellar"
        group.save()
    change = last_entry(group).change
    address = page.format(pk=group.pk, change=change.history_id, batch=change.batch)
    sent = {
        "name": "<pumps>",
        "post": "yes",
        "action": "delete_selected",
        "_change_reason": "x" * 999,
    }
    sent |= {"_selected_action": str(group.pk), "password1": "a-password", "note": "PRIVATE KEY-1"}
    answer = admin_client.post(address, sent)
    shown = answer.content.decode()
    assert answer.status_code == 200
    assert "has 999 characters; a reason has at most 255" in shown
    for text in ("x" * 999, 'name="post" value="yes"', "&lt;pumps&gt;"):
        assert text in shown
    for secret in ("a-password", "PRIVATE KEY-1"):
        assert secret not in shown
    group.refresh_from_db()
    assert (group.name, group.description) == ("boilers", "in the cellar")


@pytest.mark.once(on="sqlite")
def test_what_the_registry_writes_before_a_reason_counts(
    admin_client: Client, make_group: Any
) -> None:
    group = make_group("boilers")
    group.description = "in the cellar"
    group.save()
    change = last_entry(group).change
    address = f"/admin/devices/devicegroup/{group.pk}/history/{change.history_id}/undo/"
    shown = admin_client.post(address, {"_change_reason": "y" * 255}).content.decode()
    assert "“undid the change of 2" in shown
    assert "y" * 255 in shown
    group.refresh_from_db()
    assert group.description == "in the cellar"


@pytest.mark.once(on="sqlite")
def test_who_only_looks_is_not_asked_why(make_group: Any) -> None:
    address = f"/admin/devices/devicegroup/{make_group().pk}/change/"
    assert "_change_reason" not in role("Viewer").get(address).content.decode()


# --- Back to an earlier state ---------------------------------------------------------------


def first_state(row: Any) -> str:
    change = history.history_of(type(row)).objects.filter(id=row.pk).earliest("history_id")
    opts = row._meta
    return (
        f"/admin/{opts.app_label}/{opts.model_name}/{row.pk}/history/{change.history_id}/restore/"
    )


def test_a_device_goes_back_after_a_preview(admin_client: Client, make_device: Any) -> None:
    device = make_device(name="as it was")
    device.name, device.enabled = "as it is", False
    device.save()
    address = first_state(device)
    preview = admin_client.get(address).content.decode()
    assert "as it was" in preview
    assert "as it is" in preview
    device.refresh_from_db()
    assert device.name == "as it is"
    assert admin_client.post(address).headers["Location"] == page_of(device)
    device.refresh_from_db()
    assert (device.name, device.enabled) == ("as it was", True)
    change = last_entry(device).change
    assert change.history_change_reason.startswith("restored the state of 2")
    assert (change.origin, change.history_user_id) == ("admin", "admin")
    assert "nothing to restore" in admin_client.get(address).content.decode()


@pytest.mark.once(on="sqlite")
def test_a_rule_goes_back_only_where_it_would_make_sense(
    admin_client: Client, make_group: Any
) -> None:
    group = make_group("boilers")
    rule = make_rule(group, "itself")
    rule.source_kind, rule.source_group = "everyone", None
    rule.save()
    address = first_state(rule)
    assert "boilers" in admin_client.get(address).content.decode()
    group.delete()
    refused = admin_client.post(address)
    assert "would not make sense today" in refused.content.decode()
    rule.refresh_from_db()
    assert rule.source_kind == "everyone"


@pytest.mark.once(on="sqlite")
def test_no_credential_goes_back(admin_client: Client, make_device: Any) -> None:
    key, _secret = PreSharedKey.objects.issue(device=make_device())
    key.revoke(by="kim")
    address = first_state(key)
    assert admin_client.get(address).status_code == 403
    assert admin_client.post(address).status_code == 403
    key.refresh_from_db()
    assert key.revoked_at is not None


@pytest.mark.once(on="sqlite")
def test_who_may_not_change_does_not_restore(make_device: Any) -> None:
    device = make_device(name="as it was")
    device.name = "as it is"
    device.save()
    client = role("Viewer")
    assert "Restore this state" not in client.get(page_of(device)).content.decode()
    assert client.post(first_state(device)).status_code == 403


# --- One mechanism, and its end -------------------------------------------------------------


@pytest.mark.once(on="sqlite")
def test_the_admin_s_own_log_is_left_to_the_history(admin_client: Client) -> None:
    admin_client.post("/admin/devices/devicegroup/add/", {"name": "boilers"})
    assert DeviceGroup.objects.get().name == "boilers"
    assert not LogEntry.objects.exists()
    row = history.history_of(DeviceGroup).objects.get()
    assert (row.origin, row.history_user_id) == ("admin", "admin")


def test_old_changes_are_forgotten_and_rows_stay(make_device: Any, capsys: Any) -> None:
    old, new = make_device(), make_device()
    histories = history.history_of(Device).objects
    histories.filter(id=old.pk).update(history_date=timezone.now() - timedelta(days=400))
    call_command("prune_history", "--older-than", "365d", "--dry-run")
    assert "Would delete 1 change made" in capsys.readouterr().out
    assert histories.count() == 2
    call_command("prune_history", "--older-than", "365d")
    assert "Deleted 1 change made" in capsys.readouterr().out
    assert list(histories.values_list("id", flat=True)) == [new.pk]
    assert Device.objects.count() == 2


@pytest.mark.once(on="sqlite")
def test_what_is_done_without_a_form_asks_why_and_keeps_it(
    admin_client: Client, make_device: Any
) -> None:
    form = "application/x-www-form-urlencoded"
    device, group = make_device(), DeviceGroup.objects.create(name="lab")
    empty = DeviceGroup.objects.create(name="empty")
    key, _secret = PreSharedKey.objects.issue(device=device)
    groups, one = "/admin/devices/devicegroup/", f"/admin/devices/presharedkey/{key.pk}/delete/"
    chosen = {"action": "delete_selected", "_selected_action": empty.pk}
    asking: list[tuple[str, str, dict[str, Any], dict[str, Any]]] = [
        ("get", one, {}, {"post": "yes"}),
        ("post", groups, chosen, chosen | {"post": "yes"}),
        ("get", f"{groups}{group.pk}/change/", {}, {"devices": device.pk}),
    ]
    for number, (method, address, asked, sent) in enumerate(asking):
        page = getattr(admin_client, method)(address, asked).content.decode()
        assert 'name="_change_reason"' in page, address
        target = address.replace("/change/", "/members/")
        said = urlencode(sent | {"_change_reason": f"why {number}"})
        assert admin_client.post(target, said, content_type=form).status_code == 302
        newest = timeline.recent(1, User.objects.get(username="admin"))[0]
        assert newest.change.history_change_reason == f"why {number}", address
    assert not PreSharedKey.objects.exists()
    assert [*DeviceGroup.objects.all()] == [group] == [*device.groups.all()]


@pytest.mark.parametrize(("who", "expected"), [("Security", 1), ("Auditor", 0)])
def test_the_history_of_everything_leads_to_where_a_change_is_undone(
    who: str, expected: int, make_group: Any
) -> None:
    rule = make_rule(command="/v1/*")
    rule.note = "why"
    rule.save()
    group = make_group("site")
    group.description = "told"
    group.save()
    page = role(who).get(ALL).content.decode()
    way = f'<a href="/admin/acl/commandpermission/{rule.pk}/history/">See and undo…</a>'
    assert page.count(way) == page.count("See and undo…") == expected


@pytest.mark.once(on="sqlite")
@pytest.mark.parametrize(("who", "may"), [("Operator", True), ("Auditor", False)])
def test_what_was_changed_together_offers_to_be_undone_to_whoever_may(
    who: str, may: bool, make_device: Any
) -> None:
    devices = [make_device(), make_device()]
    with history.origin(Origin.ADMIN, user="kim"):
        Device.objects.set_enabled(enabled=False)
        batch = history.current_batch()
    client = role(who)
    address = reverse("admin:batch", args=[batch])
    shown = client.get(ALL).content.decode()
    assert f'<a href="{address}">See {"and undo…" if may else "all of it"}</a>' in shown
    for page in (ALL, page_of(devices[0])):
        assert ("undo" in client.get(page).content.decode().lower()) is may
    shown = client.get(address).content.decode()
    assert devices[1].identifier in shown
    assert shown.count("kim") == 1  # and not once a row
    assert ('<h2 id="undo">' in shown) is may
