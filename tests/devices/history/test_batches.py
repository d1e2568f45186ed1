"""What is changed together is one entry of the history, and is undone together."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.db.models import Q
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from django.utils.http import urlencode

from acl.models import CommandPermission
from devices import history
from devices.admin.base.actions import set_digest
from devices.history import history_of, timeline, undoing
from devices.models import Device, DeviceGroup, PreSharedKey
from devices.models.group import MAX_DEPTH
from tests.support.forms import inputs
from tests.support.rules import make_rule
from tests.support.staff import browser_of, staff

LIST = "/admin/devices/device/"
URLENCODED = "application/x-www-form-urlencoded"  # as browsers send a form without files
Factory = Callable[..., Device]


def act(client: Client, action: str, devices: Any, **form: Any) -> None:
    """Do something to many devices, as it was confirmed."""
    sent = {
        "action": action,
        "_selected_action": [device.pk for device in devices],
        "confirmed": "yes",
        **form,
    }
    for _ in range(2):  # once to see what will change
        page = client.post(LIST, urlencode(sent, doseq=True), content_type=URLENCODED)
        if page.status_code == 302:
            return
        sent["shown"] = page.context["own_hidden"][2][1]
    raise AssertionError(page.content.decode())


def newest_batch() -> Any:
    return history_of(Device).objects.latest("history_id").batch


def page_of(batch: Any) -> str:
    return reverse("admin:batch", args=[batch])


def entries(client: Client) -> list[Any]:
    return [item["entry"] for item in client.get(reverse("admin:changes")).context["entries"]]


def test_a_bulk_action_is_one_entry_and_is_undone_as_one(
    admin_client: Client, make_device: Factory
) -> None:
    devices = [make_device() for _ in range(12)]
    act(admin_client, "disable", devices, _change_reason="moved house")
    assert not Device.objects.enabled().exists()
    entry = entries(admin_client)[0]
    assert entry.batch.total == 12
    assert [one[:4] for one in entry.batch.counts] == [("~", "devices", 12, False)]
    assert entry.change.history_change_reason == "moved house"
    batch = newest_batch()
    assert (
        "12 rows would be as they were before" in admin_client.get(page_of(batch)).content.decode()
    )
    admin_client.post(page_of(batch), {"_change_reason": "wrong house"})
    assert Device.objects.enabled().count() == 12
    undo = entries(admin_client)[0]
    assert undo.batch.total == 12
    assert undo.batch.number != batch
    assert undo.change.history_change_reason == "undid what was changed together: wrong house"
    again = admin_client.get(page_of(batch)).context["plan"]
    assert (again.total, again.left) == (0, [])  # all are as they were before
    admin_client.post(page_of(undo.batch.number))  # and the undo is undone
    assert not Device.objects.enabled().exists()


def test_what_somebody_changed_since_is_left(admin_client: Client, make_device: Factory) -> None:
    devices = [make_device() for _ in range(3)]
    act(admin_client, "disable", devices)
    batch = newest_batch()
    sent = inputs(admin_client.get(page_of(batch)))
    with history.origin("shell", user="kim"):
        devices[0].refresh_from_db()
        devices[0].name = "kept"
        devices[0].save()
    moved = admin_client.post(page_of(batch), sent, follow=True).content.decode()
    assert "no longer what was shown" in moved
    assert Device.objects.disabled().count() == 3
    plan = admin_client.get(page_of(batch)).context["plan"]
    assert [(one.why, one.names) for one in plan.left] == [
        ("kim changed it since.", [devices[0].identifier])
    ]
    shown = admin_client.post(page_of(batch), follow=True).content.decode()
    assert "2 rows are as they were before: 2 devices." in shown
    assert "1 row was left as it is." in shown
    assert {one.pk for one in Device.objects.disabled()} == {devices[0].pk}


def test_a_try_is_no_change(admin_client: Client, make_device: Factory) -> None:
    device, other = make_device(), make_device()
    act(admin_client, "disable", [device, other])
    batch = newest_batch()
    history.record([device], history.ChangeType.TRIED)
    assert admin_client.get(page_of(batch)).context["plan"].total == 2
    panel = admin_client.get(f"{LIST}{device.pk}/change/").content.decode()
    assert "Tried" not in panel
    assert "Tried" in admin_client.get(f"{LIST}{device.pk}/history/").content.decode()


def test_memberships_come_and_go(
    admin_client: Client, make_device: Factory, make_group: Any
) -> None:
    devices, group = [make_device() for _ in range(4)], make_group()
    act(admin_client, "join", devices, group=str(group.pk))
    joined = history_of(Device.groups.through).objects.latest("history_id").batch
    admin_client.post(page_of(joined))
    assert not group.devices.exists()
    undone = history_of(Device.groups.through).objects.latest("history_id").batch
    Device.objects.filter(pk=devices[3].pk).delete_with_history()
    admin_client.post(page_of(undone))
    assert set(group.devices.all()) == set(devices[:3])


def test_page_and_message_count_the_same_rows(
    admin_client: Client, make_device: Factory, make_group: Any
) -> None:
    group = make_group()
    with history.origin("admin", user="kim"):
        devices = [make_device() for _ in range(2)]
        renamed = make_device()
    with history.origin("admin", user="kim"):
        renamed.name = "bell"
        renamed.save()
        for device in devices:
            device.groups.add(group)
        batch = history.current_batch()
    page = admin_client.get(page_of(batch)).content.decode()
    assert "3 rows would be as they were before: 1 device, 2 memberships." in page
    done = admin_client.post(page_of(batch), follow=True).content.decode()
    assert "3 rows are as they were before: 1 device, 2 memberships." in done
    again = admin_client.post(page_of(batch), follow=True)
    texts = [str(one) for one in again.context["messages"]]
    assert texts[0] == "Nothing of this can be undone, or it is undone already."
    # A membership that goes with its device is no row of its own, before and after.
    with history.origin("admin", user="kim"):
        made = make_device()
        made.groups.add(group)
        batch = history.current_batch()
    page = admin_client.get(page_of(batch)).content.decode()
    assert "1 row would be as it was before: 1 device." in page
    done = admin_client.post(page_of(batch), follow=True).content.decode()
    assert "1 row is as it was before: 1 device." in done


def test_a_revocation_stays(admin_client: Client, make_device: Factory) -> None:
    devices = [make_device() for _ in range(2)]
    for device in devices:
        PreSharedKey.objects.issue(device=device, label="factory")
    act(admin_client, "revoke_credentials", devices, reason="stolen")
    change = history_of(PreSharedKey).objects.latest("history_id")
    assert change.history_change_reason == "stolen"
    page = admin_client.get(page_of(change.batch))
    assert page.context["plan"].total == 0
    assert "factory" in page.content.decode()
    admin_client.post(page_of(change.batch))
    assert not PreSharedKey.objects.unrevoked().exists()


def imported(rows: int) -> Any:
    """Create devices in a new group with keys, as an import does; return the batch."""
    with history.origin("import", user="kim", reason="devices.csv"):
        outer = DeviceGroup.objects.create(name="outer")
        inner = DeviceGroup.objects.create(name="inner", parent=outer)
        for number in range(rows):
            device = Device.objects.create(identifier=f"imported-{number:03}")
            device.groups.add(inner)
            PreSharedKey.objects.issue(device=device)
        return history.current_batch()


def test_an_import_is_undone_but_for_what_is_in_use(admin_client: Client) -> None:
    batch = imported(5)
    used, ruled, grouped, revoked = Device.objects.order_by("identifier")[:4]
    revoked.keys.get().revoke(by="kim", reason="leaked")  # who imports it again must not let it in
    Device.objects.filter(pk=used.pk).update(last_seen=timezone.now())
    make_rule(ruled, "itself")
    grouped.groups.add(DeviceGroup.objects.create(name="later"))
    left = admin_client.get(page_of(batch)).context["plan"].left
    assert {name: one.why for one in left for name in one.names if "import" in name} == {
        revoked.identifier: "What belongs to it changed since: keys.",
        used.identifier: "It has connected since: disable it instead.",
        ruled.identifier: "Something refers to it since: rules.",
        grouped.identifier: "Its groups or members changed since.",
    }
    admin_client.post(page_of(batch))
    assert set(Device.objects.all()) == {used, ruled, grouped, revoked}


def test_keys_go_with_a_device_of_the_batch_and_stay_with_others(
    admin_user: User, make_device: Factory, make_group: Any
) -> None:
    before, room = make_device("before", last_seen=timezone.now()), make_group("room")
    with history.origin("import", user="kim"):
        before.name = "renamed"
        before.save()
        before.groups.add(room)
        for device in (before, Device.objects.create(identifier="new")):
            PreSharedKey.objects.issue(device=device, label=f"key of {device}")
    plan = undoing.plan(newest_batch(), admin_user)
    assert plan is not None
    why = "Keys, certificates and what belongs to them stay as they are."
    assert plan.left == [(why, ["key of before"])]
    assert (plan.total, plan.what) == (3, "2 devices, 1 membership")


def test_a_group_of_the_same_key_keeps_no_device(admin_user: User, make_device: Factory) -> None:
    with history.origin("import", user="kim"):
        device = Device.objects.create(identifier="new")
    batch = newest_batch()
    make_device().groups.add(DeviceGroup.objects.create(pk=device.pk, name="other"))
    plan = undoing.plan(batch, admin_user)
    assert plan is not None
    assert (plan.what, plan.left) == ("1 device", [])


def test_what_lies_around_a_changed_row_stays_with_it(admin_client: Client) -> None:
    with history.origin("admin", user="kim"):
        outer = DeviceGroup.objects.create(name="outer")
        middle = DeviceGroup.objects.create(name="middle", parent=outer)
        inner = DeviceGroup.objects.create(name="inner", parent=middle)
        DeviceGroup.objects.create(name="beside", parent=outer)
        batch = history.current_batch()
    inner.description = "in use"
    inner.save()
    done = admin_client.post(page_of(batch), follow=True).content.decode()
    assert "1 row is as it was before: 1 device group." in done
    assert set(DeviceGroup.objects.all()) == {outer, middle, inner}


def moved(*places: tuple[DeviceGroup, DeviceGroup | None]) -> Any:
    """Give groups new places, as an import does; return the batch."""
    with history.origin("import", user="kim", reason="groups.csv"):
        for group, parent in places:
            group.parent = parent
        DeviceGroup.save_tree([group for group, _parent in places])
        return history.current_batch()


def places() -> dict[str, str | None]:
    return dict(DeviceGroup.objects.values_list("name", "parent__name"))


def test_groups_that_changed_places_go_back(admin_client: Client, make_group: Any) -> None:
    a = make_group("a")
    b = make_group("b", parent=a)
    c, other = make_group("c", parent=b), make_group("other")
    before = places()
    batch = moved((a, c), (b, other), (c, None), (other, a))
    assert places() == {"a": "c", "b": "other", "c": None, "other": "a"}
    done = admin_client.post(page_of(batch), follow=True).content.decode()
    assert "4 rows are as they were before: 4 device groups." in done
    assert "left as" not in done
    assert places() == before


def test_a_group_that_cannot_go_back_stays_alone(admin_client: Client, make_group: Any) -> None:
    top = make_group("top")
    a, b = make_group("a", parent=top), make_group("b", parent=top)
    c, d = make_group("c", parent=a), make_group("d")
    batch = moved((a, None), (b, c), (d, top))
    top.parent = a
    top.save()
    shown = admin_client.post(page_of(batch), follow=True).content.decode()
    assert "2 rows are as they were before: 2 device groups." in shown
    assert "1 row was left as it is." in shown
    assert places() == {"top": "a", "a": None, "b": "top", "c": "a", "d": None}


def test_a_group_stays_whose_former_place_is_gone(admin_user: User, make_group: Any) -> None:
    site, other = make_group("site"), make_group("other")
    a, b = make_group("a", parent=site), make_group("b")
    batch = moved((a, None), (b, other))
    site.delete()
    with transaction.atomic():
        plan = undoing.plan(batch, admin_user, lock=True)
        assert plan is not None
        undoing.apply(plan)
    assert plan.left == [("“site” does not exist any more.", ["a"])]
    assert places() == {"other": None, "a": None, "b": None}


def test_an_import_nobody_used_is_gone(admin_client: Client) -> None:
    batch = imported(3)
    admin_client.post(page_of(batch))
    assert not Device.objects.exists()
    assert not DeviceGroup.objects.exists()
    assert not PreSharedKey.objects.exists()


def test_rules_are_switched_on_again(admin_client: Client, make_device: Factory) -> None:
    device = make_device()
    rules = [make_rule(device, "itself", f"/v{n}/*") for n in range(3)]
    sent = {"action": "disable", "_selected_action": [rule.pk for rule in rules]}
    sent |= {"confirmed": "yes", "shown": set_digest(CommandPermission.objects.all())}
    admin_client.post("/admin/acl/commandpermission/", sent)
    batch = history_of(CommandPermission).objects.latest("history_id").batch
    admin_client.post(page_of(batch))
    assert CommandPermission.objects.filter(enabled=True).count() == 3


@pytest.mark.parametrize(
    ("permissions", "status"),
    [((), 403), (("view_historicaldevice",), 200)],
)
def test_who_may_not_change_cannot_undo(
    make_device: Factory, permissions: tuple[str, ...], status: int
) -> None:
    devices = [make_device() for _ in range(2)]
    with history.origin("shell"):
        Device.objects.set_enabled(enabled=False)
        batch = history.current_batch()
    client = browser_of(staff(*permissions))
    assert client.get(page_of(batch)).status_code == status
    client.post(page_of(batch))
    assert Device.objects.disabled().count() == len(devices)


def test_an_undo_takes_the_same_statements_for_251_devices(
    admin_client: Client, make_device: Factory
) -> None:
    def cost(rows: int) -> tuple[int, int]:
        history.bulk_create([Device(identifier=f"{rows}-{n:04}") for n in range(rows)])
        act(admin_client, "disable", Device.objects.filter(identifier__startswith=f"{rows}-"))
        batch = newest_batch()
        with CaptureQueriesContext(connection) as shown:
            admin_client.get(page_of(batch))
        with CaptureQueriesContext(connection) as undone:
            admin_client.post(page_of(batch))
        assert Device.objects.enabled().filter(identifier__startswith=f"{rows}-").count() == rows
        return len(shown), len(undone)

    make_device()
    few = cost(12)
    # SQLite takes 999 parameters a statement: of a longer insert it makes several.
    several = 0 if connection.vendor == "postgresql" else 6
    assert few <= cost(251) <= (few[0], few[1] + several)
    with CaptureQueriesContext(connection) as listed:
        admin_client.get(reverse("admin:changes"))
    assert len(listed) <= len(history.all_histories()) + 12


def test_pages_of_the_history_hold_each_batch_once(
    admin_client: Client, make_group: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = []
    for number in range(7):
        with history.origin("import", user="kim"):
            device = Device.objects.create(identifier=f"d{number}")
            device.groups.add(make_group(f"g{number}"))
            batches.append(history.current_batch())
    where = dict.fromkeys(history.all_histories(), timeline.CHANGES)
    seen, after = [], None
    for _ in range(10):
        page = timeline.latest(where, 2, after, in_batches=True)
        seen += [entry.change.batch for entry in page.entries]
        after = page.older
        if after is None:
            break
    assert seen == batches[::-1]


# --- One change of one row ------------------------------------------------------------------


def ways(client: Client, device: Device) -> list[tuple[bool, bool]]:
    page = client.get(f"{LIST}{device.pk}/history/")
    return [("undo" in item, "restore" in item) for item in page.context["entries"]]


def test_undoing_a_change_undoes_that_change(admin_client: Client, make_device: Factory) -> None:
    device = make_device("lamp", name="one")
    device.name = "two"
    device.save()
    device.description = "in the hall"
    device.save()
    # (undo, restore), the latest first: nothing differs from the last state.
    assert ways(admin_client, device) == [(True, False), (True, True), (False, True)]
    page = admin_client.get(f"{LIST}{device.pk}/history/")
    address = page.context["entries"][1]["undo"]
    sent = inputs(admin_client.get(address)) | {"_change_reason": "a slip"}
    admin_client.post(address, sent)
    device.refresh_from_db()
    assert (device.name, device.description) == ("one", "in the hall")
    change = history_of(Device).objects.latest("history_id")
    assert change.history_change_reason.endswith("UTC: a slip")
    assert "nothing to undo" in admin_client.get(address).content.decode()


def test_a_key_has_one_name(admin_client: Client, make_device: Factory) -> None:
    device = make_device()
    key, _secret = PreSharedKey.objects.issue(device=device)
    assert str(key) == key.hint
    for page in (f"{LIST}{device.pk}/change/", f"{LIST}{device.pk}/history/", "/admin/history/"):
        assert key.hint in admin_client.get(page).content.decode()


@pytest.mark.parametrize(
    ("rounds", "counted", "shown"),
    [(10, 1_000, "150"), (10, 150, "150"), (10, 149, "149+"), (1, 10, "10+")],
)
def test_large_batches_are_one_entry_each_on_all_pages_and_are_read_once(
    rounds: int, counted: int, shown: str, db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timeline, "MAX_ROUNDS", rounds)
    monkeypatch.setattr(timeline, "MAX_COUNTED", counted)
    changes = history_of(Device)
    now = timezone.now()
    rows: list[Any] = []
    expected: list[Any] = []
    for n in range(12):  # the newest last; every other one is a batch of hundreds
        batch = uuid4() if n % 2 else None
        expected.insert(0, batch or n)
        for k in range(150 if batch else 1):
            moment = now + timedelta(minutes=n, milliseconds=k)
            named = {"identifier": f"{n}.{k}", "history_type": "+", "history_date": moment}
            rows.append(changes(id=n, batch=batch, **named))
    changes.objects.bulk_create(rows)

    found: list[Any] = []
    statements: list[int] = []
    after = None
    while True:
        with CaptureQueriesContext(connection) as asked:
            page = timeline.latest({changes: Q()}, 5, after, in_batches=True)
        statements.append(len(asked))
        found += [entry.change.batch or entry.change.id for entry in page.entries]
        assert {one.batch.shown for one in page.entries if one.batch} <= {shown}
        after = page.older
        if after is None:
            break
    assert found == expected
    assert max(statements) <= 12  # and not one for each row
    assert not [one["sql"] for one in asked.captured_queries if "EXISTS" in one["sql"]]


def test_only_the_group_that_is_too_deep_stays(make_group: Any) -> None:
    chain = [make_group("c0")]
    while len(chain) < MAX_DEPTH:
        chain.append(make_group(f"c{len(chain)}", parent=chain[-1]))
    deep, harmless = make_group("y"), make_group("a")
    deep.parent, harmless.parent = chain[-1], deep
    with transaction.atomic():
        assert list(DeviceGroup.misfits([deep, harmless])) == [deep]
