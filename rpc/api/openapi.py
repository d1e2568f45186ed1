"""Describe the machine endpoints in the OpenAPI document, from what answers them.

Arguments and results come from the commands' definitions, limits and codes from the views and
frames, examples from `rpc.api.examples`. drf-spectacular makes the rest of the document, from the
management API's serializers; it calls `add_machine_endpoints` when it is done.
"""

import json
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import urlsplit

from rpc.api.examples import EXAMPLES, Example
from rpc.api.schemas import (
    FAILURES,
    PARAMETERS,
    Schema,
    in_array_too,
    object_of,
    ref,
    schema_of,
    schemas,
)
from rpc.commands import frames
from rpc.commands.registry import COMMANDS, SERVICES, Command, service_of
from rpc.rtio.views import HubConfiger, JwtIssuer
from rpc.views import CommandEndpoint, DeviceVerifier, RtioView

JSON = "application/json"
TAGS = {
    "RTIO": "What RTIO asks: may this device connect, which URL serves its URIs, a token for it.",
    "Cesanta": "Frames of the Cesanta protocol, each version.",
    "Commands": "Each command at a path of its own.",
}
SECURITY: list[Schema] = [{"basic": []}, {"certificate": []}, {}]
CALLERS = (
    "Only the backend may call: with HTTP Basic (the ID and secret of a device of kind `backend`), "
    "with a client certificate of one, in a frame with its `key`, or from a backend network. "
    "JSON is read whatever the Content-Type says. No answer is a redirect or HTML."
)
UNAUTHORIZED = "No credential that holds was shown."
FORBIDDEN = "The caller is no backend, or `src` is not its own."
CHALLENGE = {
    "WWW-Authenticate": {"schema": {"type": "string"}, "description": "Asks for HTTP Basic."}
}
ALLOW = {"Allow": {"schema": {"const": "POST"}}}


def add_machine_endpoints(result: Schema, **_kwargs: Any) -> Schema:
    """Add what machines call to the document; a hook after drf-spectacular's generation."""
    for path, operation in operations().items():
        operation["security"] = SECURITY
        operation["description"] = f"{operation['description']}\n\n{CALLERS}"
        result["paths"][path] = {"post": operation}
    for kind, named in {
        "schemas": schemas(),
        "responses": responses(),
        "parameters": PARAMETERS,
        "securitySchemes": {
            "basic": {"type": "http", "scheme": "basic"},
            "certificate": {
                "type": "mutualTLS",
                "description": "Checked by the TLS front, where one is configured.",
            },
        },
    }.items():
        result["components"].setdefault(kind, {}).update(named)
    tags = [{"name": name, "description": text} for name, text in TAGS.items()]
    result["tags"] = [*result.get("tags", []), *tags]
    return result


def operations() -> dict[str, Schema]:
    """Return the operation of each path."""
    return {
        "/deviceverifier": rtio(
            DeviceVerifier,
            "verify",
            "May this device connect?",
            'RTIO asks once for each connection, and admits the device on `"code":"OK"` alone.',
            ("VerificationRequest", "Verification"),
        ),
        "/hubconfiger": rtio(
            HubConfiger,
            "getConfig",
            "Which URL serves which URI of devices?",
            "RTIO asks every 5 s, and only ever sets routes: one that is gone from the answer "
            "works until RTIO restarts.",
            ("HubRequest", "HubAnswer"),
        ),
        "/jwtissuer": rtio(
            JwtIssuer,
            "issueToken",
            "A token with which an app reaches a device.",
            "The caller shows a credential of a backend, and a rule allows it the command "
            "`/rtio/Jwt.Issue` to the device. No token can be revoked.",
            ("TokenRequest", "TokenAnswer"),
            forbidden="The caller is no backend, or no rule allows it a token for the device.",
            parameters=[
                {
                    "name": "key",
                    "in": "query",
                    "schema": {"type": "string"},
                    "description": "The id of the key to sign with, where there are two; the first "
                    "unless given.",
                }
            ],
        ),
        "/": frame("frame", ("/", "/rpc")),
        "/rpc": frame("rpc", ("/", "/rpc")),
        "/rpc/array": frame("rpcArray", ("/rpc/array",), as_array=True),
        **{name: rest(command) for name, command in COMMANDS.items()},
    }


def rtio(
    view: type[RtioView],
    operation_id: str,
    summary: str,
    description: str,
    schema_names: tuple[str, str],
    *,
    forbidden: str = FORBIDDEN,
    parameters: Sequence[Schema] = (),
) -> Schema:
    """Return the operation of one of RTIO's questions."""
    path = f"/{view.__name__.lower()}"
    asked, answered = map(ref, schema_names)
    return {
        "operationId": operation_id,
        "tags": ["RTIO"],
        "summary": summary,
        "description": description,
        "parameters": list(parameters),
        "requestBody": {"required": True, **content(asked, requests_at(path))},
        "responses": {
            "200": {
                "description": "The code says what became of it.",
                **content(answered, answers_at(path)),
            },
            "401": {"description": UNAUTHORIZED, **content(answered), "headers": CHALLENGE},
            "403": {"description": forbidden, **content(answered)},
            "405": {"description": FAILURES[405], **content(answered), "headers": ALLOW},
            "413": {
                "description": FAILURES[413].format(limit=view.body_limit),
                **content(answered),
            },
        },
    }


def frame(operation_id: str, paths: Sequence[str], *, as_array: bool = False) -> Schema:
    """Return the operation of the command endpoint, at one of its paths."""
    reply = {"type": "array", "items": ref("Reply"), "maxItems": 1}
    summary = "Run the commands of a frame, and reply in an array"
    description = (
        "For clients that take nothing but an array and strip the query of their address; "
        "otherwise as `/rpc`."
    )
    if not as_array:
        reply = {"anyOf": [ref("Reply"), reply]}
        summary = "Run the commands of a frame"
        description = (
            f"Up to {frames.MAX_COMMANDS} commands, answered in their order; one that fails leaves "
            "the others be. The commands and their arguments are those at the paths below `/v1/`."
        )
    return {
        "operationId": operation_id,
        "tags": ["Cesanta"],
        "summary": summary,
        "description": description,
        "parameters": [] if as_array else [{"$ref": "#/components/parameters/reply"}],
        "requestBody": {"required": True, **content(ref("Frame"), requests_at(*paths))},
        "responses": {
            "200": {
                "description": "The reply frame, errors of single commands included.",
                **content(reply, answers_at(*paths)),
            },
            "204": {"description": 'The frame said `"nr":true`: no reply.'},
            **refusals(reply),
        },
    }


def rest(command: Command) -> Schema:
    """Return the operation of a command at its own path."""
    definition = command.definition
    succeeded = object_of({"v": {"const": 2}, "id": ref("Id")}, required=["v"], closed=True)
    if (value := definition.get("result")) is not None:
        succeeded["properties"]["result"] = schema_of(value)
        succeeded["required"].append("result")
    arguments = {
        "type": "object",
        "properties": definition["args"],
        "required": definition.get("required_args"),
    }
    return {
        "operationId": command.name.removeprefix("/v1/").replace(".", ""),
        "tags": ["Commands"],
        "summary": definition["doc"],
        "description": SERVICES[service_of(command.name)[0]],
        "parameters": [{"$ref": f"#/components/parameters/{name}"} for name in PARAMETERS],
        "requestBody": {
            "required": bool(definition.get("required_args")),
            **content(schema_of(arguments), requests_at(command.name)),
        },
        "responses": {
            "200": {
                "description": "The result, or why the command was not run.",
                **content(
                    in_array_too({"anyOf": [succeeded, ref("FailedReply")]}),
                    answers_at(command.name),
                ),
            },
            **refusals(in_array_too(ref("FailedReply"))),
        },
    }


def refusals(reply: Schema) -> Schema:
    """Return the answers of the Cesanta protocol's paths where no command is run."""
    return {
        "401": {"description": UNAUTHORIZED, **content(reply), "headers": CHALLENGE},
        "403": {"description": FORBIDDEN, **content(reply)},
        **{str(status): {"$ref": f"#/components/responses/Error{status}"} for status in FAILURES},
    }


def responses() -> Schema:
    """Return what is answered where there is no frame to answer in."""
    found: Schema = {
        f"Error{status}": {
            "description": text.format(limit=CommandEndpoint.body_limit),
            **content(ref("Error")),
        }
        for status, text in FAILURES.items()
    }
    found["Error405"]["headers"] = ALLOW
    return found


# --- Bodies and their examples ---


def content(schema: Schema, examples: Iterable[tuple[str, Any]] = ()) -> Schema:
    """Return a body of this schema; each example under a key, with its name."""
    named = {
        f"example{number}": {"summary": name, "value": value}
        for number, (name, value) in enumerate(examples, 1)
    }
    return {"content": {JSON: {"schema": schema} | ({"examples": named} if named else {})}}


def requests_at(*paths: str) -> Iterable[tuple[str, Any]]:
    """Return the examples' names and bodies at these paths."""
    return [(one.name, json.loads(one.body)) for one in examples_at(paths)]


def answers_at(*paths: str) -> Iterable[tuple[str, Any]]:
    """Return the examples' names and answers at these paths."""
    return [(one.name, one.expected) for one in examples_at(paths)]


def examples_at(paths: Sequence[str]) -> list[Example]:
    """Return the examples at these paths."""
    return [one for one in EXAMPLES if urlsplit(one.path).path in paths]
