"""The RTIO device verifier, row by row of its contract."""

import json
import logging
from collections.abc import Callable
from typing import Any

import pytest
from django.db import OperationalError
from django.test import Client

from devices.models import Device, PreSharedKey

IDENTIFIER = "cfa09baa-4913-4ad7-a936-2e26f9671b05"
Ask = Callable[..., dict[str, Any]]


@pytest.fixture
def secret(make_device: Callable[..., Device]) -> str:
    return PreSharedKey.objects.issue(device=make_device(IDENTIFIER))[1]


@pytest.fixture
def ask(client: Client, db: None) -> Ask:
    def post(body: bytes | None = None, status: int = 200, **changes: Any) -> dict[str, Any]:
        question = {"method": "verify", "id": 1999, "deviceid": IDENTIFIER, "devicesecret": "wrong"}
        content = {k: v for k, v in (question | changes).items() if v is not ...}
        raw = json.dumps(content).encode() if body is None else body
        response = client.generic("POST", "/deviceverifier", raw, content_type="")
        assert response.status_code == status
        assert response["Content-Type"] == "application/json"
        answer: dict[str, Any] = json.loads(response.content)
        assert list(answer) == ["id", "code"]
        return answer

    return post


def test_a_right_secret_is_ok_and_nothing_else_is(ask: Ask, secret: str) -> None:
    assert ask(devicesecret=secret) == {"id": 1999, "code": "OK"}
    assert ask(devicesecret=secret + " ")["code"] == "VERIFICATION_FAILED"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"deviceid": "00000000-0000-4000-8000-000000000000"}, "NOT_FOUND"),
        ({"deviceid": "x" * 29}, "NOT_FOUND"),
        ({"deviceid": "x" * 30}, "NOT_FOUND"),
        ({"deviceid": "x" * 41}, "NOT_FOUND"),
        ({"deviceid": ""}, "NOT_FOUND"),
        ({"deviceid": "\ud800" + IDENTIFIER[1:]}, "NOT_FOUND"),
        ({"deviceid": "\x00" + IDENTIFIER[1:]}, "NOT_FOUND"),
        ({"devicesecret": ""}, "VERIFICATION_FAILED"),
        ({"devicesecret": "ab"}, "VERIFICATION_FAILED"),
        ({"devicesecret": "x" * 129}, "VERIFICATION_FAILED"),
        ({"devicesecret": "\ud800\ud800\ud800"}, "VERIFICATION_FAILED"),
        ({"devicesecret": "\x00\x00\x00"}, "VERIFICATION_FAILED"),
        ({"method": "Verify"}, "METHOD_NOT_ALLOWED"),
        ({"method": ""}, "METHOD_NOT_ALLOWED"),
        ({"method": "other", "deviceid": 5, "devicesecret": ...}, "METHOD_NOT_ALLOWED"),
        ({"method": None}, "BAD_REQUEST"),
        ({"method": ...}, "BAD_REQUEST"),
        ({"method": 5}, "BAD_REQUEST"),
        ({"method": ["verify"]}, "BAD_REQUEST"),
        ({"deviceid": ...}, "BAD_REQUEST"),
        ({"deviceid": None}, "BAD_REQUEST"),
        ({"deviceid": 123456789012345678901234567890}, "BAD_REQUEST"),
        ({"devicesecret": ...}, "BAD_REQUEST"),
        ({"devicesecret": None}, "BAD_REQUEST"),
        ({"devicesecret": 12345}, "BAD_REQUEST"),
        ({"devicesecret": {"a": 1}}, "BAD_REQUEST"),
    ],
)
def test_each_fault_has_its_code_and_the_id_comes_back(
    ask: Ask, secret: str, changes: dict[str, Any], code: str
) -> None:
    assert ask(**changes) == {"id": 1999, "code": code}


@pytest.mark.parametrize(
    "number", ["1999", 1999.0, True, False, -1, 2**32, 2**64, None, ..., [1], {}, 1e3]
)
def test_an_id_that_is_no_uint32_is_answered_with_zero(
    ask: Ask, secret: str, number: object
) -> None:
    assert ask(id=number, devicesecret=secret) == {"id": 0, "code": "BAD_REQUEST"}
    assert ask(id=number, method="other") == {"id": 0, "code": "BAD_REQUEST"}


@pytest.mark.parametrize("number", [0, 1, 2**32 - 1])
def test_any_uint32_is_echoed(ask: Ask, secret: str, number: int) -> None:
    assert ask(id=number, devicesecret=secret) == {"id": number, "code": "OK"}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"hello",
        b"null",
        b"[]",
        b'"OK"',
        b"1999",
        b'{"id":1999,"method":"verify"',
        b'{"id":1999,"method":"verify"} trailing',
        b'{"id":1999,"method":"verify","x":NaN}',
        b'{"id":1999,"method":"\xff\xfe"}',
        b'\xef\xbb\xbf{"id":1999}',
        '{"id":1999}'.encode("utf-16"),
        b"[" * 50_000,
        b'{"id":1999,"x":' + b"[" * 50_000 + b"]" * 50_000 + b"}",
        b'{"a":' * 10_000,
        b"9" * 60_000,
        b'{"id":' + b"9" * 60_000 + b',"method":"verify"}',
        b'{"id":' + b"9" * 60_000 + b"}",
        b'{"id":1' + b"0" * 60_000 + b".0}",
    ],
    ids=lambda body: repr(body[:24]),
)
def test_what_is_no_json_object_is_a_bad_request(
    ask: Ask, body: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    if len(body) <= 64 * 1024:
        assert ask(body) == {"id": 0, "code": "BAD_REQUEST"}
    else:
        assert ask(body, status=413) == {"id": 0, "code": "BAD_REQUEST"}
    assert "DeviceVerifier failed" not in caplog.text  # whoever sends it would fill the log


def test_a_body_of_the_limit_is_read_and_one_byte_more_is_not(ask: Ask, secret: str) -> None:
    question = json.dumps(
        {"method": "verify", "id": 7, "deviceid": IDENTIFIER, "devicesecret": secret}
    ).encode()
    padded = question + b" " * (64 * 1024 - len(question))
    assert ask(padded) == {"id": 7, "code": "OK"}
    assert ask(padded + b" ", status=413) == {"id": 0, "code": "BAD_REQUEST"}


def test_keys_are_case_sensitive_unknown_ones_ignored_and_the_last_of_two_wins(
    ask: Ask, secret: str
) -> None:
    assert ask(devicesecret=secret, extra={"deep": [1]}, DeviceId=5)["code"] == "OK"
    assert ask(devicesecret=..., DeviceSecret=secret)["code"] == "BAD_REQUEST"
    twice = (
        f'{{"method":"verify","id":5,"id":6,"deviceid":"{IDENTIFIER}",'
        f'"devicesecret":"wrong","devicesecret":"{secret}"}}'
    )
    assert ask(twice.encode()) == {"id": 6, "code": "OK"}


def test_escapes_and_raw_characters_are_the_same_secret(
    ask: Ask, make_device: Callable[..., Device]
) -> None:
    device = make_device("x" * 30)
    PreSharedKey.objects.register(device=device, secret="<&>é😀 ")
    question = '{"method":"verify","id":1,"deviceid":"%s","devicesecret":"%s"}'
    for written in (r"\u003c\u0026\u003eé😀 ", r"<&>\u00e9\ud83d\ude00\u0020"):
        body = question % ("x" * 30, written)
        assert ask(body.encode()) == {"id": 1, "code": "OK"}


@pytest.mark.parametrize(
    ("length", "code"), [(29, "NOT_FOUND"), (30, "OK"), (40, "OK"), (41, "NOT_FOUND")]
)
def test_devices_have_30_to_40_characters(
    ask: Ask, make_device: Callable[..., Device], length: int, code: str
) -> None:
    device = make_device("é" * length)
    _, secret = PreSharedKey.objects.issue(device=device)
    assert ask(deviceid=device.identifier, devicesecret=secret)["code"] == code


@pytest.mark.parametrize("length", [3, 128])
def test_secrets_have_3_to_128_characters(
    ask: Ask, make_device: Callable[..., Device], length: int
) -> None:
    PreSharedKey.objects.register(device=make_device(IDENTIFIER), secret="é" * length)
    assert ask(devicesecret="é" * length)["code"] == "OK"


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS", "PATCH", "HEAD", "TRACE"])
def test_other_http_methods_are_not_allowed(client: Client, db: None, method: str) -> None:
    response = client.generic(method, "/deviceverifier", b'{"id":5}', content_type="")
    assert response.status_code == 405
    assert response["Allow"] == "POST"
    assert response["Content-Type"] == "application/json"
    if method != "HEAD":
        assert json.loads(response.content) == {"id": 0, "code": "METHOD_NOT_ALLOWED"}


@pytest.mark.parametrize("failure", [OperationalError("gone"), RuntimeError("surprise"), OSError()])
def test_a_failure_is_told_as_one_echoes_the_id_and_leaves_a_log_line(
    ask: Ask,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    failure: Exception,
) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise failure

    monkeypatch.setattr("devices.credentials.pre_shared_keys.KEYS_OF_DEVICES.rows", fail)
    with caplog.at_level(logging.ERROR, logger="rpc.views"):
        assert ask() == {"id": 1999, "code": "INTERNAL_SERVER_ERROR"}
    assert "DeviceVerifier failed" in caplog.text
    assert type(failure).__name__ in caplog.text
    assert ("Traceback" in caplog.text) is not isinstance(failure, OperationalError)


def test_no_header_of_the_browser_side_reaches_a_machine(client: Client, db: None) -> None:
    response = client.post(
        "/deviceverifier", b"{}", content_type="text/html", headers={"host": "anything"}
    )
    assert response.status_code == 200
    assert set(response.headers) <= {"Content-Type", "Content-Length"}


def test_a_verification_costs_one_statement_and_no_session(
    ask: Ask, secret: str, django_assert_num_queries: Any
) -> None:
    with django_assert_num_queries(1):
        ask(devicesecret=secret)


def test_https_never_redirects_a_machine(ask: Ask, secret: str, settings: Any) -> None:
    settings.SECURE_SSL_REDIRECT = True
    assert ask(devicesecret=secret)["code"] == "OK"
