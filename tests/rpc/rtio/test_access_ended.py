"""Whatever ends a device's access ends its session; staff end it on purpose, and see receipts."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from devices.events.models import Event
from devices.extension_points import AccessEnd, end_access
from devices.history import ChangeType, Origin, origin, record, timeline
from devices.models import Certificate, Device, PreSharedKey
from devices.models.credentials.state import revoke_credentials
from rpc.rtio.models import Cause, EndingState, RtioServer, SessionEnding
from rpc.rtio.session_ending import request_endings
from tests.rpc.rtio.conftest import MakeServer
from tests.support import pki
from tests.support.commands import answer, run
from tests.support.postgres import free_port
from tests.support.rtio_simulator import RtioSimulator
from tests.support.staff import browser_of, staff

pytestmark = pytest.mark.django_db

Keyed = Callable[..., tuple[Device, str]]
NOW = timedelta()


@pytest.fixture
def device(keyed: Keyed, make_rtio_server: MakeServer) -> Device:
    make_rtio_server()
    return keyed()[0]


def causes() -> list[str]:
    return list(SessionEnding.objects.values_list("cause", flat=True))


def one(device: Device) -> Any:
    return Device.objects.filter(pk=device.pk)


def save_disabled(device: Device) -> None:
    device.enabled = False
    device.save(update_fields=["enabled"])


def revoke_key(device: Device) -> None:
    device.keys.get().revoke(by="kim")


def set_times(device: Device, **times: timedelta) -> None:
    key = device.keys.get()
    for name, span in times.items():
        setattr(key, name, timezone.now() + span)
    key.save()


def rotate(device: Device) -> None:
    PreSharedKey.objects.rotate(device=device, overlap=NOW)


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (lambda device: one(device).set_enabled(enabled=False), Cause.DISABLED),
        (save_disabled, Cause.DISABLED),
        (lambda device: one(device).delete_with_history(), Cause.DELETED),
        (lambda device: one(device).delete(), Cause.DELETED),
        (lambda device: device.delete(), Cause.DELETED),
        (revoke_key, Cause.REVOKED),
        (lambda device: revoke_credentials(one(device), by="kim"), Cause.REVOKED),
        (lambda device: device.keys.get().delete(), Cause.REVOKED),
        (lambda device: device.keys.all().delete(), Cause.REVOKED),
        (lambda device: set_times(device, not_after=-timedelta(seconds=1)), Cause.REVOKED),
        (lambda device: set_times(device, not_before=timedelta(hours=1)), Cause.REVOKED),
        (rotate, Cause.ROTATED),
    ],
)
def test_change_that_ends_access_ends_the_session(
    device: Device, change: Callable[[Device], object], cause: str
) -> None:
    with origin(Origin.ADMIN, user="kim"):
        change(device)
    row = SessionEnding.objects.get()
    assert (row.cause, row.requested_by, row.origin) == (cause, "kim", "admin")


@pytest.mark.parametrize(
    "change",
    [
        lambda device: one(device).set_enabled(enabled=True),
        lambda device: device.save(),
        lambda device: set_times(device, not_after=timedelta(hours=1)),
        lambda device: PreSharedKey.objects.issue(device=device),
        lambda device: PreSharedKey.objects.rotate(device=device, overlap=timedelta(days=1)),
    ],
)
def test_change_that_leaves_access_leaves_the_session(
    device: Device, change: Callable[[Device], object]
) -> None:
    change(device)
    assert causes() == []


def test_revoking_one_of_two_keys_leaves_the_session(device: Device) -> None:
    PreSharedKey.objects.issue(device=device)
    first, second = device.keys.all()
    first.revoke(by="kim")
    assert causes() == []
    second.revoke(by="kim")
    assert causes() == [Cause.REVOKED]


@pytest.mark.parametrize("change", [revoke_key, lambda device: set_times(device, not_after=NOW)])
def test_an_end_of_access_is_told_once(
    device: Device, change: Callable[[Device], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[AccessEnd] = []
    listeners = [lambda _devices, why: told.append(why)]
    monkeypatch.setattr("devices.extension_points.ACCESS_ENDED", listeners)
    change(device)
    assert told == [AccessEnd.REVOKED]


def test_key_that_ended_before_ends_nothing_when_it_is_changed(device: Device) -> None:
    device.keys.update(not_after=timezone.now())
    key = device.keys.get()
    key.label = "the old one"
    key.save()
    assert causes() == []


def test_certificate_beside_a_key_is_no_concern_of_rtio(device: Device) -> None:
    presented = pki.device_certificate("pump").pem
    Certificate.objects.register(device=device, presented=presented).revoke(by="kim")
    assert causes() == []
    Certificate.objects.register(device=device, presented=pki.device_certificate("two").pem)
    revoke_key(device)
    assert causes() == [Cause.REVOKED]


def test_certificates_that_are_deleted_together_end_access(device: Device) -> None:
    device.keys.update(revoked_at=timezone.now())
    Certificate.objects.register(device=device, presented=pki.device_certificate("pump").pem)
    device.certificates.all().delete()
    assert causes() == [Cause.REVOKED]


def test_import_that_disables_ends_the_session(device: Device, tmp_path: Path) -> None:
    file = tmp_path / "devices.csv"
    file.write_text(f"identifier,enabled\n{device.identifier},no\n")
    run("import_devices", str(file))
    assert causes() == [Cause.DISABLED]


def test_change_that_is_taken_back_ends_nothing(device: Device) -> None:
    with transaction.atomic():
        one(device).set_enabled(enabled=False)
        transaction.set_rollback(True)
    assert causes() == []


@pytest.mark.parametrize("why", [AccessEnd.DISABLED, AccessEnd.REVOKED])
def test_without_servers_a_change_costs_one_statement_more(
    device: Device, django_assert_num_queries: Any, why: AccessEnd
) -> None:
    RtioServer.objects.update(enabled=False)
    key = device.keys.get()
    with django_assert_num_queries(1):
        end_access([device], why)
    key.revoke(by="kim")
    assert causes() == []


def test_batch_costs_few_statements(
    keyed: Keyed, make_rtio_server: MakeServer, django_assert_max_num_queries: Any
) -> None:
    make_rtio_server()
    for _ in range(20):
        keyed()
    with django_assert_max_num_queries(20):
        Device.objects.all().set_enabled(enabled=False)
    assert len(causes()) == 20


# --- Pages ----------------------------------------------------------------------------------


def page_of(client: Client, device: Device) -> str:
    address = reverse("admin:devices_device_change", args=[device.pk])
    return client.get(address).content.decode()


@pytest.mark.once(on="sqlite")
def test_staff_end_a_session_on_purpose_and_see_the_receipt(device: Device) -> None:
    client = browser_of(staff("view_device", "view_sessionending", "end_session"))
    address = reverse("admin:rpc_sessionending_end", args=[device.pk])
    assert address in page_of(client, device)
    assert device.identifier in client.get(address).content.decode()
    assert SessionEnding.objects.count() == 0
    client.post(address)
    row = SessionEnding.objects.get()
    assert (row.cause, row.requested_by) == (Cause.ASKED, "kim")
    assert "retried until" in page_of(client, device)
    SessionEnding.objects.update(state=EndingState.ENDED, ended_after=16)
    assert "ended at rtio-1 after 16 ms" in page_of(client, device)
    listed = client.get(reverse("admin:rpc_sessionending_changelist")).content.decode()
    assert "ended at rtio-1 after 16 ms" in listed
    shown = client.get(reverse("admin:rpc_sessionending_change", args=[row.pk]))
    assert device.identifier in shown.content.decode()
    row.refresh_from_db()
    record([row], ChangeType.CREATED)  # as it is once the session has ended
    (receipt,) = timeline.latest(timeline.of(SessionEnding, row.pk)).entries
    assert [one.new for one in receipt.fields if one.name == "Device"] == [device.identifier]


@pytest.mark.once(on="sqlite")
def test_who_may_not_end_sessions_finds_no_button_and_no_page(device: Device) -> None:
    client = browser_of(staff("view_device", "view_sessionending"))
    address = reverse("admin:rpc_sessionending_end", args=[device.pk])
    assert address not in page_of(client, device)
    assert client.post(address).status_code == 403
    assert SessionEnding.objects.count() == 0


@pytest.mark.once(on="sqlite")
def test_page_says_which_ids_cannot_be_ended(
    device: Device, make_device: Callable[..., Device]
) -> None:
    client = browser_of(staff("view_device", "view_sessionending", "end_session"))
    other = make_device("//api.cesanta.com/device_1")
    assert "cannot be ended from here" in page_of(client, other)
    assert client.post(reverse("admin:rpc_sessionending_end", args=[other.pk])).status_code == 403


@pytest.mark.once(on="sqlite")
def test_page_says_through_which_server_it_was_let_in(
    device: Device, make_device: Callable[..., Device]
) -> None:
    from tests.rpc.rtio.test_session_ending import admit

    client = browser_of(staff("view_device", "view_sessionending", "view_callrecord"))
    assert "no server that let it in" in page_of(client, device)
    backend = make_device("//rtio.example/b", kind="backend")
    RtioServer.objects.update(backend=backend)
    admit(device, backend.identifier)
    assert "through rtio-1" in page_of(client, device)


# --- The command ----------------------------------------------------------------------------


@pytest.mark.once(on="sqlite")
def test_command_says_what_could_not_be_reached(device: Device) -> None:
    RtioServer.objects.update(port=free_port())
    (receipt,) = answer("end_sessions", device.identifier, "--wait", "1", code=1)["receipts"]
    assert receipt["state"] == "waiting"
    assert receipt["attempts"] >= 1
    assert receipt["detail"].startswith("no connection")


@pytest.mark.once(on="sqlite")
def test_command_ends_sessions_at_the_server_that_is_named(
    device: Device, make_rtio_server: MakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the verifier would answer is told from the test: the command waits in its thread."""
    with RtioSimulator(lambda identifier, secret: True) as rtio:
        make_rtio_server("other", host="::1", port=rtio.port)
        make_rtio_server("two", port=rtio.port)
        words = (device.identifier, "--server", "two", "--wait", "0")
        (receipt,) = answer("end_sessions", *words, code=1)["receipts"]
    assert receipt["server"] == "two"
    assert SessionEnding.objects.get().server.name == "two"


@pytest.mark.once(on="sqlite")
@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["nobody"], "no device"),
        (["{device}", "--server", "x"], "no such RTIO server"),
        (["short"], "36 bytes"),
    ],
)
def test_command_refuses_what_cannot_be(
    device: Device, make_device: Callable[..., Device], words: list[str], problem: str
) -> None:
    make_device("short")
    named = [word.format(device=device.identifier) for word in words]
    assert problem in run("end_sessions", *named, code=1)[1]


def test_old_receipts_are_pruned_with_the_journal(device: Device) -> None:
    request_endings([device], Cause.ASKED)
    SessionEnding.objects.update(requested_at=timezone.now() - timedelta(days=100))
    run("prune_journal", "--older-than", "90d")
    assert SessionEnding.objects.count() == 1  # it still waits
    SessionEnding.objects.update(state=EndingState.ENDED)
    assert answer("prune_journal", "--older-than", "90d")["receipts"] == 1
    assert SessionEnding.objects.count() == 0


@pytest.mark.parametrize("state", EndingState)
def test_deleted_server_takes_its_endings_along_and_ends_nothing(
    device: Device, make_rtio_server: MakeServer, state: str
) -> None:
    backend = Device.objects.create(identifier="//rtio.example/two", kind="backend")
    make_rtio_server(name="two", host="127.0.0.2", backend=backend)
    request_endings([device], Cause.ASKED)
    SessionEnding.objects.update(state=state)
    Event.objects.all().delete()

    RtioServer.objects.exclude(backend=backend).get().delete()
    backend.delete()

    assert not SessionEnding.objects.exists()
    told = Event.objects.filter(kind__startswith="session.")
    assert list(told.values_list("kind", "data__state")) == [("session.deleted", state)] * 2


@pytest.mark.django_db(transaction=True)
def test_receipts_are_pruned_in_short_transactions(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rpc.rtio.models.session_ending.PRUNED", 2)
    for _ in range(5):
        request_endings([device], Cause.ASKED)
        SessionEnding.objects.update(state=EndingState.ENDED)
    with CaptureQueriesContext(connection) as asked:
        assert SessionEnding.objects.all().prune() == 5
    steps = [query["sql"].split()[0] for query in asked]
    assert [step for step in steps if step in {"DELETE", "COMMIT"}] == ["DELETE", "COMMIT"] * 3
    assert not SessionEnding.objects.exists()


def test_pruned_receipts_are_no_sessions_ended_now(device: Device) -> None:
    request_endings([device], Cause.ASKED)
    old = timezone.now() - timedelta(days=100)
    SessionEnding.objects.update(requested_at=old, state=EndingState.ENDED)
    Event.objects.all().delete()

    run("prune_journal", "--older-than", "90d")

    assert list(Event.objects.values_list("kind", flat=True)) == ["session.deleted"]
