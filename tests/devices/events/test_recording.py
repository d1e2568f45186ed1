"""The outbox: an event for each change of a recorded model, by whatever path, and no secrets."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection, models, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from acl.models import Assertion, CommandPermission, CommandSet, CommandSetPattern
from authsite.accounts.tokens.models import ApiToken
from authsite.accounts.tokens.service_account import ServiceAccount
from devices import history
from devices.events.kinds import NOUNS, Kind
from devices.events.models import Event
from devices.models import (
    AttributeDefinition,
    Certificate,
    CertificateAuthority,
    Device,
    DeviceGroup,
    Membership,
    PreSharedKey,
    RevocationList,
    Webhook,
)
from devices.models.credentials.state import revoke_credentials
from rpc.models import DeviceServiceRoute, RtioServer, SessionEnding
from tests.support import pki

pytestmark = pytest.mark.django_db

Make = Callable[..., Any]


def kinds(**wanted: Any) -> list[str]:
    """Return the kinds of the events since the last call, in order; forget them."""
    rows = Event.objects.order_by("pk").filter(**wanted)
    found = list(rows.values_list("kind", flat=True))
    Event.objects.all().delete()
    return found


def a_certificate() -> str:
    return pki.device_certificate("pump", pki.authority("CA")).pem


def a_user(name: str) -> User:
    return User.objects.get_or_create(username=name)[0]


def a_server() -> RtioServer:
    server, _made = RtioServer.objects.get_or_create(name="rtio", host="127.0.0.1", port=17017)
    return server


def a_device() -> Device:
    return Device.objects.get_or_create(identifier="device-of-the-rows")[0]


NOW = timezone.now()
MAKE: dict[type[models.Model], Callable[[], Any]] = {
    ApiToken: lambda: ApiToken(
        owner=a_user("kim"), name="t", identifier="i", digest="secret-token", pepper="p", scopes=[]
    ),
    ServiceAccount: lambda: ServiceAccount(user=a_user("robot"), answerable=a_user("kim")),
    Assertion: lambda: Assertion(text="nobody may /v1/Sys.*"),
    AttributeDefinition: lambda: AttributeDefinition(name="floor", type="number"),
    Certificate: lambda: Certificate.objects.prepare(device=a_device(), presented=a_certificate()),
    CertificateAuthority: lambda: CertificateAuthority(
        name="a", fingerprint="0", subject="s", not_before=NOW, not_after=NOW
    ),
    CommandPermission: lambda: CommandPermission(
        source_kind="device", source_device=a_device(), destination_kind="itself", pattern="*"
    ),
    CommandSet: lambda: CommandSet(name="set"),
    CommandSetPattern: lambda: CommandSetPattern(
        command_set=CommandSet.objects.get_or_create(name="of patterns")[0], pattern="/v1/*"
    ),
    Device: lambda: Device(identifier="device-of-the-outbox"),
    DeviceGroup: lambda: DeviceGroup(name="group"),
    DeviceServiceRoute: lambda: DeviceServiceRoute(uri="/aa/bb", url="http://a/", crc=1),
    PreSharedKey: lambda: PreSharedKey(
        device=a_device(), scheme="hmac-sha256", digest="secret-digest", pepper="p", hint="abcd…"
    ),
    RevocationList: lambda: RevocationList(
        authority=CertificateAuthority.objects.get_or_create(
            name="of lists",
            defaults={"fingerprint": "1", "subject": "s", "not_before": NOW, "not_after": NOW},
        )[0],
        this_update=NOW,
        next_update=NOW,
        entries=0,
        loaded_at=NOW,
    ),
    RtioServer: lambda: RtioServer(name="server", host="127.0.0.2"),
    SessionEnding: lambda: SessionEnding(
        identifier="d",
        server=a_server(),
        cause="asked",
        requested_at=NOW,
        due_at=NOW,
        state="ended",
    ),
    Webhook: lambda: Webhook(
        name="hook", url="https://example.com/", sealed="secret-sealed", pepper="p"
    ),
}


def test_each_recorded_model_has_a_noun_and_its_kinds() -> None:
    recorded = {one.instance_type._meta.label_lower for one in history.all_histories()}
    assert set(NOUNS) == recorded
    assert set(MAKE) | {Membership} == {one.instance_type for one in history.all_histories()}


@pytest.mark.parametrize("model", MAKE, ids=lambda model: model.__name__)
def test_no_change_of_a_recorded_model_is_without_an_event(model: Any) -> None:
    """Compare the events with the rows of history that each way to write leaves."""
    histories = history.history_of(model).objects
    ways: list[tuple[str, Callable[[Any], object]]] = [
        ("save", lambda row: row.save()),
        ("save again", lambda row: row.save()),
        ("delete", lambda row: row.delete()),
        ("bulk_create", lambda row: history.bulk_create([row])),
        ("bulk_update", lambda row: history.bulk_update([row], [model._meta.fields[1].name])),
        ("record_stored", lambda row: history.record_stored([row], history.ChangeType.CHANGED)),
        ("bulk_delete", lambda row: history.bulk_delete([row])),
    ]
    row = None
    for name, way in ways:
        row = MAKE[model]() if name in {"save", "bulk_create"} else row
        before, _ = histories.count(), kinds()
        way(row)
        noun = NOUNS[model._meta.label_lower]
        found = [kind for kind in kinds() if kind.startswith(f"{noun}.")]
        assert (name, len(found)) == (name, histories.count() - before)
        assert found, name


def test_what_is_not_recorded_leaves_no_event(make_device: Make) -> None:
    device = make_device()
    kinds()
    history.record([device], history.ChangeType.TRIED)
    assert kinds() == []


def test_devices_by_kind(make_device: Make, make_group: Make) -> None:
    group = make_group()
    device = make_device()
    assert kinds() == [Kind.GROUP_CREATED, Kind.DEVICE_CREATED]
    device.name = "x"
    device.save()
    assert kinds() == [Kind.DEVICE_CHANGED]
    device.enabled = False
    device.save()
    assert kinds() == [Kind.DEVICE_DISABLED]
    Device.objects.all().set_enabled(enabled=True)
    assert kinds() == [Kind.DEVICE_ENABLED]
    device.groups.add(group)
    Device.objects.all().remove_from_group(group)
    Device.objects.all().add_to_group(group)
    assert kinds() == [
        Kind.MEMBERSHIP_CREATED,
        Kind.MEMBERSHIP_DELETED,
        Kind.MEMBERSHIP_CREATED,
    ]
    device.delete()
    assert kinds() == [Kind.MEMBERSHIP_DELETED, Kind.DEVICE_DELETED]


def test_without_the_history_before_the_kind_says_whether_a_device_may_connect(
    make_device: Make,
) -> None:
    device = make_device(enabled=False)
    history.history_of(Device).objects.all().delete()
    kinds()
    device.save()
    assert kinds() == [Kind.DEVICE_DISABLED]


def test_credentials_by_kind(make_device: Make) -> None:
    device = make_device()
    kinds()
    key, _secret = PreSharedKey.objects.issue(device=device)
    PreSharedKey.objects.register(device=device, secret="0123456789abcdef" * 2, random=True)
    PreSharedKey.objects.register(device=device, secret="a chosen one, long enough")
    assert kinds() == [Kind.CREDENTIAL_ISSUED, *[Kind.CREDENTIAL_REGISTERED] * 2]
    key.label = "new"
    key.save()
    assert kinds() == [Kind.CREDENTIAL_CHANGED]
    PreSharedKey.objects.rotate(device=device, overlap=timedelta(hours=1))
    assert kinds() == [*[Kind.CREDENTIAL_CHANGED] * 3, Kind.CREDENTIAL_ROTATED]
    PreSharedKey.objects.rotate(device=device, overlap=timedelta())
    assert kinds() == [*[Kind.CREDENTIAL_REVOKED] * 4, Kind.CREDENTIAL_ROTATED]
    Certificate.objects.register(device=device, presented=a_certificate())
    assert kinds() == [Kind.CREDENTIAL_REGISTERED]
    revoke_credentials(Device.objects.all(), by="kim")
    assert kinds() == [Kind.CREDENTIAL_REVOKED] * 2
    key.delete()
    assert kinds() == [Kind.CREDENTIAL_DELETED]


def test_an_event_names_its_device_and_its_groups_and_who_did_it(
    make_device: Make, make_group: Make
) -> None:
    device = make_device(groups=[make_group("lab"), make_group("site")], description="long")
    PreSharedKey.objects.issue(device=device, label="one")
    with history.origin("import", user="kim", reason="devices.csv"):
        device.enabled = False
        device.save()
    event = Event.objects.latest("pk")
    assert event.groups == sorted(device.groups.values_list("pk", flat=True))
    assert {
        name: event.data[name]
        for name in ("identifier", "enabled", "changed", "origin", "by", "reason")
    } == {
        "identifier": device.identifier,
        "enabled": False,
        "changed": ["enabled"],
        "origin": "import",
        "by": "kim",
        "reason": "devices.csv",
    }
    assert "description" not in event.data
    key = Event.objects.get(kind=Kind.CREDENTIAL_ISSUED)
    assert key.data["device"] == {"id": device.pk, "identifier": device.identifier}
    assert key.groups == event.groups


@pytest.mark.parametrize("way", ["delete", "delete_with_history", "queryset"])
def test_what_goes_with_a_device_still_says_its_groups(
    way: str, make_device: Make, make_group: Make
) -> None:
    device = make_device(groups=[make_group()])
    PreSharedKey.objects.issue(device=device)
    identifier, groups = device.identifier, list(device.groups.values_list("pk", flat=True))
    kinds()
    devices = Device.objects.filter(pk=device.pk)
    {
        "delete": device.delete,
        "delete_with_history": devices.delete_with_history,
        "queryset": devices.delete,
    }[way]()
    found = {event.kind: event for event in Event.objects.all()}
    assert set(found) == {Kind.DEVICE_DELETED, Kind.CREDENTIAL_DELETED, Kind.MEMBERSHIP_DELETED}
    assert {tuple(event.groups) for event in found.values()} == {tuple(groups)}
    assert found[Kind.CREDENTIAL_DELETED].data["device"]["identifier"] == identifier


def test_what_happens_to_a_group_names_the_one_above_it(make_group: Make) -> None:
    site = make_group("site")
    lab = make_group("lab", parent=site)
    pk = lab.pk
    lab.delete()
    assert Event.objects.get(kind=Kind.GROUP_DELETED).groups == sorted([site.pk, pk])
    assert Event.objects.get(data__name="lab", kind=Kind.GROUP_CREATED).groups == [site.pk, pk]


def test_a_deletion_that_is_taken_back_leaves_nothing_behind(
    make_device: Make, make_group: Make
) -> None:
    device = make_device(groups=[make_group()])
    with transaction.atomic():
        Device.objects.filter(pk=device.pk).delete()
        transaction.set_rollback(True)
    device.groups.clear()
    key, _secret = PreSharedKey.objects.issue(device=device)
    key.delete()
    assert Event.objects.latest("pk").groups == []


def test_an_action_on_many_devices_takes_few_statements(make_group: Make) -> None:
    history.bulk_create([Device(identifier=f"{n:036d}") for n in range(251)])
    Device.objects.all().add_to_group(make_group())
    kinds()
    with CaptureQueriesContext(connection) as queries:
        Device.objects.all().set_enabled(enabled=False)
    about = [q["sql"] for q in queries if "devices_event" in q["sql"]]
    assert len(about) <= 2  # SQLite takes no more in one
    assert len([q for q in queries if "SAVEPOINT" not in q["sql"]]) <= 13
    assert kinds() == [Kind.DEVICE_DISABLED] * 251


def test_no_event_holds_a_secret(make_device: Make) -> None:
    device = make_device()
    secrets = [PreSharedKey.objects.issue(device=device)[1], "a chosen one, long enough"]
    PreSharedKey.objects.register(device=device, secret=secrets[1])
    webhook = Webhook(name="hook", url="https://example.com/")
    secrets.append(webhook.new_secret())
    webhook.save()
    secrets.append(webhook.new_secret())
    rows = [*PreSharedKey.objects.values_list("digest", "hint"), (webhook.sealed,)]
    written = json.dumps(list(Event.objects.values("kind", "data", "groups")))
    for secret in [*secrets, *(text for row in rows for text in row if text)]:
        assert secret not in written


def test_change_and_event_are_written_together_or_not_at_all(make_device: Make) -> None:
    device = make_device()
    kinds()
    with transaction.atomic():
        device.save()
        transaction.set_rollback(True)
    assert kinds() == []
