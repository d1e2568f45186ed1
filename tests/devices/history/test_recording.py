"""What is recorded: every change once, with who, from where and why, and nothing secret."""

from collections.abc import Callable
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.apps import apps
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from acl import as_code
from acl.models import Assertion, CommandPermission, CommandSet, CommandSetPattern
from authsite.models import ApiToken, ServiceAccount
from devices import history
from devices.authentication import authenticate
from devices.database import last_used
from devices.history.context import MAX_REASON_LENGTH
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
from rpc.models import DeviceServiceRoute, RtioServer, SessionEnding
from tests.support import pki
from tests.support.rules import make_rule

pytestmark = pytest.mark.django_db

RECORDED = {
    ApiToken,
    Assertion,
    AttributeDefinition,
    Certificate,
    CertificateAuthority,
    CommandPermission,
    CommandSet,
    CommandSetPattern,
    Device,
    DeviceGroup,
    DeviceServiceRoute,
    Membership,
    PreSharedKey,
    RevocationList,
    RtioServer,
    ServiceAccount,
    SessionEnding,
    Webhook,
}
SECRET_FIELDS = {"digest", "hint", "pepper", "pem"}
Make = Callable[..., Any]


def changes(model: type) -> list[tuple[str, str]]:
    """Return what was done to the rows of a model, and from where, in order."""
    rows = history.history_of(model).objects.order_by("history_id")
    return [(row.history_type, row.origin) for row in rows]


def last(model: type) -> Any:
    return history.history_of(model).objects.order_by("history_id").last()


def test_every_model_of_the_registry_is_recorded() -> None:
    assert {historical.instance_type for historical in history.all_histories()} == RECORDED


def test_no_history_has_a_column_for_secrets_or_evidence() -> None:
    columns = {
        field.name
        for historical in history.all_histories()
        for field in historical._meta.get_fields()
    }
    assert columns.isdisjoint(SECRET_FIELDS | {"last_seen", "last_used", "updated"})


def test_a_save_costs_two_inserts_and_two_questions_more(make_device: Make) -> None:
    device = make_device()
    with CaptureQueriesContext(
        connection,
    ) as queries:
        device.save(update_fields=["name"])
    written = [q["sql"].split()[0] for q in queries if "SAVEPOINT" not in q["sql"]]
    # The history; what it said before, the device's groups, and the event.
    assert written == ["UPDATE", "INSERT", "SELECT", "SELECT", "INSERT"]


def test_row_and_history_are_written_together_or_not_at_all(
    make_device: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = make_device(name="before")

    def fail(*_args: Any, **_kwargs: Any) -> None:
        raise RuntimeError

    monkeypatch.setattr(history.history_of(Device), "save", fail)
    device.name = "after"
    with pytest.raises(RuntimeError):
        device.save()
    device.refresh_from_db()
    assert device.name == "before"


def test_where_a_change_comes_from(make_device: Make) -> None:
    with history.origin("admin", user="kim", reason="asked for"):
        with history.origin("import", reason="devices.csv"):
            inner = make_device()
        outer = make_device()
    bare = make_device()
    found = {
        row.id: (row.origin, row.history_user_id, row.history_change_reason)
        for row in history.history_of(Device).objects.all()
    }
    assert found[inner.pk] == ("import", "kim", "devices.csv")
    assert found[outer.pk] == ("admin", "kim", "asked for")
    assert found[bare.pk] == ("shell", "", "")


def test_what_the_registry_does_by_itself_nobody_asked_for(make_device: Make) -> None:
    with history.origin("command", user="ops", reason="deliver"):
        asked = make_device()
        with history.by_itself():
            made = make_device()
    changes = {row.id: row for row in history.history_of(Device).objects.all()}
    row = changes[made.pk]
    assert (row.origin, row.history_user_id, row.history_change_reason) == ("registry", "", "")
    assert row.batch not in {None, changes[asked.pk].batch}


def test_an_origin_nobody_knows_is_refused() -> None:
    with pytest.raises(ValueError, match="nowhere"), history.origin("nowhere"):
        pass


def test_a_reason_too_long_for_its_column_is_refused_and_never_cut(make_device: Make) -> None:
    fits, too_long = "x" * MAX_REASON_LENGTH, "é" * (MAX_REASON_LENGTH + 1)
    with history.origin("import", reason=fits):
        key = PreSharedKey.objects.issue(device=make_device())[0]
    assert last(Device).history_change_reason == fits
    keys = PreSharedKey.objects.filter(pk=key.pk)
    for refused in (
        lambda: history.origin("import", reason=too_long).__enter__(),
        lambda: key.revoke(by="kim", reason=too_long),
        lambda: keys.revoke(by="kim", reason=too_long),
    ):
        with pytest.raises(ValidationError, match="has 256 characters; a reason has at most 255"):
            refused()
    assert not keys.revoked().exists()
    assert keys.revoke(by="kim", reason=fits) == 1


def test_a_reason_that_no_database_stores_is_kept_without_what_it_cannot(make_device: Make) -> None:
    with history.origin("admin", reason="stolen\x00 by \ud800"):
        make_device()
    assert last(Device).history_change_reason == "stolen\ufffd by \ufffd"


def test_commands_name_themselves_and_who_runs_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "operator")
    call_command("add_device", "cfa09baa-4913-4ad7-a936-2e26f9671b05", stdout=StringIO())
    row = last(Device)
    assert (row.origin, row.history_user_id) == ("command", "operator")
    assert row.history_change_reason == "add_device"


def test_memberships_are_recorded_from_both_sides(make_device: Make, make_group: Make) -> None:
    here, there = make_group(), make_group()
    device = make_device(groups=[here])
    device.groups.set([there])
    there.devices.remove(device)
    there.devices.remove(device)  # is no member: nothing changes
    here.devices.add(device)
    device.groups.clear()
    rows = history.history_of(Membership).objects.order_by("history_id")
    assert [(row.history_type, row.devicegroup_id) for row in rows] == [
        ("+", here.pk),
        ("-", here.pk),
        ("+", there.pk),
        ("-", there.pk),
        ("+", here.pk),
        ("-", here.pk),
    ]
    assert {row.device_id for row in rows} == {device.pk}


@pytest.mark.parametrize("doomed", ["device", "group"])
def test_a_deletion_says_which_memberships_went(
    doomed: str, make_device: Make, make_group: Make
) -> None:
    group = make_group()
    device = make_device(groups=[group])
    rows = {"device": device, "group": group}
    keys = (device.pk, group.pk)
    rows[doomed].delete()
    row = last(Membership)
    assert (row.history_type, row.device_id, row.devicegroup_id) == ("-", *keys)


def test_what_goes_with_a_device_is_recorded(make_device: Make) -> None:
    device = make_device()
    PreSharedKey.objects.issue(device=device)
    device.delete()
    assert changes(Device)[-1][0] == "-"
    assert [kind for kind, _origin in changes(PreSharedKey)] == ["+", "-"]


def test_rotation_and_revocation_leave_rows_without_secrets(make_device: Make) -> None:
    device = make_device()
    old, secret = PreSharedKey.objects.issue(device=device)
    new, renewed = PreSharedKey.objects.rotate(device=device, overlap=timedelta(hours=1))
    assert new.revoke(by="kim", reason="lost")
    rows = list(history.history_of(PreSharedKey).objects.order_by("history_id"))
    assert [(row.history_type, row.id) for row in rows] == [
        ("+", old.pk),
        ("~", old.pk),
        ("+", new.pk),
        ("~", new.pk),
    ]
    assert rows[-1].revoked_reason == "lost"
    dump = repr([row.__dict__ for row in rows])
    assert secret not in dump
    assert secret[:4] not in dump
    assert renewed not in dump
    assert old.digest not in dump


def test_evidence_leaves_no_row(make_device: Make) -> None:
    device = make_device()
    _key, secret = PreSharedKey.objects.issue(device=device)
    before = [changes(Device), changes(PreSharedKey)]
    assert authenticate(device.identifier, secret=secret).verified
    last_used.worker.flush()
    device.refresh_from_db()
    assert device.last_seen is not None
    assert [changes(Device), changes(PreSharedKey)] == before


def test_bulk_writes_are_recorded_in_a_few_statements() -> None:
    rows = [Device(identifier=f"{n:036d}") for n in range(30)]
    with CaptureQueriesContext(connection) as queries, history.origin("import"):
        history.bulk_create(rows)
        for row in rows:
            row.enabled = False
        history.bulk_update(rows, ["enabled"])
    # The rows and their history twice; an event and a question about groups each, and one about
    # what the history said before.
    assert len([q for q in queries if "SAVEPOINT" not in q["sql"]]) == 4 + 5
    assert changes(Device) == [("+", "import")] * 30 + [("~", "import")] * 30
    assert last(Device).enabled is False


def test_a_bulk_deletion_is_recorded_once(make_device: Make) -> None:
    devices = [make_device(), make_device()]
    PreSharedKey.objects.issue(device=devices[0])
    history.bulk_delete(devices)
    assert not Device.objects.exists()
    assert [kind for kind, _origin in changes(Device)] == ["+", "+", "-", "-"]
    assert [kind for kind, _origin in changes(PreSharedKey)] == ["+", "-"]


def test_nothing_in_bulk_is_nothing() -> None:
    with CaptureQueriesContext(connection) as queries:
        history.bulk_create([])
        history.bulk_update([], ["name"])
        history.bulk_delete([])
    assert not list(queries)


def test_an_import_of_permissions_is_recorded(make_device: Make, make_group: Make) -> None:
    site = make_group("site")
    make_group("room", parent=site)
    device = make_device(groups=[site])
    make_rule("everyone", "itself", "/v1/*")
    with history.origin("command", user="operator"):
        as_code.import_document(
            {
                "format": 1,
                "groups": [{"name": "room", "devices": [device.identifier]}],
                "command_sets": [{"name": "read", "commands": ["/v1/Config.Get"]}],
                "permissions": [
                    {"effect": "allow", "from": "everyone", "to": "itself", "command": "set:read"}
                ],
            }
        )
    assert changes(CommandPermission) == [("+", "shell"), ("-", "import"), ("+", "import")]
    assert changes(CommandSetPattern) == [("+", "import")]
    assert changes(Membership) == [("+", "shell"), ("+", "import"), ("-", "import")]
    assert changes(DeviceGroup)[-1] == ("-", "import")
    assert last(DeviceGroup).history_user_id == "operator"


def test_a_dry_run_leaves_no_row() -> None:
    as_code.import_document(
        {"format": 1, "groups": [{"name": "room"}], "command_sets": [], "permissions": []},
        dry_run=True,
    )
    assert changes(DeviceGroup) == []


def test_a_revoked_certificate_that_stays_is_recorded_as_nobodys(make_device: Make) -> None:
    device = make_device()
    party = pki.device_certificate("pump", pki.authority("CA"))
    certificate = Certificate.objects.register(device=device, presented=party.pem)
    certificate.revoke(by="kim")
    device.delete()
    row = last(Certificate)
    assert (row.history_type, row.id, row.device_id) == ("~", certificate.pk, None)


def test_a_revocation_list_is_recorded_as_a_whole() -> None:
    root = pki.authority("CA")
    anchor = CertificateAuthority.objects.register(presented=root.pem, name="CA")
    anchor.load_list(pki.revocation_list(root, 4711), by="kim")
    row = last(RevocationList)
    assert (row.history_type, row.authority_id, row.entries) == ("+", anchor.pk, 1)


def test_the_moment_is_that_of_the_change(make_device: Make) -> None:
    before = timezone.now()
    make_device()
    assert before <= last(Device).history_date <= timezone.now()


def test_the_shell_begins_with_every_model(capsys: pytest.CaptureFixture[str]) -> None:
    names = {model.__name__ for model in apps.get_models()}
    call_command("shell", command=f"assert {names} <= {{*globals()}}, {{*globals()}}")
    said = f"{len(names)} objects imported automatically (use -v 2 for details).\n\n"
    assert capsys.readouterr().out == said
