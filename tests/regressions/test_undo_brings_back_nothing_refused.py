"""Undoing sets nothing back that would be refused today, says why, and is no error page.

A group that went back into one that was deleted meanwhile was an error page; a batch brought
attributes back that are not of their type any more; an assertion came back about a device that is
gone; and a state was restored over a change that nobody had been shown.

The kind: CWE-754.
"""

from collections.abc import Callable
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.test import Client
from django.urls import reverse
from rest_framework.test import APIClient

from acl.models import Assertion, CommandPermission, CommandSet
from devices import history
from devices.admin.base.pages import url_name
from devices.events.models import Webhook
from devices.history import history_of, undoing
from devices.models import AttributeDefinition, Device, DeviceGroup
from rpc.rtio.models import DeviceServiceRoute
from tests.support.forms import inputs
from tests.support.rules import make_rule

pytestmark = [pytest.mark.django_db, pytest.mark.once(on="sqlite")]

Case = tuple[Any, str]  # the row whose last change is undone, and what is said of it


def changed(row: Any, **fields: Any) -> Any:
    """Change a row; return it."""
    with history.origin("admin", user="kim"):
        for name, value in fields.items():
            setattr(row, name, value)
        row.save()
    return row


def group_above_is_gone() -> Case:
    above = DeviceGroup.objects.create(name="site")
    row = changed(DeviceGroup.objects.create(name="hall", parent=above), parent=None)
    above.delete()
    return row, "“site” does not exist any more."


def group_would_lie_in_itself() -> Case:
    above = DeviceGroup.objects.create(name="site")
    row = changed(DeviceGroup.objects.create(name="hall", parent=above), parent=None)
    changed(above, parent=row)
    return row, "A group cannot lie within itself or a group below it."


def name_is_taken() -> Case:
    row = changed(DeviceGroup.objects.create(name="site"), name="yard")
    DeviceGroup.objects.create(name="site")
    return row, "A group of this name exists."


def sender_is_gone() -> Case:
    lamp, bell = (Device.objects.create(identifier=name) for name in ("lamp", "bell"))
    row = changed(make_rule(lamp, command="/v1/*"))
    changed(row, source_device=bell)
    lamp.delete()
    return row, "“lamp” does not exist any more."


def set_is_gone() -> Case:
    reading = CommandSet.objects.create(name="reading")
    row = changed(make_rule(command=reading), command_set=None, pattern="/v1/*")
    reading.delete()
    return row, "“reading” does not exist any more."


def half_of_it_was_changed_again() -> Case:
    lamp = Device.objects.create(identifier="lamp")
    row = changed(make_rule(lamp, command="/v1/*"))
    changed(row, source_kind="everyone", source_device=None)
    CommandPermission.objects.update(
        source_kind="group", source_group=DeviceGroup.objects.create(name="site")
    )
    return row, "The rule is not about one device"


def attribute_has_another_type() -> Case:
    row = Device.objects.create(identifier="lamp", attributes={"floor": "first"})
    changed(row, attributes={"floor": 1})
    AttributeDefinition.objects.create(name="floor", type="number")
    return row, "The attribute “floor” says “first”, and must be a number."


def device_of_an_assertion_is_gone() -> Case:
    lamp, _bell = (Device.objects.create(identifier=name) for name in ("lamp", "bell"))
    row = Assertion.objects.create(text="lamp may not /v1/Sys.Reboot bell")
    changed(row, text="bell may not /v1/Sys.Reboot bell")
    lamp.delete()
    return row, "lamp"


def webhook_of_the_name_exists() -> Case:
    def hook() -> Webhook:
        made = Webhook(name="hook", url="https://example.com/")
        made.new_secret()
        made.save()
        return made

    row = changed(hook(), name="old", state="off")
    hook()
    return row, "A webhook of this name exists."


def route_of_the_uri_exists() -> Case:
    route = {"url": "http://127.0.0.1/", "uri": "/one"}
    row = changed(DeviceServiceRoute.objects.create(**route), uri="/two")
    DeviceServiceRoute.objects.create(**route)
    return row, "A route for this URI exists."


CASES: list[Callable[[], Case]] = [
    group_above_is_gone,
    group_would_lie_in_itself,
    name_is_taken,
    sender_is_gone,
    set_is_gone,
    half_of_it_was_changed_again,
    attribute_has_another_type,
    device_of_an_assertion_is_gone,
    webhook_of_the_name_exists,
    route_of_the_uri_exists,
]


@pytest.mark.parametrize("make", CASES, ids=lambda make: make.__name__)
def test_what_would_be_refused_is_not_set_back(
    make: Callable[[], Case], admin_client: Client, admin_user: Any
) -> None:
    row, why = make()
    change = history_of(type(row)).objects.filter(id=row.pk, history_type="~").latest("history_id")
    stored = type(row).objects.filter(pk=row.pk).values()
    before = list(stored)
    # From its own page,
    address = reverse(url_name(row._meta, "undo"), args=[row.pk, change.history_id])
    for page in (admin_client.get(address), admin_client.post(address)):
        assert page.status_code == 200
        assert why in page.content.decode()
        assert "Traceback" not in page.content.decode()
    # over the API,
    api = APIClient()
    api.force_authenticate(admin_user)
    named = {"model": row._meta.label_lower, "id": change.history_id}
    refused = api.post("/api/v1/changes/undo", named, format="json")
    assert refused.status_code == 400
    assert why in refused.content.decode()
    # and with what it was changed with.
    together = reverse("admin:batch", args=[change.batch])
    assert admin_client.post(together, follow=True).status_code == 200
    assert list(stored) == before


def test_a_batch_sets_back_what_it_may_and_says_what_it_leaves(admin_client: Client) -> None:
    with history.origin("admin", user="kim"):
        devices = [
            Device.objects.create(identifier=name, attributes={"floor": floor})
            for name, floor in (("lamp", "first"), ("bell", 2))
        ]
    with history.origin("admin", user="kim"):
        for device in devices:
            device.attributes, device.name = {"floor": 9}, "moved"
            device.save()
        batch = history.current_batch()
    AttributeDefinition.objects.create(name="floor", type="number")
    done = admin_client.post(reverse("admin:batch", args=[batch]), follow=True).content.decode()
    assert "1 row is as it was before: 1 device." in done
    assert "1 row was left as it is." in done
    assert {row.identifier: (row.name, row.attributes) for row in Device.objects.all()} == {
        "lamp": ("moved", {"floor": 9}),
        "bell": ("", {"floor": 2}),
    }


def test_a_state_is_not_restored_over_what_nobody_was_shown(admin_client: Client) -> None:
    row = Device.objects.create(identifier="lamp", name="one")
    first = Device.history.get(id=row.pk)
    changed(row, name="two")
    address = reverse(url_name(row._meta, "restore"), args=[row.pk, first.history_id])
    sent = inputs(admin_client.get(address))
    changed(row, enabled=False)  # by somebody else
    again = admin_client.post(address, sent | {"_change_reason": "a slip"})
    assert "no longer what was shown; nothing was changed. Look again." in again.content.decode()
    row.refresh_from_db()
    assert (row.name, row.enabled) == ("two", False)
    in_chinese = {"accept-language": "zh-hans"}
    assert admin_client.post(address, inputs(again), headers=in_chinese).status_code == 302
    row.refresh_from_db()
    assert (row.name, row.enabled) == ("one", True)
    reason = Device.history.latest("history_id").history_change_reason
    assert reason == f"restored the state of {first.history_date:%Y-%m-%d %H:%M:%S} UTC: a slip"


def test_where_nothing_is_left_to_undo_nobody_is_asked_to_look_again(admin_client: Client) -> None:
    row = changed(Device.objects.create(identifier="lamp", name="one"), name="two")
    change = Device.history.filter(history_type="~").get()
    address = reverse(url_name(row._meta, "undo"), args=[row.pk, change.history_id])
    sent = inputs(admin_client.get(address))
    changed(row, name="three")  # by somebody else
    answer = admin_client.post(address, sent).content.decode()
    assert "there is nothing to undo" in answer
    assert "Look again" not in answer


@pytest.mark.once(on="postgres")
def test_what_others_save_at_the_same_moment_is_said(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = changed(DeviceGroup.objects.create(name="site"), name="yard")
    change = DeviceGroup.history.filter(history_type="~").get()
    check = undoing.Reversal.check

    def check_and_take_the_name(way: undoing.Reversal) -> ValidationError | None:
        found = check(way)
        DeviceGroup.objects.create(name="site")
        return found

    monkeypatch.setattr(undoing.Reversal, "check", check_and_take_the_name)
    address = reverse(url_name(row._meta, "undo"), args=[row.pk, change.history_id])
    done = admin_client.post(address, follow=True).content.decode()
    assert "Somebody saved the same at this moment." in done
    row.refresh_from_db()
    assert row.name == "yard"
