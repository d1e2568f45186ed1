"""The OpenAPI 3.1 document of the machine endpoints, made from what answers them.

Arguments and results come from the commands' definitions, limits and codes from the views and
frames, examples from `rpc.examples`. `manage.py openapi` prints it.
"""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from rpc import frames
from rpc.commands.registry import COMMANDS, SERVICES, Command, Definition, service_of
from rpc.examples import EXAMPLES, Example
from rpc.views import CommandEndpoint, DeviceVerifier

Schema = dict[str, Any]

JSON = "application/json"
CALLERS = gettext_noop(
    "Only the backend may call: with HTTP Basic (the ID and secret of a device of kind `backend`), "
    "with a client certificate of one, in a frame with its `key`, or from a backend network. "
    "JSON is read whatever the Content-Type says. No answer is a redirect or HTML."
)
REFUSALS = {
    401: gettext_noop("No credential that holds was shown."),
    403: gettext_noop("The caller is no backend, or `src` is not its own."),
}
FAILURES = {
    400: gettext_noop("The body is not JSON, not UTF-8, or no frame."),
    405: gettext_noop("Only POST is answered."),
    413: gettext_noop("The body is too large."),
    500: gettext_noop("An unexpected failure, which is in the log."),
    503: gettext_noop("The database cannot be reached, or too many senders are not done sending."),
}


def document() -> Schema:
    """Return the document, its descriptions in the language that is active."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Authsite machine endpoints",
            "version": "1.0",
            "description": _(CALLERS),
        },
        "servers": [{"url": "/"}],
        "security": [{"basic": []}, {"certificate": []}, {}],
        "tags": [
            {"name": "RTIO", "description": _("The device verifier of RTIO.")},
            {"name": "Cesanta", "description": _("Frames of the Cesanta protocol, each version.")},
            {"name": _("Commands"), "description": _("Each command at a path of its own.")},
        ],
        "paths": {
            "/deviceverifier": {"post": verification()},
            "/": {"post": frame("frame")},
            "/rpc": {"post": frame("rpc")},
            **{name: {"post": rest(command)} for name, command in COMMANDS.items()},
        },
        "components": {
            "schemas": schemas(),
            "responses": responses(),
            "parameters": parameters(),
            "securitySchemes": {
                "basic": {"type": "http", "scheme": "basic"},
                "certificate": {
                    "type": "mutualTLS",
                    "description": "Checked by the TLS front, where one is configured.",
                },
            },
        },
    }


# --- Operations -----------------------------------------------------------------------------


def verification() -> Schema:
    """Return the operation of the device verifier."""
    answer = partial(response, schema=ref("Verification"))
    return {
        "operationId": "verify",
        "tags": ["RTIO"],
        "summary": _("May this device connect?"),
        "description": _(
            'RTIO asks once for each connection, and admits the device on `"code":"OK"` alone.'
        ),
        "requestBody": body("VerificationRequest", examples_of("/deviceverifier")),
        "responses": {
            "200": answer(
                _("The code says what became of it."), examples=answers_of("/deviceverifier")
            ),
            "401": answer(_(REFUSALS[401]), headers=CHALLENGE),
            "403": answer(_(REFUSALS[403])),
            "405": answer(_(FAILURES[405]), headers=ALLOW),
            "413": answer(
                too_large(DeviceVerifier.body_limit),
            ),
        },
    }


def frame(operation: str) -> Schema:
    """Return the operation of the command endpoint, at one of its two paths."""
    reply = {"anyOf": [ref("Reply"), {"type": "array", "items": ref("Reply"), "maxItems": 1}]}
    at = ("/", "/rpc")
    return {
        "operationId": operation,
        "tags": ["Cesanta"],
        "summary": _("Run the commands of a frame"),
        "description": _(
            "Up to %(most)d commands, answered in their order; one that fails leaves the others "
            "be. The commands and their arguments are those at the paths below `/v1/`."
        )
        % {"most": frames.MAX_COMMANDS},
        "parameters": [{"$ref": "#/components/parameters/reply"}],
        "requestBody": body("Frame", examples_of(*at)),
        "responses": {
            "200": response(
                _("The reply frame, errors of single commands included."),
                schema=reply,
                examples=answers_of(*at),
            ),
            "204": {"description": _('The frame said `"nr":true`: no reply.')},
            "401": response(_(REFUSALS[401]), schema=reply, headers=CHALLENGE),
            "403": response(_(REFUSALS[403]), schema=reply),
            **errors(),
        },
    }


def rest(command: Command) -> Schema:
    """Return the operation of a command at its own path."""
    result = command.definition.get("result")
    succeeded: Schema = {
        "type": "object",
        "properties": {"v": {"const": 2}, "id": ref("Id")},
        "required": ["v"],
        "additionalProperties": False,
    }
    if result is not None:
        succeeded["properties"]["result"] = schema_of(result)
        succeeded["required"].append("result")
    reply = in_array_too({"anyOf": [succeeded, ref("FailedReply")]})
    refused = in_array_too(ref("FailedReply"))
    service, _method = service_of(command.name)
    return {
        "operationId": command.name.removeprefix("/v1/").replace(".", ""),
        "tags": [_("Commands")],
        "summary": _(command.definition["doc"]),
        "description": _(SERVICES[service]),
        "parameters": [{"$ref": f"#/components/parameters/{name}"} for name in parameters()],
        "requestBody": {
            "required": bool(command.definition.get("required_args")),
            "content": {
                JSON: {"schema": schema_of_arguments(command)}
                | with_examples(examples_of(command.name))
            },
        },
        "responses": {
            "200": response(
                _("The result, or why the command was not run."),
                schema=reply,
                examples=answers_of(command.name),
            ),
            "401": response(_(REFUSALS[401]), schema=refused, headers=CHALLENGE),
            "403": response(_(REFUSALS[403]), schema=refused),
            **errors(),
        },
    }


# --- Schemas --------------------------------------------------------------------------------


def ref(name: str) -> Schema:
    """Return a reference to a schema of the document."""
    return {"$ref": f"#/components/schemas/{name}"}


def in_array_too(schema: Schema) -> Schema:
    """Return the schema of a reply, which `?reply=array` wraps in an array."""
    return {"anyOf": [schema, {"type": "array", "items": schema, "minItems": 1, "maxItems": 1}]}


def schema_of(definition: Definition) -> Schema:
    """Return the JSON schema of a value that a command's definition describes."""
    schema: Schema = {"type": definition["type"]}
    if "doc" in definition:
        schema["description"] = _(definition["doc"])
    if "properties" in definition:
        schema["properties"] = {
            name: schema_of(member) for name, member in definition["properties"].items()
        }
        if definition.get("required"):
            schema["required"] = definition["required"]
    return schema


def schema_of_arguments(command: Command) -> Schema:
    """Return the JSON schema of a command's arguments."""
    return schema_of(
        {
            "type": "object",
            "properties": command.definition["args"],
            "required": command.definition.get("required_args"),
        }
    )


def schemas() -> dict[str, Schema]:
    """Return the messages of both protocols."""
    address: Schema = {
        "type": ["string", "null"],
        "description": _("An address; reduced to its ID."),
    }
    ends = {
        "src": address | {"description": _("The sender's address.")},
        "dst": address,
        "key": {"description": _("A pre-shared secret of `src`.")},
    }
    request_id = {"type": "integer", "minimum": 0, "maximum": DeviceVerifier.id_limit - 1}
    deadline = {"type": ["number", "null"], "description": _("Unix seconds; later it is not run.")}
    statuses = [frames.BAD_REQUEST, frames.NOT_FOUND, *frames.MESSAGES]
    return {
        "VerificationRequest": object_of(
            {
                "method": {"const": "verify"},
                "id": request_id
                | {"description": _("Echoed. Written without a fraction: `1.0` is none.")},
                "deviceid": text(DeviceVerifier.deviceid_length, _("The device's identifier.")),
                "devicesecret": text(DeviceVerifier.devicesecret_length, _("One of its secrets.")),
            }
        ),
        "Verification": object_of(
            {
                "id": request_id | {"description": _("The request's, or 0 where it had none.")},
                "code": {
                    "enum": list(DeviceVerifier.codes),
                    "description": " ".join(
                        f"`{code}`: {_(meaning)}" for code, meaning in DeviceVerifier.codes.items()
                    ),
                },
            },
            closed=True,
        ),
        "Id": {
            "type": "integer",
            "minimum": 0,
            "maximum": frames.MAX_ID,
            "description": _("Echoed exactly. Written without a fraction: `1.0` is none."),
        },
        "Frame": {"anyOf": [ref("FrameVersion1"), ref("FrameVersion2")]},
        "FrameVersion1": object_of(
            {
                "v": {"const": 1, "description": _("May be left out.")},
                **ends,
                "cmds": {
                    "type": "array",
                    "maxItems": frames.MAX_COMMANDS,
                    "items": object_of(
                        {
                            "cmd": {"type": "string", "description": _("The command's name.")},
                            "id": ref("Id"),
                            "args": {"type": "object"},
                            "deadline": deadline,
                            "timeout": {"description": _("Ignored.")},
                        },
                        required=["cmd"],
                    ),
                },
            },
            required=["cmds"],
        ),
        "FrameVersion2": object_of(
            {
                "v": {"const": 2, "description": _("May be left out.")},
                **ends,
                "id": ref("Id"),
                "method": {"type": "string", "description": _("The command's name.")},
                "args": {"type": "object"},
                "deadline": deadline,
                "nr": {"type": "boolean", "description": _("No reply is wanted: HTTP 204.")},
            },
            required=["method"],
        ),
        "Reply": {
            "anyOf": [ref("ReplyVersion1"), ref("SucceededReply"), ref("FailedReply")],
        },
        "ReplyVersion1": object_of(
            {
                "v": {"const": 1},
                "src": {"type": "string", "description": _("The request's `dst`.")},
                "dst": {"type": "string", "description": _("The request's `src`.")},
                "resp": {
                    "type": "array",
                    "maxItems": frames.MAX_COMMANDS,
                    "items": {
                        "anyOf": [
                            object_of(
                                {
                                    "id": ref("Id"),
                                    "status": {"const": frames.OK},
                                    "resp": {"description": _("The command's result, if any.")},
                                },
                                required=["id", "status"],
                                closed=True,
                            ),
                            object_of(
                                {
                                    "id": ref("Id"),
                                    "status": {"enum": statuses},
                                    "status_msg": {"type": "string"},
                                },
                                closed=True,
                            ),
                        ]
                    },
                },
            },
            required=["v", "resp"],
            closed=True,
        ),
        "SucceededReply": reply_of({"result": {"description": _("The command's result, if any.")}}),
        "FailedReply": reply_of({"error": ref("Failure")}, required=["v", "error"]),
        "Failure": object_of(
            {"code": {"enum": statuses}, "message": {"type": "string"}}, closed=True
        ),
        "Error": object_of(
            {
                "error": object_of(
                    {"code": {"enum": list(FAILURES)}, "message": {"type": "string"}}, closed=True
                )
            },
            closed=True,
        ),
    }


def object_of(
    properties: Mapping[str, Schema], *, required: Sequence[str] | None = None, closed: bool = False
) -> Schema:
    """Return an object with these members, all of them required unless told."""
    schema: Schema = {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties if required is None else required),
    }
    return schema | {"additionalProperties": False} if closed else schema


def reply_of(outcome: Mapping[str, Schema], *, required: Sequence[str] = ("v",)) -> Schema:
    """Return a version 2 reply with its outcome."""
    ends = {"src": {"type": "string"}, "dst": {"type": "string"}, "id": ref("Id")}
    return object_of({"v": {"const": 2}, **ends, **outcome}, required=required, closed=True)


def text(length: range, description: str) -> Schema:
    """Return a string of that many characters."""
    limits = {"minLength": length.start, "maxLength": length.stop - 1}
    return {"type": "string", **limits, "description": description}


# --- Requests, answers, examples ------------------------------------------------------------

CHALLENGE = {
    "WWW-Authenticate": {"schema": {"type": "string"}, "description": "Asks for HTTP Basic."}
}
ALLOW = {"Allow": {"schema": {"const": "POST"}}}


def parameters() -> dict[str, Schema]:
    """Return what may stand in the query."""
    return {
        "reply": {
            "name": "reply",
            "in": "query",
            "description": _(
                "`array` wraps the reply in an array, as Cesanta's Go client of 2017 wants."
            ),
            "schema": {"type": "string"},
            "example": "array",
        },
        "id": {
            "name": "id",
            "in": "query",
            "description": _("Echoed in the reply."),
            "schema": ref("Id"),
        },
    }


def body(schema: str, examples: Mapping[str, Any]) -> Schema:
    """Return a request's body."""
    return {
        "required": True,
        "content": {JSON: {"schema": ref(schema)} | with_examples(examples)},
    }


def response(
    description: str,
    *,
    schema: Schema,
    examples: Mapping[str, Any] | None = None,
    headers: Mapping[str, Schema] | None = None,
) -> Schema:
    """Return an answer."""
    content = {JSON: {"schema": schema} | with_examples(examples or {})}
    found: Schema = {"description": description, "content": content}
    return found | {"headers": headers} if headers else found


def too_large(limit: int) -> str:
    """Return why a body of more bytes is refused."""
    return _("The body is larger than %(limit)d bytes.") % {"limit": limit}


def responses() -> dict[str, Schema]:
    """Return what is answered where there is no frame to answer in."""
    described = {status: _(text) for status, text in FAILURES.items()}
    described[413] = too_large(CommandEndpoint.body_limit)
    return {
        f"Error{status}": response(
            description,
            schema=ref("Error"),
            headers=ALLOW if status == 405 else None,  # noqa: PLR2004
        )
        for status, description in described.items()
    }


def errors() -> dict[str, Schema]:
    """Return the answers that every path of the Cesanta protocol may give."""
    return {str(status): {"$ref": f"#/components/responses/Error{status}"} for status in FAILURES}


def examples_of(*paths: str) -> dict[str, Any]:
    """Return the bodies of the examples at the paths, by name."""
    return {example.name: json.loads(example.body) for example in at(paths)}


def answers_of(*paths: str) -> dict[str, Any]:
    """Return the answers of the examples at the paths, by name."""
    return {example.name: example.expected for example in at(paths)}


def at(paths: Sequence[str]) -> list[Example]:
    """Return the examples at the paths."""
    return [example for example in EXAMPLES if urlsplit(example.path).path in paths]


def with_examples(values: Mapping[str, Any]) -> Schema:
    """Return the examples of a body as the document holds them: each under a key, with its name."""
    named = {
        f"example{number}": {"summary": _(name), "value": value}
        for number, (name, value) in enumerate(values.items(), 1)
    }
    return {"examples": named} if named else {}
