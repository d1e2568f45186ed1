"""Ending sessions: taken over once, by nobody else, with a receipt for whatever happens."""

import queue
import socket
import ssl
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from django.test import Client
from django.utils import timezone

from devices.history import Origin, history_of, origin
from devices.models import Device
from rpc.models import CallRecord, Endpoint
from rpc.rtio import session_ending, takeover
from rpc.rtio.models import Cause, EndingState, RtioServer, SessionEnding, TlsMode
from rpc.rtio.one_time_secrets import generate, is_one_time, use
from rpc.rtio.session_ending import claim, request_endings
from tests.rpc.rtio.conftest import MakeServer, Registry
from tests.support import pki
from tests.support.postgres import free_port
from tests.support.rtio_simulator import PASSED, RtioSimulator

pytestmark = pytest.mark.django_db

Keyed = Callable[..., tuple[Device, str]]
ANYWHERE = "127.0.0.1"


@pytest.fixture
def server(make_rtio_server: MakeServer, rtio: RtioSimulator) -> RtioServer:
    return make_rtio_server(port=rtio.port)


def disable(*devices: Device) -> list[SessionEnding]:
    Device.objects.filter(pk__in=[device.pk for device in devices]).update(enabled=False)
    with origin(Origin.SHELL, user="kim"):
        return request_endings(devices, Cause.DISABLED)


def only() -> SessionEnding:
    return SessionEnding.objects.select_related("server").get()


# --- As it should be ------------------------------------------------------------------------


def test_disabled_device_loses_its_session_and_is_refused_on_return(
    registry: Registry, rtio: RtioSimulator, server: RtioServer, keyed: Keyed
) -> None:
    device, secret = keyed(last_seen=timezone.now())
    live = registry.connect(rtio, device, secret)
    assert live.code == PASSED
    disable(device)
    assert registry.end_all()
    assert live.closes_within(1)
    assert registry.connect(rtio, device, secret).code == takeover.FAILED
    row = only()
    assert row.state == EndingState.ENDED
    assert row.requested_by == "kim"
    assert row.receipt() == f"ended at rtio-1 after {row.ended_after} ms"
    assert row.ended_after is not None
    assert row.ended_after < 2000
    assert row.secret_digest is None


def test_success_is_told_by_the_secret_s_use_and_not_by_the_code(
    registry: Registry, rtio: RtioSimulator, server: RtioServer, keyed: Keyed
) -> None:
    rtio.passed_code = 0
    device, _secret = keyed(last_seen=timezone.now())
    disable(device)
    assert registry.end_all()
    assert only().state == EndingState.ENDED


def test_our_connection_stays_about_a_second_then_rtio_forgets_the_id(
    registry: Registry, rtio: RtioSimulator, server: RtioServer, keyed: Keyed
) -> None:
    device, _secret = keyed()
    disable(device)
    assert registry.end_all()
    assert rtio.sessions == {device.identifier}
    deadline = time.monotonic() + 5
    while rtio.sessions and time.monotonic() < deadline:
        time.sleep(0.01)
    assert rtio.sessions == set()
    assert takeover.HOLD_SECONDS == 1.0


def test_an_end_of_the_process_waits_for_the_last_connection(
    registry: Registry,
    rtio: RtioSimulator,
    server: RtioServer,
    keyed: Keyed,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(session_ending, "HOLD_SECONDS", 0.6)
    disable(keyed()[0])
    assert registry.end_all()
    began = time.monotonic()
    registry.ender.close()
    assert time.monotonic() - began > 0.3


def test_server_that_let_the_device_in_last_is_asked_first(
    registry: Registry,
    rtio: RtioSimulator,
    make_rtio_server: MakeServer,
    keyed: Keyed,
    make_device: Callable[..., Device],
) -> None:
    backend = make_device("//rtio.example/b", kind="backend")
    first = make_rtio_server("a", port=free_port())
    last = make_rtio_server("b", port=rtio.port, backend=backend)
    device, _secret = keyed()
    admit(device, backend.identifier)
    request_endings([device], Cause.ASKED)
    attempts = claim({first.pk: 5, last.pk: 5})
    assert {one.row.server_id: one.row.admitted_here for one in attempts} == {
        first.pk: False,
        last.pk: True,
    }


def admit(device: Device, caller: str, *, ago: timedelta = timedelta()) -> None:
    """Have the journal say that a caller let the device in, just now or so long ago."""
    now = timezone.now() - ago
    CallRecord.objects.create(
        digest=uuid4(),
        bucket=now.replace(minute=0, second=0, microsecond=0),
        endpoint=Endpoint.VERIFIER,
        question="credential",
        caller=caller,
        subject=device.identifier,
        outcome="allowed",
        reason="verified",
        count=1,
        first=now,
        last=now,
    )


@pytest.mark.parametrize("first", ["a", "b"])
def test_of_several_callers_the_last_one_let_it_in(
    first: str, make_device: Callable[..., Device]
) -> None:
    device = make_device()
    for caller in ("a", "b"):
        admit(device, caller, ago=timedelta(minutes=2 if caller == first else 1))
    last = "b" if first == "a" else "a"
    assert session_ending.last_admitted([device.identifier]) == {device.identifier: last}


def test_what_let_it_in_a_month_ago_says_nothing(make_device: Callable[..., Device]) -> None:
    device = make_device()
    admit(device, "a", ago=timedelta(days=31))
    assert session_ending.last_admitted([device.identifier]) == {}


def test_a_server_s_own_devices_come_first_then_the_oldest(
    make_rtio_server: MakeServer, keyed: Keyed, make_device: Callable[..., Device]
) -> None:
    backend = make_device("//rtio.example/b", kind="backend")
    server = make_rtio_server("a", backend=backend)
    other = make_rtio_server("b", port=free_port())
    devices = [keyed()[0] for _ in range(3)]
    admit(devices[2], backend.identifier)
    for device in devices:
        disable(device)
    taken = [one.row for _ in devices for one in claim({server.pk: 1})]
    assert [row.identifier for row in taken] == [devices[n].identifier for n in (2, 0, 1)]
    assert {row.server_id for row in taken} == {server.pk}
    assert {one.row.server_id for one in claim({other.pk: 5})} == {other.pk}


def test_server_where_it_was_not_says_not_connected(
    registry: Registry, rtio: RtioSimulator, server: RtioServer, keyed: Keyed
) -> None:
    device, _secret = keyed()
    admit(device, "another RTIO")
    disable(device)
    assert registry.end_all()
    assert only().state == EndingState.NOT_CONNECTED


def test_receipt_is_in_the_history_of_the_device_as_who_asked(
    registry: Registry, rtio: RtioSimulator, server: RtioServer, keyed: Keyed
) -> None:
    device, _secret = keyed(last_seen=timezone.now())
    with origin(Origin.ADMIN, user="kim"):
        request_endings([device], Cause.ASKED)
    assert registry.end_all()
    change = history_of(SessionEnding).objects.get()
    assert (change.device_id, change.state, change.origin) == (device.pk, "ended", "admin")
    assert change.history_user_id == "kim"


def test_each_receipt_names_its_own_cause(server: RtioServer, keyed: Keyed) -> None:
    causes = {keyed()[0].identifier: cause for cause in (Cause.ROTATED, Cause.ASKED)}
    with origin(Origin.SHELL, user="kim"):
        for identifier, cause in causes.items():
            request_endings(Device.objects.filter(identifier=identifier), cause)
    RtioServer.objects.update(enabled=False)
    session_ending.give_up()
    changes = history_of(SessionEnding).objects.all()
    assert {one.identifier: one.history_change_reason for one in changes} == {
        identifier: cause.label for identifier, cause in causes.items()
    }


def test_deleted_device_loses_its_session(
    registry: Registry, rtio: RtioSimulator, server: RtioServer, keyed: Keyed
) -> None:
    device, secret = keyed()
    live = registry.connect(rtio, device, secret)
    request_endings([device], Cause.DELETED)
    device.delete()
    assert registry.end_all()
    assert live.closes_within(1)
    assert only().device_id is not None  # the history of the deleted device has its receipt


def test_nothing_is_asked_where_no_server_is_switched_on(
    keyed: Keyed, make_rtio_server: MakeServer, django_assert_num_queries: Any
) -> None:
    make_rtio_server(enabled=False)
    device, _secret = keyed()
    with django_assert_num_queries(1):
        assert request_endings([device], Cause.ASKED) == []


@pytest.mark.once(on="sqlite")
@pytest.mark.parametrize("identifier", ["d" * 35, "d" * 37, "ä" * 36, "d" * 30 + ":ddddd"])
def test_ids_that_rtio_does_not_take_are_left_out(
    server: RtioServer, keyed: Keyed, identifier: str
) -> None:
    device, _secret = keyed(identifier=identifier)
    assert request_endings([device], Cause.ASKED) == []


def test_backends_have_no_session(server: RtioServer, keyed: Keyed) -> None:
    device, _secret = keyed(kind="backend")
    assert request_endings([device], Cause.ASKED) == []


# --- Servers that do not do as they should --------------------------------------------------


def hang_up(connection: socket.socket) -> None:
    connection.close()


def say_nothing(connection: socket.socket) -> None:
    connection.settimeout(3)
    while connection.recv(100):
        pass


def talk_http(connection: socket.socket) -> None:
    connection.recv(100)
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def answer_another(connection: socket.socket) -> None:
    connection.recv(100)
    connection.sendall(b"\x21\x77\x77\x00\x00")


def let_in_unasked(connection: socket.socket) -> None:
    connection.recv(100)
    connection.sendall(b"\x21\x00\x01\x00\x00")


def fail_unasked(connection: socket.socket) -> None:
    connection.recv(100)
    connection.sendall(b"\x20\x00\x01\x00\x00")


def refuse_unasked(connection: socket.socket) -> None:
    connection.recv(100)
    connection.sendall(b"\x23\x00\x01\x00\x00")


@pytest.mark.once(on="sqlite")
@pytest.mark.parametrize(
    ("misbehaviour", "problem"),
    [
        (hang_up, "it closed the connection without an answer"),
        (say_nothing, "it did not answer in time"),
        (talk_http, "what answers there is no RTIO"),
        (answer_another, "what answers there is no RTIO"),
        (let_in_unasked, "RTIO let us in without asking this registry"),
        (fail_unasked, "RTIO could not ask its verifier"),
        (refuse_unasked, "RTIO refused without asking this registry"),
    ],
)
def test_odd_servers_leave_a_clear_problem_and_are_asked_again(
    registry: Registry,
    rtio: RtioSimulator,
    server: RtioServer,
    keyed: Keyed,
    monkeypatch: pytest.MonkeyPatch,
    misbehaviour: Any,
    problem: str,
) -> None:
    monkeypatch.setattr(takeover, "ANSWER_SECONDS", 0.3)
    rtio.misbehave = misbehaviour
    device, _secret = keyed(last_seen=timezone.now())
    disable(device)
    assert not registry.end_all(0.8)
    row = only()
    assert (row.state, row.detail, row.intercepted) == (EndingState.WAITING, problem, 0)
    assert row.attempts >= 1
    is_down = not problem.startswith("RTIO")
    assert bool(registry.ender._loads[server.pk].failures) is is_down
    rtio.misbehave = None
    SessionEnding.objects.update(due_at=timezone.now())
    assert registry.end_all()
    assert only().state == EndingState.ENDED


def test_unreachable_server_is_asked_until_it_is_given_up(
    registry: Registry, make_rtio_server: MakeServer, keyed: Keyed
) -> None:
    make_rtio_server(port=free_port())
    device, _secret = keyed()
    disable(device)
    assert not registry.end_all(0.3)
    assert only().detail.startswith("no connection: ")
    SessionEnding.objects.update(
        due_at=timezone.now(), requested_at=timezone.now() - timedelta(hours=2)
    )
    assert registry.end_all()
    row = only()
    assert row.state == EndingState.GIVEN_UP
    assert row.receipt().startswith("could not be ended: no connection: ")
    assert list(SessionEnding.objects.all().unresolved_at(timezone.now()))


def test_one_server_down_holds_up_no_other(
    registry: Registry,
    rtio: RtioSimulator,
    make_rtio_server: MakeServer,
    keyed: Keyed,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One refuses connections; another answers nothing, for longer than all others take."""
    monkeypatch.setattr(takeover, "ANSWER_SECONDS", 120.0)
    rows = SessionEnding.objects.all()
    ended = rows.filter(server__name="up", state=EndingState.ENDED)

    def is_done() -> bool:
        registry.answer()
        return ended.count() == 30

    with socket.create_server(("127.0.0.1", 0), backlog=64) as silent:
        make_rtio_server("silent", port=silent.getsockname()[1])
        make_rtio_server("down", port=free_port())
        make_rtio_server("up", port=rtio.port)
        disable(*(keyed(last_seen=timezone.now())[0] for _ in range(30)))
        assert registry.ender.run(is_done, 60)
        assert rows.filter(server__name="down", state=EndingState.WAITING).count() == 30
        unanswered = rows.filter(server__name="silent", state=EndingState.WAITING, detail="")
        assert unanswered.filter(attempts=1).count() == 30


def tls_server(folder: Path, party: pki.Party) -> ssl.SSLContext:
    chain = folder / "chain.pem"
    private = party.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    chain.write_bytes(party.pem.encode() + private)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)
    return context


@pytest.mark.once(on="sqlite")
@pytest.mark.parametrize(
    ("mode", "certificate", "problem"),
    [
        (TlsMode.PINNED, "own", ""),
        (TlsMode.PINNED, "other", "TLS failed: it shows another certificate"),
        (TlsMode.CHECKED, "authority", ""),
        (TlsMode.CHECKED, "other", "TLS failed: "),
        (TlsMode.CHECKED, "", "TLS failed: "),
    ],
)
def test_secret_goes_only_to_the_server_with_the_right_certificate(
    registry: Registry,
    make_rtio_server: MakeServer,
    keyed: Keyed,
    tmp_path: Path,
    mode: str,
    certificate: str,
    problem: str,
) -> None:
    # Unless told otherwise, Python 3.13 refuses certificates without key identifiers, and earlier
    # versions refuse an intermediate authority whose root is not there.
    middle = pki.authority("Middle", pki.authority())
    extensions = [
        pki.usage(),
        pki.SERVER,
        x509.SubjectAlternativeName([x509.DNSName("localhost")]),
    ]
    own = pki.issue("localhost", middle, extensions=extensions)
    known = {"own": own.pem, "other": pki.authority("Other").pem, "authority": middle.pem, "": ""}
    device, _secret = keyed(last_seen=timezone.now())
    with RtioSimulator(registry.as_caller("x"), tls=tls_server(tmp_path, own)) as rtio:
        make_rtio_server(host="localhost", port=rtio.port, tls=mode, certificate=known[certificate])
        disable(device)
        done = registry.end_all(0.8 if problem else 10)
    assert done is not bool(problem)
    assert only().detail.startswith(problem)
    if problem:
        assert rtio.asked == []


@pytest.mark.once(on="sqlite")
def test_plain_server_gets_nothing_from_a_tls_client_and_the_reverse(
    registry: Registry, rtio: RtioSimulator, make_rtio_server: MakeServer, keyed: Keyed
) -> None:
    make_rtio_server(port=rtio.port, tls=TlsMode.CHECKED)
    device, _secret = keyed()
    disable(device)
    assert not registry.end_all(0.5)
    assert only().detail != ""
    assert rtio.asked == []


@pytest.mark.once(on="sqlite")
def test_name_that_leads_abroad_gets_no_secret_without_tls(
    registry: Registry,
    rtio: RtioSimulator,
    make_rtio_server: MakeServer,
    keyed: Keyed,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(takeover, "is_near", lambda address: False)
    make_rtio_server(host="localhost", port=rtio.port)
    device, _secret = keyed()
    disable(device)
    assert not registry.end_all(0.5)
    assert only().detail == "its address is outside private networks, and TLS is off"
    assert rtio.asked == []


# --- The secret -----------------------------------------------------------------------------


@pytest.fixture
def due(server: RtioServer, keyed: Keyed) -> tuple[Device, str]:
    """Return a disabled device, and the secret with which its session is due to be ended."""
    device, _secret = keyed()
    disable(device)
    (attempt,) = claim({server.pk: 1})
    return device, attempt.secret


def test_secret_counts_once(due: tuple[Device, str]) -> None:
    device, secret = due
    assert use(device.identifier, secret, ANYWHERE) is True
    assert use(device.identifier, secret, ANYWHERE) is False


@pytest.mark.once(on="sqlite")
def test_secret_is_256_bits_in_a_form_of_its_own_that_rtio_takes() -> None:
    made = {generate() for _ in range(100)}
    assert len(made) == 100
    for secret in made:
        assert is_one_time(secret)
        assert 24 <= len(secret.encode()) <= 64


def test_secret_is_for_its_device_alone(due: tuple[Device, str], keyed: Keyed) -> None:
    other, _secret = keyed()
    assert use(other.identifier, due[1], ANYWHERE) is False
    assert use(due[0].identifier, due[1], ANYWHERE) is True


def test_secret_is_for_its_server_alone(
    due: tuple[Device, str], server: RtioServer, make_device: Callable[..., Device]
) -> None:
    server.backend = make_device("//rtio.example/own", kind="backend")
    server.save()
    for caller in ("//rtio.example/other", None, ANYWHERE):
        assert use(due[0].identifier, due[1], caller) is False
    assert use(due[0].identifier, due[1], "//rtio.example/own") is True


def test_secret_ends_after_seconds(due: tuple[Device, str]) -> None:
    row = only()
    assert row.secret_valid_until is not None
    assert row.secret_valid_until - timezone.now() < timedelta(seconds=15)
    SessionEnding.objects.update(secret_valid_until=timezone.now())
    assert use(due[0].identifier, due[1], ANYWHERE) is False


def test_secret_is_void_once_the_device_may_connect_again(due: tuple[Device, str]) -> None:
    Device.objects.update(enabled=True)
    assert use(due[0].identifier, due[1], ANYWHERE) is False


def test_secret_is_void_once_the_session_is_ended(due: tuple[Device, str]) -> None:
    SessionEnding.objects.update(state=EndingState.ENDED)
    assert use(due[0].identifier, due[1], ANYWHERE) is False


@pytest.mark.once(on="sqlite")
@pytest.mark.parametrize("guess", ["end." + "A" * 43, "end." + "é" * 43, "end." + "\ud800" * 43])
def test_guess_is_no_secret_of_ours(due: tuple[Device, str], guess: str) -> None:
    assert use(due[0].identifier, guess, ANYWHERE) is None


def test_digest_alone_admits_nobody(due: tuple[Device, str]) -> None:
    stored = only().secret_digest
    assert stored is not None
    assert due[1] not in stored
    assert use(due[0].identifier, stored, ANYWHERE) is None


def test_secret_used_by_others_is_replaced_at_once_and_staff_are_told(
    registry: Registry, rtio: RtioSimulator, server: RtioServer, keyed: Keyed
) -> None:
    registry.thieves.append(ANYWHERE)
    device, secret = keyed(last_seen=timezone.now())
    live = registry.connect(rtio, device, secret)
    disable(device)
    assert registry.end_all(3)
    assert live.closes_within(1)
    row = only()
    assert (row.state, row.intercepted, row.attempts) == (EndingState.ENDED, 1, 2)
    assert len({secret for _identifier, secret in rtio.asked}) == 3
    assert SessionEnding.objects.all().unresolved_at(timezone.now()).get() == row


def test_start_page_names_what_staff_must_look_after_until_it_is_ended(
    admin_client: Client, server: RtioServer, keyed: Keyed
) -> None:
    device, _secret = keyed()
    disable(device)
    label = "Sessions that could not be ended"
    assert label not in admin_client.get("/admin/").content.decode()
    SessionEnding.objects.update(state=EndingState.GIVEN_UP, detail="no connection: x")
    page = admin_client.get("/admin/")
    assert label in page.content.decode()
    assert "attention=open" in page.content.decode()
    listed = admin_client.get("/admin/rpc/sessionending/?attention=open").content.decode()
    assert device.identifier in listed
    request_endings([device], Cause.ASKED)
    SessionEnding.objects.waiting().update(state=EndingState.ENDED)
    assert label not in admin_client.get("/admin/").content.decode()


# --- At the same time -----------------------------------------------------------------------


def test_device_enabled_again_meanwhile_keeps_its_session(
    registry: Registry, rtio: RtioSimulator, server: RtioServer, keyed: Keyed
) -> None:
    device, secret = keyed()
    live = registry.connect(rtio, device, secret)
    disable(device)
    Device.objects.update(enabled=True)
    assert registry.end_all()
    assert not live.closes_within(0.1)
    assert only().state == EndingState.CANCELLED
    assert len(rtio.asked) == 1


def test_session_that_staff_end_on_purpose_ends_though_the_device_is_enabled(
    registry: Registry, rtio: RtioSimulator, server: RtioServer, keyed: Keyed
) -> None:
    device, secret = keyed(last_seen=timezone.now())
    live = registry.connect(rtio, device, secret)
    request_endings([device], Cause.ASKED)
    assert registry.end_all()
    assert live.closes_within(1)
    assert registry.connect(rtio, device, secret).code == PASSED


def test_two_staff_members_make_one_ending(server: RtioServer, keyed: Keyed) -> None:
    device, _secret = keyed()
    with origin(Origin.SHELL, user="kim"):
        assert len(request_endings([device], Cause.ASKED)) == 1
    with origin(Origin.SHELL, user="sam"):
        assert request_endings([device], Cause.DISABLED) == []
    assert (only().requested_by, only().cause) == ("sam", Cause.DISABLED)


def test_asking_again_leaves_other_devices_and_servers_alone(
    server: RtioServer, make_rtio_server: MakeServer, keyed: Keyed
) -> None:
    other = make_rtio_server("other", port=free_port())
    one, two = (keyed()[0] for _ in range(2))
    with origin(Origin.SHELL, user="kim"):
        request_endings([one, two], Cause.ASKED)
    with origin(Origin.SHELL, user="sam"):
        request_endings([two], Cause.DISABLED, servers=[other])
    rows = SessionEnding.objects.filter(requested_by="sam", cause=Cause.DISABLED)
    assert [(row.identifier, row.server) for row in rows] == [(two.identifier, other)]


@pytest.mark.parametrize("thread", [None, threading.current_thread()])
def test_a_thread_that_ends_sessions_is_woken_at_the_commit(
    server: RtioServer,
    keyed: Keyed,
    monkeypatch: pytest.MonkeyPatch,
    django_capture_on_commit_callbacks: Any,
    thread: threading.Thread | None,
) -> None:
    done: queue.SimpleQueue[None] = queue.SimpleQueue()
    monkeypatch.setattr(session_ending.ender, "_done", done)
    monkeypatch.setattr(session_ending.ender, "_thread", thread)
    device, _secret = keyed()
    with django_capture_on_commit_callbacks(execute=True):
        request_endings([device], Cause.ASKED)
        assert done.empty()
    assert done.empty() is (thread is None)


def test_what_is_asked_for_again_meanwhile_is_done_again(
    registry: Registry, rtio: RtioSimulator, server: RtioServer, keyed: Keyed
) -> None:
    device, _secret = keyed(last_seen=timezone.now())
    request_endings([device], Cause.ASKED)
    (attempt,) = claim({server.pk: 1})
    request_endings([device], Cause.ASKED)
    use(device.identifier, attempt.secret, ANYWHERE)
    attempt.code = PASSED
    session_ending.settle([attempt])
    assert only().state == EndingState.WAITING
    assert not history_of(SessionEnding).objects.exists()
    assert registry.end_all()
    assert only().state == EndingState.ENDED


def test_of_two_servers_the_one_that_let_it_in_had_the_session(
    make_rtio_server: MakeServer, keyed: Keyed, make_device: Callable[..., Device]
) -> None:
    backend = make_device("//rtio.example/b", kind="backend")
    own = make_rtio_server("own", backend=backend)
    other = make_rtio_server("other", port=free_port())
    device, _secret = keyed()
    admit(device, backend.identifier)
    request_endings([device], Cause.ASKED)
    attempts = claim({own.pk: 1, other.pk: 1})
    for attempt in attempts:
        use(device.identifier, attempt.secret, backend.identifier)
        attempt.code = PASSED
    session_ending.settle(attempts)
    states = dict(SessionEnding.objects.values_list("server__name", "state"))
    assert states == {"own": EndingState.ENDED, "other": EndingState.NOT_CONNECTED}


def test_secret_used_by_others_is_told_until_the_next_attempt(
    server: RtioServer, due: tuple[Device, str]
) -> None:
    SessionEnding.objects.update(due_at=timezone.now())
    (attempt,) = claim({server.pk: 1})
    use(due[0].identifier, attempt.secret, ANYWHERE)
    attempt.code = takeover.FAILED
    session_ending.settle([attempt])
    assert only().detail == "somebody else used the secret"
    assert len(claim({server.pk: 1})) == 1


def test_receipt_tells_the_time_until_the_answer(server: RtioServer, keyed: Keyed) -> None:
    device, _secret = keyed(last_seen=timezone.now())
    request_endings([device], Cause.ASKED)
    (attempt,) = claim({server.pk: 1})
    use(device.identifier, attempt.secret, ANYWHERE)
    attempt.code, attempt.answered_at = PASSED, only().requested_at + timedelta(seconds=1.5)
    session_ending.settle([attempt])
    assert (only().state, only().ended_after) == (EndingState.ENDED, 1500)


def test_what_is_being_attempted_is_not_given_up(server: RtioServer, keyed: Keyed) -> None:
    disable(keyed()[0])
    claim({server.pk: 1})
    SessionEnding.objects.update(requested_at=timezone.now() - timedelta(hours=2))
    session_ending.give_up()
    assert only().state == EndingState.WAITING


def test_row_is_claimed_by_one_process_only(server: RtioServer, keyed: Keyed) -> None:
    disable(keyed()[0])
    assert len(claim({server.pk: 1})) == 1
    assert claim({server.pk: 1}) == []


def test_killed_process_leaves_its_work_to_another(
    registry: Registry, rtio: RtioSimulator, server: RtioServer, keyed: Keyed
) -> None:
    device, secret = keyed(last_seen=timezone.now())
    live = registry.connect(rtio, device, secret)
    disable(device)
    (lost,) = claim({server.pk: 1})
    assert not registry.end_all(0.1)
    SessionEnding.objects.update(due_at=timezone.now())  # the lease is over
    assert registry.end_all()
    assert live.closes_within(1)
    assert use(device.identifier, lost.secret, ANYWHERE) is None


def test_server_that_is_switched_off_is_asked_no_more(
    registry: Registry, rtio: RtioSimulator, server: RtioServer, keyed: Keyed
) -> None:
    disable(keyed()[0])
    RtioServer.objects.update(enabled=False)
    assert registry.end_all()
    assert only().receipt() == "could not be ended: the server is disabled here"
    assert rtio.asked == []
