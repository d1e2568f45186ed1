"""The hub configuration and the issuer of tokens, row by row of their contract."""

import base64
import json
import time
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.db import OperationalError
from django.test import Client

from acl.models import CommandPermission
from devices.models import Device, PreSharedKey
from rpc import journal
from rpc.models import CallRecord, DeviceServiceRoute, RtioServer, SessionEnding
from rpc.rtio import one_time_secrets, tokens
from rpc.rtio.models import Cause
from rpc.rtio.session_ending import claim, request_endings
from tests.support.rtio_simulator import check_token
from tests.support.rules import make_rule

pytestmark = [pytest.mark.django_db, pytest.mark.once(on="sqlite")]

IDENTIFIER = "cfa09baa-4913-4ad7-a936-2e26f9671b05"
APP = "//apps.example/phone"
Post = Callable[..., Any]
EMPTY = '{"deviceservicemap":{}}'
VERIFIER = {"method": "verify", "deviceid": IDENTIFIER, "devicesecret": "x" * 32}
HUB = {"method": "getconfig"}
ISSUER = {"method": "jwtissuer", "deviceid": IDENTIFIER}


def basic(name: str, secret: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{name}:{secret}".encode()).decode()}


@pytest.fixture
def post(client: Client) -> Post:
    def ask(path: str, content: Any, headers: dict[str, str] | None = None, **meta: Any) -> Any:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        response = client.generic("POST", path, body, content_type="", headers=headers, **meta)
        assert response["Content-Type"] == "application/json"
        return response.status_code, json.loads(response.content)

    return ask


@pytest.fixture
def app(make_device: Callable[..., Device], settings: Any) -> dict[str, str]:
    """Return the headers of an application that may have tokens for one device."""
    settings.JWT_SIGNING_KEYS = {
        "b": Ed25519PrivateKey.generate(),
        "a": Ed25519PrivateKey.generate(),
    }
    backend, device = make_device(APP, kind="backend"), make_device(IDENTIFIER)
    make_rule(backend, device, tokens.COMMAND)
    return basic(APP, PreSharedKey.objects.issue(device=backend)[1])


# --- What the two have in common with the verifier ------------------------------------------


@pytest.mark.parametrize(
    ("path", "right"), [("/hubconfiger", HUB), ("/hubconfiger/", HUB), ("/jwtissuer", ISSUER)]
)
@pytest.mark.parametrize(
    ("changes", "request_id", "code"),
    [
        ({"id": "1999"}, 0, "BAD_REQUEST"),
        ({"id": 1999.0}, 0, "BAD_REQUEST"),
        ({"id": True}, 0, "BAD_REQUEST"),
        ({"id": -1}, 0, "BAD_REQUEST"),
        ({"id": 2**32}, 0, "BAD_REQUEST"),
        ({"id": None}, 0, "BAD_REQUEST"),
        ({"id": 2**32 - 1, "method": "verify"}, 2**32 - 1, "METHOD_NOT_ALLOWED"),
        ({"method": "verify"}, 1999, "METHOD_NOT_ALLOWED"),
        ({"method": ""}, 1999, "METHOD_NOT_ALLOWED"),
        ({"method": None}, 1999, "BAD_REQUEST"),
        ({"method": 7}, 1999, "BAD_REQUEST"),
    ],
)
def test_envelope_is_the_verifier_s(
    post: Post,
    app: dict[str, str],
    path: str,
    right: dict[str, Any],
    changes: dict[str, Any],
    request_id: int,
    code: str,
) -> None:
    status, answer = post(path, {"id": 1999, **right, **changes}, app)
    nothing = {"config": "", "digest": 0} if right is HUB else {}
    assert (status, answer) == (200, {"id": request_id, "code": code, **nothing})


@pytest.mark.parametrize("path", ["/hubconfiger", "/jwtissuer"])
@pytest.mark.parametrize("body", [b"", b"[]", b"x", b"\xff", b"[" * 60_000, b'"OK"'])
def test_whatever_is_no_question_is_a_bad_request(
    post: Post, app: dict[str, str], path: str, body: bytes
) -> None:
    status, answer = post(path, body, app)
    assert (status, answer["id"], answer["code"]) == (200, 0, "BAD_REQUEST")


@pytest.mark.parametrize("path", ["/hubconfiger", "/jwtissuer"])
def test_status_of_what_is_no_post_or_too_large_or_not_let_in(
    client: Client, post: Post, app: dict[str, str], path: str
) -> None:
    got = client.get(path, headers=app)
    assert (got.status_code, got["Allow"]) == (405, "POST")
    assert json.loads(got.content)["code"] == "METHOD_NOT_ALLOWED"
    status, answer = post(path, b" " * (64 * 1024 + 1), app)
    assert (status, answer["code"]) == (413, "BAD_REQUEST")
    stranger = client.generic("POST", path, b"{}", content_type="", REMOTE_ADDR="203.0.113.9")
    assert stranger.status_code == 401
    assert stranger["WWW-Authenticate"].startswith("Basic")
    assert json.loads(stranger.content)["id"] == 0


def test_device_s_own_secret_lets_nobody_in(post: Post, make_device: Callable[..., Device]) -> None:
    secret = PreSharedKey.objects.issue(device=make_device(IDENTIFIER))[1]
    for path, content in (("/hubconfiger", HUB), ("/jwtissuer", ISSUER)):
        status, answer = post(path, {"id": 1, **content}, basic(IDENTIFIER, secret))
        assert (status, answer["code"]) == (403, "BAD_REQUEST")


# --- Hub configuration ----------------------------------------------------------------------


def test_documented_example_is_answered_as_documented(
    post: Post, django_assert_num_queries: Any
) -> None:
    base = "http://localhost:17517/deviceservice"
    for uri in ("/aa/bb", "/aa/cc", "/aa/dd"):
        DeviceServiceRoute(uri=uri, url=base + uri).save()
    question = {"id": 1999, "method": "getconfig", "deviceid": "", "devicesecret": ""}
    with django_assert_num_queries(1):
        status, answer = post("/hubconfiger", question)
    assert (status, list(answer)) == (200, ["id", "code", "config", "digest"])
    assert (answer["id"], answer["code"], answer["digest"]) == (1999, "OK", 785914363)
    assert json.loads(answer["config"])["deviceservicemap"]["/aa/cc"] == base + "/aa/cc"


def test_no_route_is_an_empty_map(post: Post) -> None:
    answer = {"id": 0, "code": "OK", "config": EMPTY, "digest": zlib.crc32(EMPTY.encode())}
    assert post("/hubconfiger", {"id": 0, **HUB}) == (200, answer)


def test_digest_is_of_what_rtio_decodes(post: Post) -> None:
    DeviceServiceRoute(uri="/ä/<&>", url="http://h/é?a=1&b=2").save()
    _status, answer = post("/hubconfiger", {"id": 1, **HUB})
    assert answer["digest"] == zlib.crc32(answer["config"].encode())


def test_hub_without_a_database_keeps_rtio_s_routes(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> str:
        raise OperationalError("down")

    monkeypatch.setattr(type(DeviceServiceRoute.objects.all()), "config", fail)
    answer = {"id": 7, "code": "INTERNAL_SERVER_ERROR", "config": "", "digest": 0}
    assert post("/hubconfiger", {"id": 7, **HUB}) == (200, answer)


# --- Tokens ---------------------------------------------------------------------------------


def test_token_is_issued_to_whom_the_rules_allow_it(
    post: Post, app: dict[str, str], settings: Any
) -> None:
    status, answer = post("/jwtissuer", {"id": 12667, **ISSUER, "expires": 86400}, app)
    assert (status, list(answer)) == (200, ["id", "code", "jwt"])
    assert (answer["id"], answer["code"]) == (12667, "OK")
    public = tokens.public_pem(settings.JWT_SIGNING_KEYS["b"])
    claims = check_token(answer["jwt"], public, IDENTIFIER)
    assert claims["exp"] - claims["iat"] == 86400
    assert len({post("/jwtissuer", {"id": 1, **ISSUER}, app)[1]["jwt"] for _ in range(3)}) == 3


def test_token_lives_a_week_or_the_configured_ceiling(
    post: Post, app: dict[str, str], settings: Any
) -> None:
    public = tokens.public_pem(settings.JWT_SIGNING_KEYS["b"])

    def life(**more: Any) -> int:
        token = post("/jwtissuer", {"id": 1, **ISSUER, **more}, app)[1]["jwt"]
        claims = check_token(token, public, IDENTIFIER)
        return int(claims["exp"] - claims["iat"])

    assert life() == 604800
    settings.JWT_MAX_SECONDS = 3600
    assert (life(), life(expires=604800), life(expires=60)) == (3600, 3600, 60)


def test_other_key_is_asked_for_by_name(post: Post, app: dict[str, str], settings: Any) -> None:
    answer = post("/jwtissuer?key=a", {"id": 1, **ISSUER}, app)[1]
    public = tokens.public_pem(settings.JWT_SIGNING_KEYS["a"])
    assert check_token(answer["jwt"], public, IDENTIFIER)
    for other in ("c", ""):
        answer = post(f"/jwtissuer?key={other}", {"id": 1, **ISSUER}, app)[1]
        assert answer["code"] == "BAD_REQUEST"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"deviceid": "00000000-0000-4000-8000-000000000000"}, "NOT_FOUND"),
        ({"deviceid": "x" * 29}, "NOT_FOUND"),
        ({"deviceid": "x" * 41}, "NOT_FOUND"),
        ({"deviceid": "\ud800" * 36}, "NOT_FOUND"),
        ({"deviceid": "\x00" * 36}, "NOT_FOUND"),
        ({"deviceid": None}, "BAD_REQUEST"),
        ({"deviceid": 7}, "BAD_REQUEST"),
        ({"expires": 0}, "BAD_REQUEST"),
        ({"expires": 604801}, "BAD_REQUEST"),
        ({"expires": "60"}, "BAD_REQUEST"),
        ({"expires": 60.0}, "BAD_REQUEST"),
        ({"expires": True}, "BAD_REQUEST"),
        ({"expires": None}, "BAD_REQUEST"),
        ({"expires": -1}, "BAD_REQUEST"),
    ],
)
def test_question_that_makes_no_sense_gets_no_token(
    post: Post, app: dict[str, str], changes: dict[str, Any], code: str
) -> None:
    assert post("/jwtissuer", {"id": 5, **ISSUER, **changes}, app) == (200, {"id": 5, "code": code})


def test_disabled_device_gets_no_token(post: Post, app: dict[str, str]) -> None:
    Device.objects.filter(identifier=IDENTIFIER).update(enabled=False)
    assert post("/jwtissuer", {"id": 5, **ISSUER}, app) == (200, {"id": 5, "code": "NOT_FOUND"})


def test_caller_without_a_rule_gets_no_token_and_the_journal_says_why(
    post: Post, app: dict[str, str]
) -> None:
    post("/jwtissuer", {"id": 5, **ISSUER}, app)
    CommandPermission.objects.all().delete()
    refused = post("/jwtissuer", {"id": 5, **ISSUER}, app)
    assert refused == (403, {"id": 5, "code": "BAD_REQUEST"})
    journal.journal.flush()
    rows = CallRecord.objects.filter(endpoint="issuer").order_by("reason")
    asked = [(row.caller, row.subject, row.destination, row.command, row.reason) for row in rows]
    assert asked == [
        (APP, APP, IDENTIFIER, "/rtio/Jwt.Issue", "allowed"),
        (APP, APP, IDENTIFIER, "/rtio/Jwt.Issue", "no-rule"),
    ]


def test_backend_network_alone_gets_no_token(post: Post, app: dict[str, str]) -> None:
    assert post("/hubconfiger", {"id": 5, **HUB})[0] == 200
    refused = post("/jwtissuer", {"id": 5, **ISSUER})
    assert refused == (401, {"id": 0, "code": "BAD_REQUEST"})


def test_issuer_is_off_without_a_key(post: Post, app: dict[str, str], settings: Any) -> None:
    settings.JWT_SIGNING_KEYS = {}
    answer = {"id": 5, "code": "INTERNAL_SERVER_ERROR"}
    assert post("/jwtissuer", {"id": 5, **ISSUER}, app) == (200, answer)
    journal.journal.flush()
    assert CallRecord.objects.get(endpoint="issuer").reason == "no-signing-key"


# --- The one-time secret at the verifier ----------------------------------------------------


@pytest.fixture
def due(make_device: Callable[..., Device]) -> dict[str, str]:
    """Return the question of RTIO about a secret with which a session is due to be ended."""
    device = make_device(IDENTIFIER, enabled=False)
    server = RtioServer.objects.create(
        name="r", host="127.0.0.1", backend=make_device("//rtio.example/r", kind="backend")
    )
    request_endings([device], Cause.DISABLED)
    (attempt,) = claim({server.pk: 1})
    return {"method": "verify", "deviceid": IDENTIFIER, "devicesecret": attempt.secret}


def caller() -> dict[str, str]:
    backend = Device.objects.get(identifier="//rtio.example/r")
    return basic(backend.identifier, PreSharedKey.objects.issue(device=backend)[1])


def test_one_time_secret_passes_once_and_is_no_evidence(post: Post, due: dict[str, str]) -> None:
    headers = caller()
    assert post("/deviceverifier", {"id": 1, **due}, headers)[1] == {"id": 1, "code": "OK"}
    again = post("/deviceverifier", {"id": 2, **due}, headers)[1]
    assert again == {"id": 2, "code": "VERIFICATION_FAILED"}
    journal.journal.flush()
    rows = CallRecord.objects.filter(subject=IDENTIFIER).order_by("outcome")
    assert [(row.question, row.outcome, row.reason) for row in rows] == [
        ("call", "allowed", "session-ended"),
        ("call", "refused", "ending-refused"),
    ]
    assert CallRecord.objects.latest_connection(IDENTIFIER) is None
    assert Device.objects.get(identifier=IDENTIFIER).last_seen is None
    assert SessionEnding.objects.get().secret_used_at is not None


def test_one_time_secret_is_refused_to_whoever_else_asks(post: Post, due: dict[str, str]) -> None:
    other = {**due, "deviceid": "00000000-0000-4000-8000-000000000000"}
    assert post("/deviceverifier", {"id": 1, **due})[1]["code"] == "VERIFICATION_FAILED"
    assert post("/deviceverifier", {"id": 1, **other}, caller())[1]["code"] == "VERIFICATION_FAILED"
    assert post("/deviceverifier", {"id": 1, **due}, caller())[1]["code"] == "OK"


def test_every_other_secret_is_one_statement(
    post: Post,
    due: dict[str, str],
    make_device: Callable[..., Device],
    django_assert_num_queries: Any,
) -> None:
    secret = PreSharedKey.objects.issue(device=make_device("d" * 36))[1]
    question = {"id": 1, "method": "verify", "deviceid": "d" * 36, "devicesecret": secret}
    with django_assert_num_queries(1):
        assert post("/deviceverifier", question)[1]["code"] == "OK"
    guess = one_time_secrets.generate()
    with django_assert_num_queries(2):
        answer = post("/deviceverifier", {**question, "devicesecret": guess})[1]
    assert answer["code"] == "VERIFICATION_FAILED"


def test_chosen_secret_of_the_same_form_still_passes(
    post: Post, make_device: Callable[..., Device]
) -> None:
    secret = one_time_secrets.generate()
    PreSharedKey.objects.register(device=make_device(IDENTIFIER), secret=secret)
    question = {"id": 1, "method": "verify", "deviceid": IDENTIFIER, "devicesecret": secret}
    assert post("/deviceverifier", question)[1]["code"] == "OK"


def test_hub_is_quick(post: Post) -> None:
    """A hundred RTIO servers ask twenty times a second in all."""
    post("/hubconfiger", {"id": 1, **HUB})
    started = time.thread_time()
    for _ in range(50):
        post("/hubconfiger", {"id": 1, **HUB})
    assert (time.thread_time() - started) / 50 < 0.05
