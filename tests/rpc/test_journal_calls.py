"""What each kind of call leaves in the journal, and what none ever does."""

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from django.db import OperationalError
from django.test import Client

from acl.models import CommandPermission
from devices.models import Device, PreSharedKey
from rpc import journal
from rpc.models import CallRecord
from tests.support.rules import make_rule

RTIO = "cfa09baa-4913-4ad7-a936-2e26f9671b05"
CLOUD, SENSOR, LAMP = "//api.cesanta.com/cloud", "//api.cesanta.com/sensor", "//host/lamp"
CLOUD_SECRET = "cloud-backend-key-0123456789"
DEVICE_SECRET = "device secret 0123456789 abcdef"
AUTHORIZE, AUTHENTICATE = "/v1/Auth.AuthorizeCommand", "/v1/Auth.Authenticate"
STRANGER = "203.0.113.9"

Post = Callable[..., int]


@pytest.fixture(autouse=True)
def registry(make_device: Callable[..., Device]) -> CommandPermission:
    for identifier, secret in (
        (RTIO, DEVICE_SECRET),
        (SENSOR, DEVICE_SECRET),
        (CLOUD, CLOUD_SECRET),
    ):
        kind = "backend" if identifier == CLOUD else "device"
        device = make_device(identifier, kind=kind)
        PreSharedKey.objects.register(device=device, secret=secret, random=True)
    make_device(LAMP, enabled=False)
    return make_rule(command="/v1/Light.*")


@pytest.fixture
def post(client: Client) -> Post:
    def send(
        path: str, content: Any, address: str = "127.0.0.1", method: str = "POST", **headers: str
    ) -> int:
        raw = content if isinstance(content, bytes) else json.dumps(content).encode()
        return client.generic(
            method, path, raw, content_type="", headers=headers, REMOTE_ADDR=address
        ).status_code

    return send


def basic(name: str, secret: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{secret}".encode()).decode()


def written() -> list[CallRecord]:
    journal.journal.flush()
    return list(CallRecord.objects.order_by("endpoint", "reason"))


def the_row() -> dict[str, Any]:
    """Return what the one row says, without what is empty."""
    (row,) = written()
    names = ("endpoint", "question", "caller", "subject", "destination", "command", "reason")
    values = {name: getattr(row, name) for name in names}
    return {name: value for name, value in values.items() if value}


def verification(**changes: Any) -> dict[str, Any]:
    question = {"method": "verify", "id": 1, "deviceid": RTIO, "devicesecret": DEVICE_SECRET}
    return question | changes


@pytest.mark.parametrize(
    ("changes", "question", "reason"),
    [
        ({}, "credential", "verified"),
        ({"devicesecret": "wrong"}, "credential", "wrong-secret"),
        ({"devicesecret": "xy"}, "credential", "secret-length"),
        ({"devicesecret": "x" * 129}, "credential", "secret-length"),
        ({"deviceid": "x" * 36}, "credential", "unknown-device"),
        ({"deviceid": "x" * 29}, "credential", "identifier-length"),
        ({"deviceid": 1}, "call", "invalid-body"),
        ({"id": "1"}, "call", "invalid-body"),
        ({"method": "refute"}, "call", "unknown-method"),
        ({"method": 7}, "call", "invalid-body"),
    ],
)
def test_a_verification(post: Post, changes: Any, question: str, reason: str) -> None:
    asked = verification(**changes)
    post("/deviceverifier", asked)
    subject = {"subject": asked["deviceid"]} if question == "credential" else {}
    assert the_row() == {
        "endpoint": "verifier",
        "question": question,
        "caller": "127.0.0.1",
        "reason": reason,
        **subject,
    }


def test_a_success_is_allowed_and_all_else_refused(post: Post) -> None:
    post("/deviceverifier", verification())
    post("/deviceverifier", verification())
    post("/deviceverifier", verification(devicesecret="wrong"))
    assert [(row.outcome, row.count) for row in written()] == [("allowed", 2), ("refused", 1)]


@pytest.mark.once(on="sqlite")
@pytest.mark.parametrize(
    ("body", "method", "reason"),
    [
        (b"no json", "POST", "invalid-body"),
        (b"[]", "POST", "invalid-body"),
        (b"x" * 65_537, "POST", "too-large"),
        (b"{}", "PUT", "method-not-allowed"),
    ],
)
def test_a_body_that_cannot_be_read(post: Post, body: bytes, method: str, reason: str) -> None:
    post("/deviceverifier", body, method=method)
    row = the_row()
    assert (row["reason"], row["question"]) == (reason, "call")
    assert "subject" not in row


def frame(*commands: tuple[str, Any], **members: Any) -> dict[str, Any]:
    return {"v": 1, "cmds": [{"cmd": name, "args": args} for name, args in commands], **members}


@pytest.mark.once(on="sqlite")
@pytest.mark.parametrize(
    ("command", "kept"),
    [
        (
            (AUTHORIZE, {"src": f"{SENSOR}.comp", "dst": SENSOR, "cmd": "/v1/Light.On"}),
            {"subject": SENSOR, "destination": SENSOR, "command": "/v1/Light.On"}
            | {"question": "command", "reason": "allowed"},
        ),
        (
            (AUTHORIZE, {"src": SENSOR, "dst": LAMP, "cmd": "/v1/Light.On"}),
            {"subject": SENSOR, "destination": LAMP, "command": "/v1/Light.On"}
            | {"question": "command", "reason": "disabled-destination"},
        ),
        (
            (AUTHORIZE, {"src": "//host/a.b.c", "dst": SENSOR, "cmd": "/v1/Light.On"}),
            {"subject": "//host/a.b.c", "destination": SENSOR, "command": "/v1/Light.On"}
            | {"question": "command", "reason": "unknown-source"},
        ),
        (
            (AUTHENTICATE, {"id": SENSOR, "credentials": {"psk": DEVICE_SECRET}}),
            {"subject": SENSOR, "question": "credential", "reason": "verified"},
        ),
        (
            (AUTHENTICATE, {"id": SENSOR, "credentials": {"cert": "no certificate"}}),
            {"subject": SENSOR, "question": "credential", "reason": "malformed"},
        ),
        (
            (AUTHENTICATE, {"id": SENSOR, "credentials": {}}),
            {"command": AUTHENTICATE, "question": "call", "reason": "invalid-arguments"},
        ),
        (
            ("/v1/Nope", {}),
            {"command": "/v1/Nope", "question": "call", "reason": "unknown-command"},
        ),
        (("/v1/Hello", {}), {"command": "/v1/Hello", "question": "call", "reason": "answered"}),
    ],
)
def test_a_command_of_a_frame(post: Post, command: tuple[str, Any], kept: dict[str, str]) -> None:
    post("/rpc", frame(command, src=CLOUD, key=CLOUD_SECRET), address=STRANGER)
    assert the_row() == {"endpoint": "frames", "caller": CLOUD, **kept}


def test_a_batch_is_counted_command_by_command(post: Post, registry: CommandPermission) -> None:
    light = (AUTHORIZE, {"src": SENSOR, "dst": SENSOR, "cmd": "/v1/Light.On"})
    heat = (AUTHORIZE, {"src": SENSOR, "dst": SENSOR, "cmd": "/v1/Heat.On"})
    right = (AUTHENTICATE, {"id": SENSOR, "credentials": {"psk": DEVICE_SECRET}})
    wrong = (AUTHENTICATE, {"id": SENSOR, "credentials": {"psk": "wrong"}})
    post("/", frame(light, heat, light, right, wrong, right))
    assert sorted((row.reason, row.count, row.rule) for row in written()) == [
        ("allowed", 2, registry.pk),
        ("no-rule", 1, None),
        ("verified", 2, None),
        ("wrong-secret", 1, None),
    ]


def test_the_rest_form(post: Post) -> None:
    credentials = {"authorization": basic(CLOUD, CLOUD_SECRET)}
    post(AUTHENTICATE, {"id": SENSOR, "credentials": {"psk": "x"}}, address=STRANGER, **credentials)
    assert the_row() == {
        "endpoint": "rest",
        "question": "credential",
        "caller": CLOUD,
        "subject": SENSOR,
        "reason": "wrong-secret",
    }


@pytest.mark.once(on="sqlite")
@pytest.mark.parametrize(
    ("headers", "claim", "claimed", "reason"),
    [
        ({}, {}, "", "not-authenticated"),
        ({}, {"src": CLOUD}, CLOUD, "not-authenticated"),
        ({}, {"src": CLOUD, "key": "wrong"}, CLOUD, "wrong-secret"),
        ({}, {"src": f"{CLOUD}.dispatcher", "key": "wrong"}, CLOUD, "wrong-secret"),
        ({}, {"src": SENSOR, "key": DEVICE_SECRET}, SENSOR, "permission-denied"),
        ({}, {"src": LAMP, "key": "wrong"}, LAMP, "disabled"),
        ({}, {"src": "//who/knows", "key": "wrong"}, "//who/knows", "unknown-device"),
        ({}, {"key": "wrong"}, "", "authentication-failed"),
        ({"authorization": basic(CLOUD, "wrong")}, {}, CLOUD, "wrong-secret"),
        (
            {"authorization": basic(CLOUD, CLOUD_SECRET)},
            {"src": SENSOR},
            CLOUD,
            "permission-denied",
        ),
        ({"authorization": "Basic !"}, {"src": SENSOR}, "", "authentication-failed"),
        ({"authorization": "Bearer x"}, {}, "", "authentication-failed"),
    ],
)
def test_a_caller_that_is_refused(
    post: Post, headers: dict[str, str], claim: dict[str, str], claimed: str, reason: str
) -> None:
    post("/", frame(("/v1/Hello", {}), **claim), address=STRANGER, **headers)
    (row,) = written()
    assert (row.question, row.caller, row.outcome) == ("caller", STRANGER, "refused")
    assert (row.subject, row.reason, row.command) == (claimed, reason, "")


def test_a_caller_whose_address_is_not_certain(post: Post) -> None:
    post("/deviceverifier", verification(), **{"x-forwarded-for": "127.0.0.1"})
    assert the_row() == {
        "endpoint": "verifier",
        "question": "caller",
        "reason": "not-authenticated",
    }


def test_a_frame_that_is_none(post: Post) -> None:
    post("/", b"{}", address=STRANGER)
    assert the_row() == {
        "endpoint": "frames",
        "question": "caller",
        "caller": STRANGER,
        "reason": "invalid-body",
    }


@pytest.mark.parametrize(
    ("error", "reason"),
    [(OperationalError("gone"), "unavailable"), (RuntimeError("odd"), "internal-error")],
)
def test_a_failure_of_ours(
    post: Post, monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("rpc.views.authenticate", fail)
    monkeypatch.setattr("rpc.commands.auth.authenticate_many", fail)
    post("/deviceverifier", verification())
    command = (AUTHENTICATE, {"id": SENSOR, "credentials": {"psk": DEVICE_SECRET}})
    post("/", frame(command))
    framed, verified = written()
    assert (verified.reason, framed.reason, framed.command) == (reason, reason, AUTHENTICATE)
    assert {verified.question, framed.question} == {"call"}


def test_switched_off_it_counts_nothing(post: Post, settings: Any) -> None:
    settings.JOURNAL = False
    post("/deviceverifier", verification())
    assert written() == []


@pytest.mark.parametrize(
    "text", ["a\x00b", "\ud800" + "x" * 30, "\u202eevil", "line\nbreak", "x" * 300]
)
def test_what_no_column_holds_is_made_readable(post: Post, text: str) -> None:
    command = (AUTHORIZE, {"src": text, "dst": text, "cmd": text})
    post("/", frame(command))
    row = the_row()
    for stored in (row["subject"], row["destination"], row["command"]):
        assert stored.isprintable()
        assert len(stored) == min(len(text), 255)
        assert stored[0] == text[0] or stored[0] == "\ufffd"


def test_no_secret_and_no_hash_of_one_is_anywhere(post: Post) -> None:
    """Whatever way a secret came in, right or wrong, no column holds it or what is made of it."""
    wrong = "a-wrong-guess-0123456789abcdef"
    keys = {"authorization": basic(CLOUD, CLOUD_SECRET)}
    post("/deviceverifier", verification())
    post("/deviceverifier", verification(devicesecret=wrong))
    post("/deviceverifier", verification(), address=STRANGER, **keys)
    post("/deviceverifier", verification(), authorization=basic(CLOUD, wrong))
    for secret in (DEVICE_SECRET, wrong):
        command = (AUTHENTICATE, {"id": SENSOR, "credentials": {"psk": secret, "cert": secret}})
        post("/", frame(command, src=CLOUD, key=CLOUD_SECRET))
        post("/", frame(command, src=CLOUD, key=wrong))
        post("/", json.dumps(frame(command, key=secret)).encode()[:-1])
    rows = written()
    assert len(rows) > 6
    held = json.dumps(list(CallRecord.objects.values()), default=str)
    digests = PreSharedKey.objects.values_list("digest", flat=True)
    for secret in (DEVICE_SECRET, CLOUD_SECRET, wrong, *digests):
        assert secret not in held
        assert base64.b64encode(secret.encode()).decode()[:16] not in held
    texts = {str(getattr(row, name)) for row in rows for name in ("caller", "subject", "command")}
    assert texts == {"127.0.0.1", CLOUD, RTIO, SENSOR, ""}
