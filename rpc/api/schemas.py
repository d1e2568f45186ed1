"""The messages of the machine endpoints as JSON schemas, from the views, frames and commands."""

from collections.abc import Mapping, Sequence
from typing import Any

from rpc.commands import frames
from rpc.commands.registry import Definition
from rpc.rtio.models.route import MAX_CONFIG_LENGTH
from rpc.rtio.views import HubConfiger, JwtIssuer
from rpc.views import DeviceVerifier, RtioView

Schema = dict[str, Any]

FAILURES = {
    400: "The body is not JSON, not UTF-8, or no frame.",
    405: "Only POST is answered.",
    413: "The body is larger than {limit} bytes.",
    500: "An unexpected failure, which is in the log.",
    503: "The database cannot be reached, or too many senders are not done sending.",
}


def ref(name: str) -> Schema:
    """Return a reference to a schema of the document."""
    return {"$ref": f"#/components/schemas/{name}"}


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


def in_array_too(schema: Schema) -> Schema:
    """Return the schema of a reply, which `?reply=array` wraps in an array."""
    return {"anyOf": [schema, {"type": "array", "items": schema, "minItems": 1, "maxItems": 1}]}


def within(values: range, kind: str = "") -> Schema:
    """Return the bounds of a number, or of the length of a string (`kind` is "Length")."""
    if kind:
        return {"type": "string", f"min{kind}": values.start, f"max{kind}": values.stop - 1}
    return {"type": "integer", "minimum": values.start, "maximum": values.stop - 1}


def schema_of(definition: Definition) -> Schema:
    """Return the JSON schema of a value that a command's definition describes."""
    schema: Schema = {"type": definition["type"]}
    if "doc" in definition:
        schema["description"] = definition["doc"]
    if "properties" in definition:
        schema["properties"] = {
            name: schema_of(member) for name, member in definition["properties"].items()
        }
        if definition.get("required"):
            schema["required"] = definition["required"]
    return schema


NO_FRACTION = "Written without a fraction: `1.0` is none."
PARAMETERS: Schema = {
    "reply": {
        "name": "reply",
        "in": "query",
        "description": "`array` wraps the reply in an array, as Cesanta's Go client of 2017 wants.",
        "schema": {"type": "string"},
        "example": "array",
    },
    "id": {
        "name": "id",
        "in": "query",
        "description": "Echoed in the reply.",
        "schema": ref("Id"),
    },
}


def rtio_request(view: type[RtioView], more: Schema, *, optional: Sequence[str] = ()) -> Schema:
    """Return one of RTIO's questions."""
    members = {
        "method": {"const": view.method},
        "id": within(range(view.id_limit)) | {"description": f"Echoed. {NO_FRACTION}"},
        **more,
    }
    return object_of(members, required=[name for name in members if name not in optional])


def rtio_answer(view: type[RtioView], more: Schema, *, optional: Sequence[str] = ()) -> Schema:
    """Return the answer to one of RTIO's questions."""
    meanings = " ".join(f"`{code}`: {meaning}" for code, meaning in view.codes.items())
    members = {
        "id": within(range(view.id_limit))
        | {"description": "The request's, or 0 where it had none."},
        "code": {"enum": list(view.codes), "description": meanings},
        **more,
    }
    required = [name for name in members if name not in optional]
    return object_of(members, required=required, closed=True)


def schemas() -> dict[str, Schema]:
    """Return the messages of both protocols."""
    identifier = within(RtioView.deviceid_length, "Length") | {
        "description": "The device's identifier."
    }
    return {
        "VerificationRequest": rtio_request(
            DeviceVerifier,
            {
                "deviceid": identifier,
                "devicesecret": within(DeviceVerifier.devicesecret_length, "Length")
                | {"description": "One of its secrets."},
            },
        ),
        "Verification": rtio_answer(DeviceVerifier, {}),
        "HubRequest": rtio_request(HubConfiger, {}),
        "HubAnswer": rtio_answer(
            HubConfiger,
            {
                "config": {
                    "type": "string",
                    "maxLength": MAX_CONFIG_LENGTH,
                    "description": 'JSON text: `{"deviceservicemap":{"<URI>":"<URL>"}}`; empty '
                    "where the code is not `OK`.",
                },
                "digest": within(range(2**32))
                | {
                    "description": "The CRC-32 (IEEE) of the UTF-8 bytes of `config`; 0 where the "
                    "code is not `OK`."
                },
            },
        ),
        "TokenRequest": rtio_request(
            JwtIssuer,
            {
                "deviceid": identifier,
                "expires": within(JwtIssuer.expires_range)
                | {
                    "default": JwtIssuer.expires_range.stop - 1,
                    "description": "Seconds that the token lives; the registry may have a lower "
                    "ceiling.",
                },
            },
            optional=["expires"],
        ),
        "TokenAnswer": rtio_answer(
            JwtIssuer,
            {
                "jwt": {
                    "type": "string",
                    "description": "Signed with Ed25519 (`EdDSA`): `iss` is `rtio`, `sub` the "
                    "device; `iat`, `exp`, `jti`; `kid` names the key. Only where the code is "
                    "`OK`.",
                }
            },
            optional=["jwt"],
        ),
        **frame_schemas(),
    }


STATUSES = [frames.BAD_REQUEST, frames.NOT_FOUND, *frames.MESSAGES]
TEXT: Schema = {"type": "string"}
TAG: Schema = {"description": "Echoed unchanged."}


def frame_schemas() -> dict[str, Schema]:
    """Return the messages of the Cesanta protocol."""
    return {
        "Id": within(range(frames.MAX_ID + 1)) | {"description": f"Echoed exactly. {NO_FRACTION}"},
        **request_frames(),
        **reply_frames(),
    }


def calls_of(one: Schema) -> Schema:
    """Return the list of a version 1 frame: commands, or their results."""
    return {"type": "array", "maxItems": frames.MAX_COMMANDS, "items": one}


def request_frames() -> dict[str, Schema]:
    """Return the frames that are sent."""
    address: Schema = {"type": ["string", "null"]}
    ends = {
        "src": address | {"description": "The sender's address."},
        "dst": address | {"description": "An address; reduced to its ID."},
        "key": {"description": "A pre-shared secret of `src`."},
    }
    deadline = {"type": ["number", "null"], "description": "Unix seconds; later it is not run."}
    command = {"type": "string", "description": "The command's name."}

    def version(number: int) -> Schema:
        return {"v": {"const": number, "description": "May be left out."}}

    call = {
        "cmd": command,
        "id": ref("Id"),
        "args": {"type": "object"},
        "deadline": deadline,
        "timeout": {"description": "Ignored."},
    }
    only_call = {
        "id": ref("Id"),
        "method": command,
        "args": {"type": "object"},
        "deadline": deadline,
        "nr": {"type": "boolean", "description": "No reply is wanted: HTTP 204."},
        "params": {
            "type": "object",
            "description": "The arguments as clients since November 2018 send them; wins over "
            "`args`.",
        },
        "tag": TAG,
    }
    return {
        "Frame": {"anyOf": [ref("FrameVersion1"), ref("FrameVersion2")]},
        "FrameVersion1": object_of(
            {**version(1), **ends, "cmds": calls_of(object_of(call, required=["cmd"]))},
            required=["cmds"],
        ),
        "FrameVersion2": object_of({**version(2), **ends, **only_call}, required=["method"]),
    }


def reply_frames() -> dict[str, Schema]:
    """Return the frames, and the errors, that are answered."""
    result = {"description": "The command's result, if any."}
    succeeded = object_of(
        {"id": ref("Id"), "status": {"const": frames.OK}, "resp": result},
        required=["id", "status"],
        closed=True,
    )
    failed = object_of(
        {"id": ref("Id"), "status": {"enum": STATUSES}, "status_msg": TEXT}, closed=True
    )

    def version2(outcome: Schema, *, required: Sequence[str]) -> Schema:
        members = {"v": {"const": 2}, "src": TEXT, "dst": TEXT, "id": ref("Id"), **outcome}
        return object_of({**members, "tag": TAG}, required=required, closed=True)

    return {
        "Reply": {"anyOf": [ref("ReplyVersion1"), ref("SucceededReply"), ref("FailedReply")]},
        "ReplyVersion1": object_of(
            {
                "v": {"const": 1},
                "src": TEXT | {"description": "The request's `dst`."},
                "dst": TEXT | {"description": "The request's `src`."},
                "resp": calls_of({"anyOf": [succeeded, failed]}),
            },
            required=["v", "resp"],
            closed=True,
        ),
        "SucceededReply": version2({"result": result}, required=["v"]),
        "FailedReply": version2({"error": ref("Failure")}, required=["v", "error"]),
        "Failure": object_of({"code": {"enum": STATUSES}, "message": TEXT}, closed=True),
        "Error": object_of(
            {"error": object_of({"code": {"enum": list(FAILURES)}, "message": TEXT}, closed=True)},
            closed=True,
        ),
    }
