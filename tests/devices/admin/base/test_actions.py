"""What staff do to many devices at once: shown first, then done, recorded and counted."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from devices import history
from devices.admin.base.actions import MAX_SHOWN
from devices.authentication import authenticate
from devices.events.models import Delivery, Event, Webhook
from devices.models import Certificate, Device, Membership, PreSharedKey
from devices.models.group import DeviceGroup
from tests.support import pki
from tests.support.forms import inputs
from tests.support.rules import make_rule
from tests.support.staff import browser_of, staff

pytestmark = pytest.mark.once(on="sqlite")

Factory = Callable[..., Device]
LIST = "/admin/devices/device/"
IN_CHINESE = {"accept-language": "zh-hans"}
UNDO = re.compile(r' <a href="(/admin/history/together/[0-9a-f-]{36}/)">Undo…</a>$')


def act(client: Client, action: str, devices: Any, **form: Any) -> Any:
    """Choose an action for devices, as the list does."""
    chosen = {"action": action, "_selected_action": [device.pk for device in devices]}
    return client.post(LIST, chosen | form)


def confirm(client: Client, page: Any, **form: Any) -> Any:
    """Send the confirmation as it was shown."""
    context = page.context
    sent: dict[str, Any] = {}
    for name, value in [*context["hidden"], *context["own_hidden"]]:
        sent.setdefault(name, []).append(value)
    return client.post(LIST + context["back"].removeprefix(LIST), sent | form, follow=True)


def said(response: Any) -> list[str]:
    """Return the messages, without the way to take back what was done."""
    return [UNDO.sub("", str(message)) for message in response.context["messages"]]


def recorded(model: Any, kind: str) -> int:
    found: int = history.history_of(model).objects.filter(history_type=kind).count()
    return found


def test_only_what_changes_is_shown_and_changed(admin_client: Client, make_device: Factory) -> None:
    on, also_on, off = make_device("on"), make_device("also"), make_device("off", enabled=False)
    page = act(admin_client, "disable", [on, also_on, off])
    assert list(page.context["rows"].values_list("identifier", flat=True)) == ["also", "on"]
    assert (page.context["count"], page.context["selected"]) == (2, 3)
    assert Device.objects.enabled().count() == 2
    before = recorded(Device, "~")
    done = confirm(admin_client, page)
    assert said(done) == ["2 devices disabled."]
    offered = UNDO.search(str(*done.context["messages"]))
    assert offered
    assert "2 devices" in admin_client.get(offered[1]).content.decode()
    assert not Device.objects.enabled().exists()
    assert recorded(Device, "~") == before + 2
    page = act(admin_client, "enable", [on, also_on])
    assert said(confirm(admin_client, page)) == ["2 devices enabled."]
    updated = on.updated
    on.refresh_from_db()
    assert on.enabled
    assert on.updated > updated


def test_what_moved_between_the_look_and_the_confirmation_is_shown_again(
    admin_client: Client, make_device: Factory
) -> None:
    first, second = make_device(), make_device()
    page = act(admin_client, "disable", [first, second])
    Device.objects.filter(pk=second.pk).update(enabled=False)
    again = confirm(admin_client, page)
    assert "no longer what was shown" in again.content.decode()
    assert Device.objects.enabled().count() == 1
    assert said(confirm(admin_client, again)) == ["1 device disabled."]


def test_what_would_go_with_it_now_is_shown_before_it_is_deleted(
    admin_client: Client, make_device: Factory, make_group: Any
) -> None:
    device = make_device()
    address = f"{LIST}{device.pk}/delete/"
    alone, listed = (
        inputs(admin_client.get(address)),
        act(admin_client, "delete_selected", [device]),
    )
    PreSharedKey.objects.issue(device=device)
    again = admin_client.post(address, alone, follow=True)
    assert "no longer what was shown" in str(*again.context["messages"])
    assert "no longer what was shown" in confirm(admin_client, listed).content.decode()
    alone = inputs(again)
    listed = act(admin_client, "delete_selected", [device])
    PreSharedKey.objects.all().delete()
    make_rule(device, "everyone", "/v1/X")  # as many, of another kind
    again = admin_client.post(address, alone, follow=True)
    assert "no longer what was shown" in str(*again.context["messages"])
    assert "no longer what was shown" in confirm(admin_client, listed).content.decode()
    admin_client.post(address, inputs(again), headers=IN_CHINESE)  # the language is no difference
    assert not Device.objects.exists()

    webhook = Webhook.objects.create(name="calls", url="https://hooks.example.com/")
    address = f"/admin/devices/webhook/{webhook.pk}/delete/"
    sent = inputs(admin_client.get(address))
    now, event = timezone.now(), Event.objects.all()[0]  # comes and goes by itself:
    Delivery.objects.create(webhook=webhook, event=event, due_at=now, give_up_at=now)
    admin_client.post(address, sent)
    assert not Webhook.objects.exists()

    group = make_group("yard")
    chosen = {"action": "delete_selected", "_selected_action": [group.pk]}
    groups = "/admin/devices/devicegroup/"
    sent = chosen | inputs(admin_client.post(groups, chosen))
    make_rule(group, "everyone", "/v1/X")
    again = admin_client.post(groups, sent, follow=True)
    assert "no longer what was shown" in str(*again.context["messages"])
    assert type(group).objects.exists()
    make_device().groups.add(group)
    page = admin_client.post(groups, chosen)
    assert "Memberships: 1" in page.content.decode()
    admin_client.post(groups, chosen | inputs(page), headers=IN_CHINESE)
    assert not type(group).objects.exists()


def test_another_set_of_the_same_size_is_shown_again(
    admin_client: Client, make_device: Factory
) -> None:
    make_device("fleet-1")
    gone = make_device("fleet-2")
    chosen = {"action": "delete_selected", "_selected_action": [gone.pk], "select_across": "1"}
    page = admin_client.post(LIST + "?q=fleet", chosen)
    gone.delete()
    make_device("fleet-3")
    again = confirm(admin_client, page)
    assert "no longer what was shown" in again.content.decode()
    assert Device.objects.count() == 2
    assert said(confirm(admin_client, again)) == ["2 devices deleted."]


def test_everything_that_a_filter_leaves_is_changed_across_pages(
    admin_client: Client, make_device: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("devices.history.recording.BATCH_SIZE", 7)
    for n in range(MAX_SHOWN + 5):
        make_device(f"fleet-{n:02}")
    other = make_device("other")
    page = admin_client.post(
        LIST + "?q=fleet", {"action": "disable", "_selected_action": ["1"], "select_across": "1"}
    )
    assert page.context["count"] == MAX_SHOWN + 5
    assert page.context["more"] == 5
    assert len(page.content) < 30_000
    assert said(confirm(admin_client, page)) == ["25 devices disabled."]
    assert Device.objects.enabled().get() == other


def test_devices_come_into_a_group_and_leave_it(
    admin_client: Client, make_device: Factory, make_group: Any
) -> None:
    group = make_group("yard")
    inside, outside = make_device("inside", groups=[group]), make_device("outside")
    page = act(admin_client, "join", [inside, outside])
    assert "count" not in page.context
    page = confirm(admin_client, page, group=group.pk)
    assert page.context["count"] == 1
    joined = recorded(Membership, "+")
    done = confirm(admin_client, page, group=group.pk)
    assert said(done) == ["1 device added to “yard”."]
    assert set(group.devices.all()) == {inside, outside}
    assert recorded(Membership, "+") == joined + 1
    page = confirm(admin_client, act(admin_client, "leave", [inside, outside]), group=group.pk)
    assert said(confirm(admin_client, page, group=group.pk)) == ["2 devices removed from “yard”."]
    assert not group.devices.exists()
    assert recorded(Membership, "-") == 2


def test_devices_move_to_another_group_in_one_step(
    admin_client: Client, make_device: Factory, make_group: Any
) -> None:
    yard, roof = make_group("yard"), make_group("roof")
    both, one = make_device("both", groups=[yard, roof]), make_device("one", groups=[yard])
    other = make_device("other", groups=[roof])
    page = act(admin_client, "move", [both, one, other])
    again = confirm(admin_client, page, group=yard.pk, to=yard.pk)
    assert "Choose another group" in again.content.decode()
    page = confirm(admin_client, page, group=yard.pk, to=roof.pk)
    assert page.context["count"] == 2
    assert "not in the group that they would leave stay as they are" in page.content.decode()
    done = confirm(admin_client, page, group=yard.pk, to=roof.pk)
    assert said(done) == ["2 devices moved from “yard” to “roof”."]
    assert not yard.devices.exists()
    assert set(roof.devices.all()) == {both, one, other}
    batches = history.history_of(Membership).objects.values_list("batch", flat=True)
    assert len({*batches} - {None}) == 1, "it is undone as a whole"


@pytest.mark.parametrize("may_see_groups", [True, False])
def test_whoever_takes_devices_out_of_a_group_begins_with_the_group_of_the_list(
    make_device: Factory, make_group: Any, may_see_groups: bool
) -> None:
    group = make_group("yard")
    held = ["view_device", "change_device", *(["view_devicegroup"] if may_see_groups else [])]
    client = browser_of(staff(*held))
    chosen = {"action": "leave", "_selected_action": [make_device(groups=[group]).pk]}
    page = client.post(f"{LIST}?group={group.pk}", chosen)
    assert page.context["title"] == "Remove devices from a group"
    assert (">yard</option>" in page.content.decode()) is may_see_groups


def test_a_group_must_be_chosen(admin_client: Client, make_device: Factory) -> None:
    page = confirm(admin_client, act(admin_client, "join", [make_device()]))
    assert "This field is required." in page.content.decode()
    assert not DeviceGroup.objects.exists()


def test_all_credentials_are_revoked_with_a_reason(
    admin_client: Client, make_device: Factory
) -> None:
    device, bare = make_device("holds"), make_device("bare")
    key, secret = PreSharedKey.objects.issue(device=device)
    gone, _ = PreSharedKey.objects.issue(device=device)
    gone.revoke(by="before", reason="first")
    certificate = Certificate.objects.register(device=device, presented=pki.issue("x").pem)
    page = act(admin_client, "revoke_credentials", [device, bare])
    assert page.context["count"] == 1
    done = confirm(admin_client, page, reason="stolen")
    assert said(done) == ["Revoked: 1 key, 1 certificate."]
    for row in (key, certificate):
        row.refresh_from_db()
        assert (row.revoked_by, row.revoked_reason) == ("admin", "stolen")
    gone.refresh_from_db()
    assert (gone.revoked_by, gone.revoked_reason) == ("before", "first")
    assert not authenticate("holds", secret=secret).verified


def test_all_credentials_of_one_device_are_revoked_on_its_own_page(
    admin_client: Client, make_device: Factory
) -> None:
    device = make_device("stolen")
    _key, secret = PreSharedKey.objects.issue(device=device)
    address = f"{LIST}{device.pk}/revoke_credentials/"
    client = browser_of(staff("view_device", "change_device", "change_presharedkey"))
    assert address not in client.get(f"{LIST}{device.pk}/change/").content.decode()
    assert client.post(address, {"reason": "no"}).status_code == 403
    assert authenticate("stolen", secret=secret).verified

    assert address in admin_client.get(f"{LIST}{device.pk}/change/").content.decode()
    assert "disable a stolen device, too" in admin_client.get(address).content.decode()
    assert said(admin_client.post(address, {"reason": "stolen"}, follow=True)) == [
        "Revoked: 1 key, 0 certificates."
    ]
    assert not authenticate("stolen", secret=secret).verified


def test_deleting_offers_to_disable_and_counts_what_goes_along(
    admin_client: Client, make_device: Factory
) -> None:
    device = make_device("doomed")
    for _ in range(3):
        PreSharedKey.objects.issue(device=device)
    kept = Certificate.objects.register(device=device, presented=pki.issue("kept").pem)
    kept.revoke(by="ops")
    Certificate.objects.register(device=device, presented=pki.issue("goes").pem)
    page = act(admin_client, "delete_selected", [device])
    text = page.content.decode()
    assert "Disable them instead" in text
    assert {"keys: 3", "certificates: 1"} <= set(page.context["goes_with"])
    assert said(confirm(admin_client, page)) == ["1 device deleted."]
    assert not Device.objects.exists()
    assert Certificate.objects.get() == kept
    assert recorded(Device, "-") == 1


def test_a_device_page_deletes_with_counts_and_offers_to_disable(
    admin_client: Client, make_device: Factory
) -> None:
    device = make_device("doomed")
    for _ in range(30):
        PreSharedKey.objects.issue(device=device)[0].revoke(by="ops")
    address = f"{LIST}{device.pk}/delete/"
    text = admin_client.get(address).content.decode()
    assert "Keys: 30" in text
    assert "Disable it instead" in text
    admin_client.post(address, {"post": "yes"})
    assert not Device.objects.exists()


def test_rules_go_with_their_device(admin_client: Client, make_device: Factory) -> None:

    device = make_device()
    make_rule(device, device)
    page = act(admin_client, "delete_selected", [device])
    assert any(line.endswith("s: 1") for line in page.context["goes_with"])
    admin_client.cookies["django_language"] = "zh-hans"
    confirm(admin_client, page)
    assert not Device.objects.exists()


def test_who_may_not_delete_what_goes_along_deletes_no_device(make_device: Factory) -> None:
    device, bare = make_device("holds"), make_device("bare")
    PreSharedKey.objects.issue(device=device)
    client = browser_of(staff("delete_device", "view_device"))
    page = act(client, "delete_selected", [device, bare])
    assert "may not delete what would go with them: keys" in page.content.decode()
    confirm(client, page)
    client.post(f"{LIST}{device.pk}/delete/", {"post": "yes"})
    assert Device.objects.count() == 2
    assert said(confirm(client, act(client, "delete_selected", [bare]))) == ["1 device deleted."]


PERMISSIONS = {
    "enable": ["change_device"],
    "disable": ["change_device"],
    "join": ["change_device"],
    "leave": ["change_device"],
    "move": ["change_device"],
    "revoke_credentials": ["change_presharedkey", "change_certificate"],
    "delete_selected": ["delete_device"],
}


@pytest.mark.parametrize("action", PERMISSIONS)
def test_each_action_asks_for_its_permission(make_device: Factory, action: str) -> None:
    device = make_device(enabled=action != "enable")
    every = {code for codes in PERMISSIONS.values() for code in codes}
    missing = PERMISSIONS[action][0]
    user = staff(*(every - {missing}) | {"view_device"})
    client = browser_of(user)
    assert act(client, action, [device]).status_code == 302
    assert action not in client.get(LIST).content.decode() or missing == "change_device"
    user.user_permissions.add(Permission.objects.get(codename=missing))
    client.force_login(User.objects.get(pk=user.pk))
    assert act(client, action, [device]).status_code == 200


def test_a_change_costs_statements_by_the_batch_not_by_the_row(
    admin_client: Client, make_device: Factory
) -> None:
    def cost(devices: list[Device]) -> int:
        page = act(admin_client, "disable", devices)
        with CaptureQueriesContext(connection) as found:
            confirm(admin_client, page)
        return len(found)

    assert cost([make_device()]) == cost([make_device() for _ in range(15)])


def test_one_device_is_switched_on_its_own_page(admin_client: Client, make_device: Factory) -> None:
    device = make_device()
    for name, expected in (("disable", False), ("enable", True)):
        address = f"{LIST}{device.pk}/{name}/"
        assert address in admin_client.get(f"{LIST}{device.pk}/change/").content.decode()
        assert device.identifier in admin_client.get(address).content.decode()
        admin_client.post(address)
        device.refresh_from_db()
        assert device.enabled is expected


@pytest.mark.parametrize("changed", ["disable", "revoke_credentials", "revoke", "leaves"])
def test_what_somebody_else_did_before_is_no_success(
    admin_client: Client, make_device: Factory, make_group: Callable[..., DeviceGroup], changed: str
) -> None:
    device, group = make_device(), make_group()
    device.groups.add(group)
    key, _secret = PreSharedKey.objects.issue(device=device)
    address = {
        "leaves": f"/admin/devices/devicegroup/{group.pk}/members/",
        "revoke": f"/admin/devices/presharedkey/{key.pk}/revoke/",
    }.get(changed, f"{LIST}{device.pk}/{changed}/")
    for level in ("success", "warning"):
        answer = admin_client.post(address, {"leaves": device.pk, "reason": "x"}, follow=True)
        assert [message.level_tag for message in answer.context["messages"]] == [level]


@pytest.mark.parametrize("page", ["delete", "revoke", "history"])
def test_a_credential_is_named_with_its_device(
    admin_client: Client, make_device: Factory, page: str
) -> None:
    device = make_device("lamp-in-the-yard")
    key, _secret = PreSharedKey.objects.issue(device=device, label="factory")
    pinned = Certificate.objects.register(
        device=device, presented=pki.issue("lamp").pem, label="factory"
    )
    for row in (key, pinned):
        address = f"/admin/devices/{row._meta.model_name}/{row.pk}/{page}/"
        text = admin_client.get(address).content.decode()
        assert "<h2><bdi>lamp-in-the-yard</bdi></h2>" in text


@pytest.mark.parametrize(
    ("history_of", "offers"), [("historicaldevice", True), ("historicalpresharedkey", False)]
)
def test_a_message_leads_to_undoing_whoever_may_read_that_history(
    history_of: str, offers: bool, make_device: Any
) -> None:
    client = browser_of(staff("change_device", "view_device", f"view_{history_of}"))
    page = confirm(client, act(client, "disable", [make_device()])).content.decode()
    assert not Device.objects.get().enabled
    assert ("Undo…" in page) is offers
