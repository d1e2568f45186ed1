"""The REST form: each command at a path of its own, its arguments as the body."""

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from devices.models import Device, PreSharedKey
from rpc.commands.auth import AUTHENTICATE, AUTHORIZE_COMMAND
from rpc.commands.registry import COMMANDS

pytestmark = pytest.mark.once(on="sqlite")

CLOUD = "//api.cesanta.com/cloud"
SECRET = "cloud-backend-key-0123456789"
SENSOR = "//api.cesanta.com/sensor"
SENSOR_SECRET = "sensor secret 0123456789 abcdef"

Call = Callable[..., tuple[int, Any]]


@pytest.fixture(autouse=True)
def registry(make_device: Callable[..., Device]) -> None:
    cloud = make_device(CLOUD, kind="backend")
    PreSharedKey.objects.register(device=cloud, secret=SECRET, random=True)
    sensor = make_device(SENSOR)
    PreSharedKey.objects.register(device=sensor, secret=SENSOR_SECRET, random=True)


@pytest.fixture
def call(client: Client) -> Call:
    def send(
        path: str,
        args: Any = None,
        *,
        method: str = "POST",
        address: str = "127.0.0.1",
        **headers: str,
    ) -> tuple[int, Any]:
        body = b"" if args is None else args if isinstance(args, bytes) else json.dumps(args)
        response = client.generic(
            method, path, body, content_type="", headers=headers, REMOTE_ADDR=address
        )
        assert response["Content-Type"] == "application/json"
        assert not response.cookies
        return response.status_code, json.loads(response.content) if response.content else None

    return send


RIGHT = {"id": SENSOR, "credentials": {"psk": SENSOR_SECRET}}


@pytest.mark.parametrize(
    ("path", "args", "answer"),
    [
        ("/v1/Auth.Authenticate", RIGHT, {"v": 2, "result": True}),
        ("/v1/Auth.Authenticate?id=7", RIGHT, {"v": 2, "id": 7, "result": True}),
        ("/v1/Auth.Authenticate?id=0", RIGHT, {"v": 2, "id": 0, "result": True}),
        ("/v1/Auth.Authenticate?reply=array", RIGHT, [{"v": 2, "result": True}]),
        (f"/v1/Hello?id={2**63 - 1}", {}, {"v": 2, "id": 2**63 - 1}),
        ("/v1/Dispatcher.Hello", None, {"v": 2}),
        ("/v1/Auth%2EAuthenticate", RIGHT, {"v": 2, "result": True}),
        (
            "/v1/Auth.AuthorizeCommand",
            {"src": SENSOR, "dst": SENSOR, "cmd": "/v1/X.Y"},
            {"v": 2, "result": False},
        ),
    ],
)
def test_a_command_answers_at_its_own_path(call: Call, path: str, args: Any, answer: Any) -> None:
    assert call(path, args) == (200, answer)


@pytest.mark.parametrize(
    ("path", "args", "code", "message"),
    [
        ("/v1/Auth.Nope", {}, 404, "No handler for /v1/Auth.Nope"),
        ("/v1/", {}, 404, "No handler for /v1/"),
        ("/v1/Hello/", {}, 404, "No handler for /v1/Hello/"),
        ("/v1/auth.authenticate", RIGHT, 404, "No handler for /v1/auth.authenticate"),
        ("/v1/Auth.Authenticate", None, 400, "invalid args for Authenticate: id is required"),
        ("/v1/Auth.Authenticate", [], 400, "invalid args for Authenticate: args must be an object"),
    ],
)
def test_what_a_command_refuses_stands_in_the_frame(
    call: Call, path: str, args: Any, code: int, message: str
) -> None:
    error = {"code": code, "message": message}
    assert call(f"{path}?id=3", args) == (200, {"v": 2, "id": 3, "error": error})


@pytest.mark.parametrize(
    "number", ["", "-1", "1.0", "x", "1e3", "٣", "%D9%A3", str(2**63), "9" * 5000]
)
def test_an_id_is_a_whole_number(call: Call, number: str) -> None:
    status, answer = call(f"/v1/Hello?id={number}", {})
    assert (status, answer["error"]["code"]) == (400, 400)
    assert answer["error"]["message"] == "invalid frame: id must be an integer from 0 to 2^63-1"


@pytest.mark.parametrize(
    ("args", "status"), [(b"{", 400), (b"\xff", 400), (b"x" * (256 * 1024 + 1), 413)]
)
def test_a_body_that_cannot_be_read_is_an_invalid_frame(
    call: Call, args: bytes, status: int
) -> None:
    code, answer = call("/v1/Hello", args)
    assert (code, answer["error"]["code"]) == (status, status)


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "OPTIONS"])
def test_only_post_is_answered(call: Call, method: str) -> None:
    assert call("/v1/Hello", method=method)[0] == 405


def test_a_caller_shows_its_secret_by_http_basic(call: Call) -> None:
    def basic(secret: str, name: str = CLOUD) -> str:
        return "Basic " + base64.b64encode(f"{name}:{secret}".encode()).decode()

    outside = {"address": "203.0.113.9"}
    refused = {"v": 2, "id": 5, "error": {"code": 401, "message": "authentication required"}}
    assert call("/v1/Hello?id=5", {}, **outside) == (401, refused)
    assert call("/v1/Hello?id=5", b"no JSON", **outside) == (401, refused)
    assert call("/v1/Hello", {}, **outside, authorization=basic(SECRET)) == (200, {"v": 2})
    assert call("/v1/Hello?id=5", {}, authorization=basic("wrong")) == (401, refused)
    assert call("/v1/Hello", {}, authorization=basic(SENSOR_SECRET, SENSOR))[0] == 403


def test_the_definitions_served_are_those_that_arguments_are_held_against(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, answer = call("/v1/Services.Get")
    served = answer["result"]
    auth = served["http://cesanta.com/clubby/service/v1/Auth"]
    assert auth["name"] == "/v1/Auth"
    assert auth["namespace"] == "http://cesanta.com/clubby/service"
    assert auth["methods"] == {
        "Authenticate": AUTHENTICATE,
        "AuthorizeCommand": AUTHORIZE_COMMAND,
    }
    names = {
        f"{service['name']}/{method}" if service["name"] == "/v1" else f"{service['name']}.{method}"
        for service in served.values()
        for method in service["methods"]
    }
    assert names == set(COMMANDS)
    assert all(service["doc"] for service in served.values())

    changed = AUTHENTICATE | {"required_args": ["id", "credentials", "more"]}
    monkeypatch.setattr(COMMANDS["/v1/Auth.Authenticate"], "definition", changed)
    methods = call("/v1/Services.Get")[1]["result"]["http://cesanta.com/clubby/service/v1/Auth"][
        "methods"
    ]
    assert methods["Authenticate"]["required_args"] == ["id", "credentials", "more"]
    assert call("/v1/Auth.Authenticate", RIGHT)[1]["error"]["message"].endswith("more is required")
