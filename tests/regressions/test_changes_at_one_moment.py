"""Two who change the same at one moment: neither loses anything, and the history tells the truth.

A command recorded what it had read before others changed it (and an event said that a device was
enabled that had just been disabled), a row that two deleted was deleted twice, by itself or with
what it belongs to, a move of a group and an import waited for each other, what a database refused
was an internal error, and a fault of ours somebody else's change. Two who ended the last two keys
of a device each left its session to the other.

The kind: CWE-362, CWE-833.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.contrib import messages
from django.contrib.admin import site
from django.contrib.auth.models import Group, User
from django.core.management import CommandError, call_command
from django.db import (
    IntegrityError,
    InterfaceError,
    OperationalError,
    connection,
    connections,
    transaction,
)
from django.http import HttpRequest
from django.test import Client
from django.utils import timezone
from rest_framework.test import APIClient

from acl.models import CommandPermission, CommandSet
from acl.models.command_permission import CommandPermissionQuerySet
from acl.notation import read_rule
from devices.admin.base.history import RecordedAdmin
from devices.background import jobs
from devices.database import turns
from devices.database.conflicts import Gone
from devices.database.turns import hold, take_turn
from devices.events.models import Event
from devices.history import Origin, bulk_delete, history_of, origin
from devices.management.base import ChangeCommand
from devices.models import (
    Certificate,
    CertificateAuthority,
    Device,
    DeviceGroup,
    Job,
    PreSharedKey,
)
from devices.models.job import JobKind, JobState, asked_with
from rpc.rtio.models import DeviceServiceRoute, RtioServer, SessionEnding
from tests.support import pki
from tests.support.forms import inputs
from tests.support.rules import make_rule

Factory = Callable[..., Any]
Meanwhile = Callable[[Callable[[], object]], None]
WAIT = 20  # seconds, for a thread


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> Meanwhile:
    """Return the function that has others do something once a command has read its rows."""

    def have_done(act: Callable[[], object]) -> None:
        change = ChangeCommand.change

        @contextmanager
        def late(command: ChangeCommand, options: dict[str, Any]) -> Iterator[None]:
            act()
            with change(command, options):
                yield

        monkeypatch.setattr(ChangeCommand, "change", late)

    return have_done


def last_change(row: Any) -> Any:
    return history_of(type(row)).objects.filter(id=row.pk).latest("history_id")


def refused(name: str, *args: str) -> str:
    """Run a command that ends with 1; return why."""
    with pytest.raises(CommandError) as refusal:
        call_command(name, *args)
    assert refusal.value.returncode == 1
    return str(refusal.value)


def test_a_command_records_what_others_changed_a_moment_before(
    make_device: Factory, meanwhile: Meanwhile
) -> None:
    device = make_device("lamp")
    meanwhile(lambda: Device.objects.filter(pk=device.pk).set_enabled(enabled=False))
    call_command("change_device", "lamp", "--name", "Lamp")
    device.refresh_from_db()
    assert (device.name, device.enabled) == ("Lamp", False)
    assert (last_change(device).name, last_change(device).enabled) == ("Lamp", False)
    assert not Event.objects.filter(kind="device.enabled").exists()


def test_a_trust_anchor_likewise(db: None, meanwhile: Meanwhile) -> None:
    anchor = CertificateAuthority.objects.register(presented=pki.authority("CA").pem, name="CA")

    def disable() -> None:
        other = CertificateAuthority.objects.get()
        other.enabled = False
        other.save(update_fields=["enabled"])

    meanwhile(disable)
    call_command("change_trust_anchor", "CA", "--crl-policy", "require")
    assert not last_change(anchor).enabled


@pytest.mark.parametrize(
    ("model", "command"), [(DeviceGroup, "change_group"), (CommandSet, "change_command_set")]
)
def test_groups_and_command_sets_likewise(
    model: Any, command: str, db: None, meanwhile: Meanwhile
) -> None:
    row = model.objects.create(name="yard", description="old")

    def describe() -> None:
        other = model.objects.get()
        other.description = "new"
        other.save(update_fields=["description"])

    meanwhile(describe)
    call_command(command, "yard", "--name", "Yard")
    assert (last_change(row).name, last_change(row).description) == ("Yard", "new")


def test_rules_that_are_switched_off_likewise(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    rule = read_rule(effect="allow", source="everyone", destination="itself", command="/v1/Led.*")
    rule.save()
    select = CommandPermissionQuerySet.select_for_update

    def late(rows: Any, *args: Any, **kwargs: Any) -> Any:
        CommandPermission.objects.filter(pk=rule.pk).update(note="theirs")
        return select(rows, *args, **kwargs)

    monkeypatch.setattr(CommandPermissionQuerySet, "select_for_update", late)
    assert CommandPermission.objects.all().set_enabled(enabled=False) == 1
    assert (last_change(rule).enabled, last_change(rule).note) == (False, "theirs")


def test_a_revocation_records_the_end_that_a_rotation_set(make_device: Factory) -> None:
    device = make_device()
    PreSharedKey.objects.issue(device=device)
    key = PreSharedKey.objects.get()
    PreSharedKey.objects.rotate(device=device, overlap=timedelta(hours=1))
    key.revoke(by="kim")
    assert last_change(key).not_after == PreSharedKey.objects.get(pk=key.pk).not_after is not None


def test_a_route_that_refuses_keeps_its_note(db: None) -> None:
    route = DeviceServiceRoute.objects.create(uri="/time", url="http://127.0.0.1:9/", note="old")
    other = DeviceServiceRoute.objects.get()
    other.note = "new"
    other.save(update_fields=["note"])
    route.refuse()
    assert last_change(route).note == "new"


def command_of(what: str, device: Device, group: DeviceGroup) -> tuple[Any, list[str]]:
    """Return a row, and the command that deletes it."""
    rule = make_rule(device, "itself", "/v1/X")
    command_set = CommandSet.objects.create(name="reading")
    return {
        "device": (device, ["delete_device", "lamp"]),
        "group": (group, ["delete_group", "yard"]),
        "rule": (rule, ["delete_rule", str(rule.pk)]),
        "command-set": (command_set, ["delete_command_set", "reading"]),
    }[what]


@pytest.mark.parametrize("what", ["device", "group", "rule", "command-set"])
def test_what_others_have_deleted_is_not_deleted_twice(
    what: str, make_device: Factory, make_group: Factory, meanwhile: Meanwhile
) -> None:
    row, command = command_of(what, make_device("lamp"), make_group("yard"))
    deletions = history_of(type(row)).objects.filter(id=row.pk, history_type="-")
    meanwhile(lambda: type(row).objects.get(pk=row.pk).delete())
    assert "others deleted" in refused(*command)
    assert deletions.count() == 1
    kind = f"{what.replace('-', '_')}.deleted"
    assert Event.objects.filter(kind__endswith=kind).count() == 1


def test_a_change_of_what_others_have_deleted_is_refused(
    make_device: Factory, meanwhile: Meanwhile
) -> None:
    device = make_device("lamp")
    meanwhile(lambda: Device.objects.get(pk=device.pk).delete())
    assert "others deleted" in refused("change_device", "lamp", "--name", "Lamp")


def test_a_command_says_what_met_another_change(
    make_device: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_device("lamp")

    def conflict(*_args: Any, **_kw: Any) -> None:
        raise IntegrityError("violates foreign key constraint")

    monkeypatch.setattr(Device, "save", conflict)
    assert "others changed the same" in refused("change_device", "lamp", "--name", "Lamp")


def deadlock() -> OperationalError:
    """Return the error of PostgreSQL that ends one of two who wait for each other."""
    cause = Exception("deadlock detected")
    cause.sqlstate = "40P01"  # type: ignore[attr-defined]
    error = OperationalError("deadlock detected")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize("error", [IntegrityError("violates"), deadlock()])
@pytest.mark.parametrize("page", ["disable/", "delete/", "issue-key/"])
def test_staff_are_told_what_met_another_change(
    page: str,
    error: Exception,
    admin_client: Client,
    make_device: Factory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def conflict(*_args: Any, **_kw: Any) -> None:
        raise error

    address = f"/admin/devices/device/{make_device().pk}/{page}"
    sent = {**inputs(admin_client.get(address)), "post": "yes"}
    monkeypatch.setattr("devices.models.device.record", conflict)
    monkeypatch.setattr("devices.models.credentials.pre_shared_key.bulk_create", conflict)
    monkeypatch.setattr(Device, "delete", conflict)
    answer = admin_client.post(address, sent, follow=True)
    assert answer.redirect_chain == [(address, 302)]
    assert "Somebody saved the same at this moment" in answer.content.decode()


def test_what_was_typed_is_kept_where_others_added_the_same_at_that_moment(
    admin_client: Client, make_device: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_device("lamp")
    looked = Device.validate_constraints
    not_yet = [True]  # others save it between the check of the form and its saving

    def look(device: Device, **kw: Any) -> None:
        if not (not_yet and not_yet.pop()):
            looked(device, **kw)

    monkeypatch.setattr(Device, "validate_constraints", look)
    monkeypatch.setattr(Device, "validate_unique", lambda *_args, **_kw: None)
    said = staticmethod(lambda request, _form: messages.info(request, "changed"))
    monkeypatch.setattr(RecordedAdmin, "_tell_kept", said)
    address = "/admin/devices/device/add/"
    sent = inputs(admin_client.get(address)) | {
        "identifier": "lamp",
        "name": "typed",
        "kind": "device",
    }
    answer = admin_client.post(address, sent)
    assert answer.context["adminform"].form.errors.keys() == {"identifier"}
    assert 'value="typed"' in answer.content.decode()
    assert not list(answer.context["messages"])


def test_staff_are_told_what_a_model_refuses_at_that_moment(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = pki.authority("Root")
    anchor = CertificateAuthority.objects.register(presented=root.pem, name="Root")
    address = f"/admin/devices/certificateauthority/{anchor.pk}/load-list/"
    sent = {"presented": anchor.read_list(pki.revocation_list(root, number=6)).pem}
    sent |= {"confirmed": admin_client.post(address, sent).context["form"]["confirmed"].value()}
    read = CertificateAuthority.load_list

    def load(one: CertificateAuthority, content: bytes, **kw: Any) -> None:
        read(one, pki.revocation_list(root, number=7), by="kim")
        read(one, content, **kw)

    monkeypatch.setattr(CertificateAuthority, "load_list", load)
    answer = admin_client.post(address, sent, follow=True)
    assert answer.redirect_chain == [(address, 302)]
    assert "older than the one in force" in answer.content.decode()


def test_a_fault_of_ours_is_nobody_elses_change(
    admin_client: Client, make_device: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fault(*_args: Any, **_kw: Any) -> None:
        DeviceGroup.objects.get(name="nowhere")

    admin_client.raise_request_exception = False
    address = f"/admin/devices/device/{make_device().pk}/disable/"
    sent = {**inputs(admin_client.get(address)), "post": "yes"}
    monkeypatch.setattr("devices.models.device.record", fault)
    assert admin_client.post(address, sent).status_code == 500
    with pytest.raises(DeviceGroup.DoesNotExist):
        call_command("disable_device", Device.objects.get().identifier)
    monkeypatch.setattr(Device, "delete", DeviceGroup().full_clean)  # raises ValidationError
    address = address.replace("disable", "delete")
    assert admin_client.post(address, inputs(admin_client.get(address))).status_code == 500


def test_what_a_row_was_locked_for_is_gone(make_device: Factory) -> None:
    device = make_device()
    Device.objects.get().delete()
    with pytest.raises(Gone):
        device.hold()
    with pytest.raises(Gone):
        PreSharedKey.objects.issue(device=device)


def test_groups_that_lie_in_each_other_are_deleted_together(
    admin_client: Client, make_group: Factory
) -> None:
    site = make_group("site")
    chosen = [site.pk, make_group("hall", parent=site).pk]
    sent = {"action": "delete_selected", "_selected_action": chosen, "post": "yes"}
    admin_client.post("/admin/devices/devicegroup/", sent)
    assert not DeviceGroup.objects.exists()


@pytest.mark.parametrize("model", [Device, DeviceGroup, CommandPermission])
def test_rows_that_came_to_match_meanwhile_are_not_deleted(
    model: Any, make_device: Factory, make_group: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = {Device: make_device, DeviceGroup: make_group, CommandPermission: everyones_rule}
    chosen, other = rows[model](), rows[model]()
    marks = {Device: "enabled", DeviceGroup: "description", CommandPermission: "enabled"}
    mark = marks[model]
    wanted, unwanted = (False, True) if mark == "enabled" else ("old", "new")
    model.objects.filter(pk=chosen.pk).update(**{mark: wanted})
    model.objects.filter(pk=other.pk).update(**{mark: unwanted})
    held = turns.hold

    def late(*args: Any, **kwargs: Any) -> list[Any]:
        found = held(*args, **kwargs)
        model.objects.filter(pk=other.pk).update(**{mark: wanted})
        return found

    monkeypatch.setattr("devices.admin.base.history.hold", late)
    listed = site._registry[model]
    assert isinstance(listed, RecordedAdmin)
    listed.delete_queryset(HttpRequest(), model.objects.filter(**{mark: wanted}))
    assert list(model.objects.all()) == [other]


def everyones_rule() -> CommandPermission:
    return make_rule("everyone", "itself", f"/v1/X{CommandPermission.objects.count()}")


@pytest.fixture
def job(admin_user: User, make_device: Factory) -> Job:
    return Job.objects.create(
        kind=JobKind.DELETE_DEVICES,
        owner=admin_user,
        asked_with=asked_with(admin_user),
        parameters={"devices": [make_device().pk], "may": [], "accept_broken": False},
    )


def test_a_job_says_what_met_another_change(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    def conflict(*_args: Any, **_kw: Any) -> None:
        raise IntegrityError("violates foreign key constraint")

    monkeypatch.setattr(jobs, "_deleted", conflict)
    jobs.worker.run_one()
    job.refresh_from_db()
    assert job.state == JobState.FAILED
    assert "Somebody changed the same" in job.error
    assert Device.objects.count() == 1


@pytest.mark.parametrize(
    "error",
    [deadlock(), OperationalError("database is locked"), InterfaceError("connection closed")],
    ids=str,
)
def test_a_job_that_the_database_breaks_off_is_tried_again(
    error: Exception, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_args: Any, **_kw: Any) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(jobs, "_deleted", fail)
        assert jobs.worker.run_one()
        assert not jobs.worker.run_one()  # its lease is not over
    Job.objects.update(lease_until=timezone.now())
    assert jobs.worker.run_one()
    job.refresh_from_db()
    assert (job.state, job.attempts) == (JobState.DONE, 2)
    assert not Device.objects.exists()


# --- Two at once, on PostgreSQL: SQLite has one writer anyway ---------------------------------

only_postgresql = pytest.mark.skipif(
    connection.vendor != "postgresql", reason="SQLite has one writer anyway"
)


def beside(act: Callable[[], object]) -> threading.Thread:
    """Do something in a thread, on a connection of its own."""

    def run() -> None:
        try:
            act()
        finally:
            connections.close_all()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def await_waiting(kind: str) -> None:
    """Return once somebody waits for a lock of that kind."""
    for _ in range(WAIT * 20):
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1 FROM pg_locks WHERE NOT granted AND locktype = %s", [kind])
            if cursor.fetchone():
                return
        threading.Event().wait(0.05)
    raise AssertionError("nobody waits")


@only_postgresql
@pytest.mark.django_db(transaction=True)
def test_who_has_the_turn_with_groups_waits_for_nobody_who_waits_for_it(
    make_group: Factory, admin_user: User
) -> None:
    yard, site = make_group(), make_group()
    api = APIClient()
    api.force_authenticate(admin_user)
    answers: list[Any] = []

    def move() -> None:
        path, known = f"/api/v1/groups/{yard.pk}", {"If-Match": "*"}
        answers.append(api.patch(path, {"parent": site.pk}, format="json", headers=known))

    with transaction.atomic():
        take_turn(DeviceGroup._meta.db_table)  # as an import does
        mover = beside(move)
        await_waiting("advisory")
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL lock_timeout = '500ms'")
        assert hold(DeviceGroup, [yard.pk]) == [yard.pk]
    mover.join(WAIT)
    assert [answer.status_code for answer in answers] == [200]


@only_postgresql
@pytest.mark.django_db(transaction=True)
def test_members_come_and_go_while_others_have_the_turn_with_groups(
    make_group: Factory, make_device: Factory, admin_user: User
) -> None:
    path, body = f"/api/v1/groups/{make_group().pk}/members", {"devices": [make_device().pk]}
    api = APIClient()
    api.force_authenticate(admin_user)
    answers: list[Any] = []

    def come_and_go() -> None:
        ways = (path, f"{path}/remove")
        answers.extend(api.post(way, body, format="json") for way in ways)

    with transaction.atomic():
        take_turn(DeviceGroup._meta.db_table)  # an import has it for minutes
        other = beside(come_and_go)
        other.join(WAIT)
        told = [(answer.status_code, answer.data["changed"]) for answer in answers]
    other.join(WAIT)
    assert told == [(200, 1), (200, 1)]


@only_postgresql
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("path", ["devices/{}/rotate-keys", "keys"])
def test_a_key_for_a_device_that_goes_at_that_moment_is_a_conflict(
    path: str, make_device: Factory, admin_user: User
) -> None:
    device = make_device()
    api = APIClient()
    api.force_authenticate(admin_user)
    answers: list[Any] = []

    def issue() -> None:
        body = {"device": device.pk} if path == "keys" else {}
        answers.append(api.post(f"/api/v1/{path.format(device.pk)}", body, format="json"))

    with transaction.atomic():
        assert hold(Device, [device.pk])
        other = beside(issue)
        await_waiting("transactionid")
        Device.objects.get(pk=device.pk).delete()
    other.join(WAIT)
    assert [answer.status_code for answer in answers] == [409 if path == "keys" else 404]
    assert not PreSharedKey.objects.exists()


def two_keys(device: Device) -> tuple[PreSharedKey, PreSharedKey]:
    for _ in range(2):
        PreSharedKey.objects.issue(device=device)
    first, second = PreSharedKey.objects.filter(device=device)
    return first, second


def refuse_from_now_on(key: PreSharedKey) -> None:
    key.not_after = timezone.now()
    key.save()


@only_postgresql
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "end",
    [
        lambda key: key.revoke(by="kim"),
        lambda key: PreSharedKey.objects.filter(pk=key.pk).revoke(by="kim"),
        lambda key: key.delete(),
        lambda key: PreSharedKey.objects.filter(pk=key.pk).delete(),
        refuse_from_now_on,
    ],
    ids=["revoke", "revoke many", "delete", "delete many", "edit"],
)
def test_two_who_end_the_last_two_keys_end_the_session(
    end: Callable[[PreSharedKey], object], make_device: Factory
) -> None:
    RtioServer.objects.create(name="RTIO", host="127.0.0.1")
    first, second = two_keys(make_device("cfa09baa-4913-4ad7-a936-2e26f9671b05"))
    with origin(Origin.ADMIN, user="ann"), transaction.atomic():
        end(first)
        beside(lambda: end(second)).join(WAIT)
        assert not SessionEnding.objects.exists()  # each sees the key of the other
    row = SessionEnding.objects.get()
    assert (row.cause, row.requested_by, row.origin) == ("revoked", "ann", "admin")


@only_postgresql
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("where", ["by itself", "in bulk", "in a list"])
@pytest.mark.parametrize("what", ["rule", "key", "certificate", "membership", "rule of a group"])
def test_what_goes_along_is_deleted_once(
    what: str, where: str, make_device: Factory, make_group: Factory
) -> None:
    group = make_group()
    device = make_device(groups=[group])
    PreSharedKey.objects.issue(device=device)
    Certificate.objects.register(device=device, presented=pki.device_certificate("one").pem)
    rule = everyones_rule()
    of_group = what == "rule of a group"
    source = {"source_group": group} if of_group else {"source_device": device}
    for name, value in {"source_kind": "group" if of_group else "device", **source}.items():
        setattr(rule, name, value)
    rule.save()
    row: Any = {
        "key": device.keys.first(),
        "certificate": device.certificates.first(),
        "membership": Device.groups.through.objects.first(),
    }.get(what, rule)
    owner: Any = group if of_group else device

    def delete_owner() -> None:
        rows = type(owner).objects.filter(pk=owner.pk)
        if where == "in a list":
            site._registry[type(owner)].delete_queryset(HttpRequest(), rows)
        elif where == "in bulk":
            bulk_delete(list(rows))
        else:
            owner.delete()

    with transaction.atomic():
        if what == "membership":
            group.delete()
        else:
            row.delete()
        other = beside(delete_owner)
        await_waiting("transactionid")
    other.join(WAIT)
    assert not type(owner).objects.filter(pk=owner.pk).exists()
    deleted = history_of(type(row)).objects.filter(history_type="-")
    assert deleted.count() == 1


@only_postgresql
@pytest.mark.django_db(transaction=True)
def test_who_leaves_a_group_that_is_deleted_leaves_it_once(
    make_device: Factory, make_group: Factory
) -> None:
    group = make_group()
    device = make_device(groups=[group])
    with transaction.atomic():
        DeviceGroup.objects.get().delete()
        others = [
            beside(lambda: Device.objects.filter(pk=device.pk).remove_from_group(group)),
            beside(device.groups.clear),
        ]
        await_waiting("transactionid")
        others[1].join(0.5)
    for other in others:
        other.join(WAIT)
    left = history_of(Device.groups.through).objects.filter(history_type="-")
    assert left.count() == 1


@only_postgresql
@pytest.mark.django_db(transaction=True)
def test_a_certificate_that_is_revoked_while_its_device_goes_stays(make_device: Factory) -> None:
    device = make_device()
    presented = pki.device_certificate("one").pem
    certificate = Certificate.objects.register(device=device, presented=presented)
    with transaction.atomic():
        certificate.revoke(by="kim")
        other = beside(device.delete)
        await_waiting("transactionid")
    other.join(WAIT)
    assert Certificate.objects.get().revoked_by == "kim"
    assert not Device.objects.exists()


@only_postgresql
@pytest.mark.django_db(transaction=True)
def test_roles_are_given_one_after_the_other(django_user_model: Any) -> None:
    user = django_user_model.objects.create_user("kim")
    for name in ("one", "two"):
        Group.objects.create(name=name)
    with transaction.atomic():
        call_command("set_roles", "kim", "one")
        other = beside(lambda: call_command("set_roles", "kim", "two"))
        other.join(0.5)
        assert other.is_alive()
    other.join(WAIT)
    assert [role.name for role in user.groups.all()] == ["two"]


@only_postgresql
@pytest.mark.django_db(transaction=True)
def test_the_last_superuser_is_the_last(django_user_model: Any) -> None:
    for name in ("ann", "bob"):
        django_user_model.objects.create_superuser(name)
    ended: list[str] = []
    with transaction.atomic():
        call_command("disable_user", "ann")
        other = beside(lambda: ended.append(refused("disable_user", "bob")))
        other.join(0.5)
    other.join(WAIT)
    assert ended == ["No other active superuser would be left."]


@only_postgresql
@pytest.mark.django_db(transaction=True)
def test_the_last_superuser_is_the_last_in_a_list_too(
    admin_client: Client, django_user_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = django_user_model.objects.create_superuser("bob")
    ended: list[str] = []
    others: list[threading.Thread] = []
    delete = type(site._registry[User]).delete_queryset

    def late(*args: Any) -> None:
        others.append(beside(lambda: ended.append(refused("disable_user", "admin"))))
        others[0].join(0.5)
        delete(*args)

    monkeypatch.setattr(type(site._registry[User]), "delete_queryset", late)
    sent = {"action": "delete_selected", "_selected_action": [chosen.pk], "post": "yes"}
    admin_client.post("/admin/auth/user/", sent)
    others[0].join(WAIT)
    assert ended == ["No other active superuser would be left."]
    assert User.objects.get(is_superuser=True, is_active=True).username == "admin"
