"""The machine endpoints in the OpenAPI document: true to the code, its limits, the answers."""

import json
from collections.abc import Callable
from operator import itemgetter
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.db import OperationalError
from django.test import Client
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator, validate

from authsite.api.document import rendered
from rpc.api.examples import EXAMPLES
from rpc.api.openapi import CALLERS, schema_of
from rpc.commands import frames
from rpc.commands.registry import COMMANDS, SERVICES, Definition, service_of
from rpc.rtio.models.route import MAX_CONFIG_LENGTH
from rpc.rtio.views import HubConfiger, JwtIssuer
from rpc.urls import MACHINE_PATHS
from rpc.views import CommandEndpoint, DeviceVerifier
from tests.contract.test_cases import CASES, Case

pytestmark = pytest.mark.once(on="sqlite")

DOCUMENT = json.loads(rendered())
PATHS = {path: item for path, item in DOCUMENT["paths"].items() if not path.startswith("/api/")}

Accepts = Callable[[Any], bool]


def accepts(schema: Any) -> Accepts:
    """Return whether a value fits a schema of the document."""
    validator = Draft202012Validator({**schema, "components": DOCUMENT["components"]})
    is_valid: Accepts = validator.is_valid
    return is_valid


def answer_schema(path: str, status: int) -> Any:
    """Return the documented schema of an answer."""
    path = path.rstrip("/") or "/"
    if path not in PATHS:
        return {"$ref": "#/components/schemas/FailedReply"}  # no such command
    responses = PATHS[path]["post"]["responses"]
    response = responses[str(status)]
    if "$ref" in response:
        response = DOCUMENT["components"]["responses"][response["$ref"].rpartition("/")[2]]
    return response["content"]["application/json"]["schema"]


def test_a_definition_becomes_a_schema() -> None:
    text, flag = {"type": "string", "doc": "Any text."}, {"type": "boolean"}
    definition: Definition = {
        "type": "object",
        "properties": {"text": text, "more": {"type": "object", "properties": {"flag": flag}}},
        "required": ["text"],
    }
    assert schema_of(definition) == {
        "type": "object",
        "properties": {
            "text": {"type": "string", "description": "Any text."},
            "more": {"type": "object", "properties": {"flag": {"type": "boolean"}}},
        },
        "required": ["text"],
    }


def test_it_is_valid() -> None:
    validate(DOCUMENT, cls=OpenAPIV31SpecValidator)


def test_it_names_every_path_and_command() -> None:
    machine_paths = {path.rstrip("/") or "/" for path in MACHINE_PATHS}
    assert set(PATHS) == machine_paths | set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_described_as_it_is_defined(name: str) -> None:
    definition, operation = COMMANDS[name].definition, PATHS[name]["post"]
    assert operation["summary"] == definition["doc"]
    assert operation["description"] == f"{SERVICES[service_of(name)[0]]}\n\n{CALLERS}"
    arguments = {
        "type": "object",
        "properties": definition["args"],
        "required": definition.get("required_args"),
    }
    body = operation["requestBody"]
    assert body["content"]["application/json"]["schema"] == schema_of(arguments)
    assert body["required"] is bool(definition.get("required_args"))
    answer = operation["responses"]["200"]["content"]["application/json"]["schema"]
    succeeded = answer["anyOf"][0]["anyOf"][0]
    result = definition.get("result")
    assert succeeded["properties"].get("result") == (schema_of(result) if result else None)
    assert succeeded["required"] == (["v", "result"] if result else ["v"])


def test_its_codes_and_limits_are_those_of_the_code() -> None:
    schemas, paths = DOCUMENT["components"]["schemas"], PATHS
    for schema, rtio in (
        ("Verification", DeviceVerifier),
        ("HubAnswer", HubConfiger),
        ("TokenAnswer", JwtIssuer),
    ):
        code = schemas[schema]["properties"]["code"]
        assert code["enum"] == list(rtio.codes)
        assert code["description"] == " ".join(
            f"`{code}`: {meaning}" for code, meaning in rtio.codes.items()
        )
    expires = schemas["TokenRequest"]["properties"]["expires"]
    assert range(expires["minimum"], expires["maximum"] + 1) == JwtIssuer.expires_range
    assert schemas["HubAnswer"]["properties"]["config"]["maxLength"] == MAX_CONFIG_LENGTH
    asked = schemas["VerificationRequest"]["properties"]
    for member, length in (
        ("deviceid", DeviceVerifier.deviceid_length),
        ("devicesecret", DeviceVerifier.devicesecret_length),
    ):
        assert range(asked[member]["minLength"], asked[member]["maxLength"] + 1) == length
    token = schemas["TokenRequest"]["properties"]["deviceid"]
    assert range(token["minLength"], token["maxLength"] + 1) == JwtIssuer.deviceid_length
    for rtio, question, answer in (
        (DeviceVerifier, "VerificationRequest", "Verification"),
        (HubConfiger, "HubRequest", "HubAnswer"),
        (JwtIssuer, "TokenRequest", "TokenAnswer"),
    ):
        assert schemas[question]["properties"]["method"] == {"const": rtio.method}
        for schema in (question, answer):
            number = schemas[schema]["properties"]["id"]
            assert range(number["minimum"], number["maximum"] + 1) == range(rtio.id_limit)
    assert expires["default"] == JwtIssuer.expires_range.stop - 1
    assert schemas["Id"]["maximum"] == frames.MAX_ID
    assert schemas["FrameVersion1"]["properties"]["cmds"]["maxItems"] == frames.MAX_COMMANDS
    assert schemas["ReplyVersion1"]["properties"]["resp"]["maxItems"] == frames.MAX_COMMANDS
    assert f"Up to {frames.MAX_COMMANDS} commands" in paths["/"]["post"]["description"]
    for response, view in (
        (paths["/deviceverifier"]["post"]["responses"]["413"], DeviceVerifier),
        (paths["/hubconfiger"]["post"]["responses"]["413"], HubConfiger),
        (paths["/jwtissuer"]["post"]["responses"]["413"], JwtIssuer),
        (DOCUMENT["components"]["responses"]["Error413"], CommandEndpoint),
    ):
        assert response["description"] == f"The body is larger than {view.body_limit} bytes."
    statuses = {frames.BAD_REQUEST, frames.NOT_FOUND, *frames.MESSAGES}
    assert set(schemas["Failure"]["properties"]["code"]["enum"]) == statuses
    failed = schemas["ReplyVersion1"]["properties"]["resp"]["items"]["anyOf"][1]
    assert set(failed["properties"]["status"]["enum"]) == statuses


@pytest.mark.parametrize("path", PATHS)
def test_its_examples_are_those_that_the_selftest_asks(path: str) -> None:
    paths = ("/", "/rpc") if path in {"/", "/rpc"} else (path,)
    asked = [example for example in EXAMPLES if urlsplit(example.path).path in paths]
    operation = PATHS[path]["post"]
    for described, values in (
        (operation["requestBody"], [json.loads(example.body) for example in asked]),
        (operation["responses"]["200"], [example.expected for example in asked]),
    ):
        examples = described["content"]["application/json"].get("examples", {})
        assert [(one["summary"], one["value"]) for one in examples.values()] == [
            (example.name, value) for example, value in zip(asked, values, strict=True)
        ]


@pytest.mark.parametrize("case", CASES, ids=itemgetter("name"))
def test_its_schemas_accept_what_the_contract_s_cases_are_answered(case: Case) -> None:
    request, expected = case["request"], case["expect"]
    path = urlsplit(request["path"]).path
    schema = answer_schema(path, expected["status"])
    if "json" in expected:
        assert accepts(schema)(expected["json"])
    if case["name"].startswith("documented example"):
        examples = PATHS[path]["post"]["requestBody"]["content"]["application/json"]
        values = [one["value"] for one in examples["examples"].values()]
        assert json.loads(request["body"]) in values


def test_its_examples_fit_its_schemas() -> None:
    checked = 0
    for path, item in PATHS.items():
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
        ("/hubconfiger", {"id": 1, "code": "OK", "config": ""}),
        ("/hubconfiger", {"id": 1, "code": "NOT_FOUND", "config": "", "digest": 0}),
        ("/jwtissuer", {"id": 1, "code": "VERIFICATION_FAILED"}),
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
@pytest.mark.parametrize("path", [*PATHS, "/rpc?reply=array", "/v1/Hello?reply=array"])
@pytest.mark.parametrize(
    ("request_", "status"),
    [
        ({"data": b"{"}, {"RTIO": 200, "": 400}),
        ({"data": b"x" * 300_000}, {"": 413}),
        ({"method": "GET"}, {"/": 302, "": 405}),
        ({"REMOTE_ADDR": "203.0.113.9"}, {"": 401}),
        ({"failure": OperationalError("x")}, {"RTIO": 200, "/jwtissuer": 200, "": 503}),
        ({"failure": RuntimeError("x")}, {"RTIO": 200, "/jwtissuer": 200, "": 500}),
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
    if bare in {"/deviceverifier", "/hubconfiger"}:
        status = {bare: status.get("RTIO", status[""])}
    elif bare == "/jwtissuer":  # where a backend network alone does not suffice
        status = {"": 401, **status, bare: status.get(bare, 401)}
    assert response.status_code == status.get(bare, status.get(""))
    if response.status_code != 302:
        assert accepts(answer_schema(bare, response.status_code))(json.loads(response.content))
