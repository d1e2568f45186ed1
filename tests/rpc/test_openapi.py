"""The OpenAPI document: true to the code, true to the answers, valid."""

import json
from collections.abc import Callable
from copy import deepcopy
from operator import itemgetter
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import OperationalError
from django.test import Client
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator, validate

from rpc.commands.auth import AUTHENTICATE
from rpc.commands.registry import COMMANDS
from rpc.openapi import document
from rpc.urls import MACHINE_PATHS
from rpc.views import DeviceVerifier
from tests.contract.test_cases import CASES, Case

COMMITTED = settings.BASE_DIR / "docs" / "openapi.json"
DOCUMENT = json.loads(COMMITTED.read_text())

Accepts = Callable[[Any], bool]


def accepts(schema: Any) -> Accepts:
    """Return whether a value fits a schema of the document."""
    validator = Draft202012Validator({**schema, "components": DOCUMENT["components"]})
    is_valid: Accepts = validator.is_valid
    return is_valid


def answer_schema(path: str, status: int) -> Any:
    """Return the documented schema of an answer."""
    path = path.rstrip("/") or "/"
    if path not in DOCUMENT["paths"]:
        return {"$ref": "#/components/schemas/FailedReply"}  # no such command
    responses = DOCUMENT["paths"][path]["post"]["responses"]
    response = responses[str(status)]
    if "$ref" in response:
        response = DOCUMENT["components"]["responses"][response["$ref"].rpartition("/")[2]]
    return response["content"]["application/json"]["schema"]


def test_it_is_valid_and_committed_as_the_code_makes_it() -> None:
    validate(DOCUMENT, cls=OpenAPIV31SpecValidator)
    call_command("openapi", "--check", str(COMMITTED))


def test_a_file_that_differs_is_told(tmp_path: Path) -> None:
    stale = tmp_path / "openapi.json"
    stale.write_text(COMMITTED.read_text().replace("uint32", "") + "\n")
    with pytest.raises(CommandError, match="is not what the code says") as differs:
        call_command("openapi", "--check", str(stale))
    assert differs.value.returncode == 1
    with pytest.raises(CommandError, match="cannot be read") as missing:
        call_command("openapi", "--check", str(tmp_path / "none"))
    assert missing.value.returncode == 2


def test_it_is_printed_as_it_is_committed(capsys: pytest.CaptureFixture[str]) -> None:
    call_command("openapi")
    assert capsys.readouterr().out == COMMITTED.read_text()


def test_it_names_every_path_and_command() -> None:
    machine_paths = {path.rstrip("/") or "/" for path in MACHINE_PATHS}
    assert set(DOCUMENT["paths"]) == machine_paths | set(COMMANDS)


def test_it_follows_the_definitions(monkeypatch: pytest.MonkeyPatch) -> None:
    changed: Any = deepcopy(AUTHENTICATE)
    changed["args"]["since"] = {"type": "integer", "doc": "New."}
    monkeypatch.setattr(COMMANDS["/v1/Auth.Authenticate"], "definition", changed)
    monkeypatch.setattr(DeviceVerifier, "id_limit", 10)
    made = document()
    operation = made["paths"]["/v1/Auth.Authenticate"]["post"]
    arguments = operation["requestBody"]["content"]["application/json"]["schema"]
    assert arguments["properties"]["since"] == {"type": "integer", "description": "New."}
    request = made["components"]["schemas"]["VerificationRequest"]
    assert request["properties"]["id"]["maximum"] == 9


@pytest.mark.parametrize("case", CASES, ids=itemgetter("name"))
def test_its_schemas_accept_what_the_contract_s_cases_are_answered(case: Case) -> None:
    request, expected = case["request"], case["expect"]
    path = urlsplit(request["path"]).path
    schema = answer_schema(path, expected["status"])
    if "json" in expected:
        assert accepts(schema)(expected["json"])
    if case["name"].startswith("documented example"):
        examples = DOCUMENT["paths"][path]["post"]["requestBody"]["content"]["application/json"]
        values = [one["value"] for one in examples["examples"].values()]
        assert json.loads(request["body"]) in values


def test_its_examples_fit_its_schemas() -> None:
    checked = 0
    for path, item in DOCUMENT["paths"].items():
        operation = item["post"]
        request = operation["requestBody"]["content"]["application/json"]
        for example in request.get("examples", {}).values():
            # The RTIO specification's second example presents a secret that is too short.
            fits = example["value"].get("devicesecret") != ""
            assert accepts(request["schema"])(example["value"]) is fits, example["summary"]
            checked += 1
        answer = operation["responses"]["200"]["content"]["application/json"]
        for example in answer.get("examples", {}).values():
            assert accepts(answer_schema(path, 200))(example["value"]), example["summary"]
    assert checked >= 7


@pytest.mark.parametrize(
    ("path", "wrong"),
    [
        ("/deviceverifier", {"id": 1, "code": "ok"}),
        ("/deviceverifier", {"id": -1, "code": "OK"}),
        ("/deviceverifier", {"id": 1, "code": "OK", "more": 1}),
        ("/", {"v": 1, "resp": [{"id": 1, "status": 0, "status_msg": "x"}]}),
        ("/", {"v": 1, "resp": [{"id": 1, "status": 1, "status_msg": "x"}]}),
        ("/rpc", {"v": 2, "result": True, "error": {"code": 400, "message": "x"}}),
        ("/rpc", {"error": {"code": 400, "message": "x"}}),
        ("/v1/Auth.Authenticate", {"v": 2}),
        ("/v1/Auth.Authenticate", {"v": 2, "result": "yes"}),
        ("/v1/Auth.Authenticate", {"v": 2, "src": "x", "result": True}),
        ("/v1/Hello", {"v": 2, "result": True}),
    ],
)
def test_its_schemas_refuse_what_is_never_answered(path: str, wrong: Any) -> None:
    assert not accepts(answer_schema(path, 200))(wrong)


@pytest.mark.django_db
@pytest.mark.parametrize("path", [*DOCUMENT["paths"], "/rpc?reply=array", "/v1/Hello?reply=array"])
@pytest.mark.parametrize(
    ("request_", "status"),
    [
        ({"data": b"{"}, {"/deviceverifier": 200, "": 400}),
        ({"data": b"x" * 300_000}, {"": 413}),
        ({"method": "GET"}, {"/": 302, "": 405}),
        ({"REMOTE_ADDR": "203.0.113.9"}, {"": 401}),
        ({"failure": OperationalError("x")}, {"/deviceverifier": 200, "": 503}),
        ({"failure": RuntimeError("x")}, {"/deviceverifier": 200, "": 500}),
    ],
    ids=["no JSON", "too large", "not POST", "stranger", "database down", "unexpected"],
)
def test_every_failure_is_documented(
    client: Client,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    request_: dict[str, Any],
    status: dict[str, int],
) -> None:
    request_ = dict(request_)
    failure = request_.pop("failure", None)

    def fail(*args: Any, **kwargs: Any) -> None:
        raise failure

    if failure:
        monkeypatch.setattr("rpc.views.decode", fail)
    frame = b'{"method":"/v1/Hello"}'
    response = client.generic(
        request_.pop("method", "POST"),
        path,
        request_.pop("data", frame),
        content_type="",
        **request_,
    )
    bare = urlsplit(path).path
    assert response.status_code == status.get(bare, status[""])
    if response.status_code != 302:
        assert accepts(answer_schema(bare, response.status_code))(json.loads(response.content))
