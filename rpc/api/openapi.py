"""Describe the machine endpoints in the OpenAPI document.

`machine_endpoints.yaml` says what the protocols fix. Arguments and results come from the commands'
definitions, codes from the views, examples from `rpc.api.examples`. drf-spectacular makes the rest
of the document, from the management API's serializers; it calls `add_machine_endpoints` at its end.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from rpc.api.examples import EXAMPLES
from rpc.commands.registry import COMMANDS, SERVICES, Command, Definition, service_of
from rpc.rtio.views import HubConfiger, JwtIssuer
from rpc.views import DeviceVerifier, RtioView

Schema = dict[str, Any]

JSON = "application/json"
FRAGMENT = Path(__file__).with_name("machine_endpoints.yaml")
SECURITY: list[Schema] = [{"basic": []}, {"certificate": []}, {}]
CALLERS = (
    "Only the backend may call: with HTTP Basic (the ID and secret of a device of kind `backend`), "
    "with a client certificate of one, in a frame with its `key`, or from a backend network. "
    "JSON is read whatever the Content-Type says. No answer is a redirect or HTML."
)
ANSWERS: Mapping[str, type[RtioView]] = {
    "Verification": DeviceVerifier,
    "HubAnswer": HubConfiger,
    "TokenAnswer": JwtIssuer,
}
SAME_PATHS = ("/", "/rpc")  # their examples are those of both


def add_machine_endpoints(result: Schema, **_kwargs: Any) -> Schema:
    """Add what machines call to the document; a hook after drf-spectacular's generation."""
    fragment = _unshared(yaml.safe_load(FRAGMENT.read_text("utf-8")))
    commands = {name: rest(one, fragment["x-command"]) for name, one in COMMANDS.items()}
    for path, operation in _unshared({**fragment["paths"], **commands}).items():
        operation["security"] = SECURITY
        operation["description"] = f"{operation['description']}\n\n{CALLERS}"
        _add_examples(operation, SAME_PATHS if path in SAME_PATHS else (path,))
        result["paths"][path] = {"post": operation}
    for name, view in ANSWERS.items():
        meanings = " ".join(f"`{code}`: {meaning}" for code, meaning in view.codes.items())
        members = fragment["components"]["schemas"][name]["properties"]
        members["code"] = {"enum": list(view.codes), "description": meanings}
    for kind, named in fragment["components"].items():
        result["components"].setdefault(kind, {}).update(named)
    result["tags"] = [*result.get("tags", []), *fragment["tags"]]
    return result


def _unshared(document: Schema) -> Schema:
    """Return a copy in which no part stands at two places, as YAML's aliases have it."""
    copy: Schema = json.loads(json.dumps(document))
    return copy


def _add_examples(operation: Schema, paths: Iterable[str]) -> None:
    """Add the examples of these paths: what is sent, and what is answered."""
    examples = [one for one in EXAMPLES if urlsplit(one.path).path in paths]
    asked, answered = operation["requestBody"], operation["responses"]["200"]
    for number, example in enumerate(examples, 1):
        for described, value in ((asked, json.loads(example.body)), (answered, example.expected)):
            named = described["content"][JSON].setdefault("examples", {})
            named[f"example{number}"] = {"summary": example.name, "value": value}


def rest(command: Command, common: Schema) -> Schema:
    """Return the operation of a command at its own path; `common` is what all of them share."""
    definition = command.definition
    members: Schema = {"v": {"const": 2}, "id": {"$ref": "#/components/schemas/Id"}}
    if (value := definition.get("result")) is not None:
        members["result"] = schema_of(value)
    succeeded = {
        "type": "object",
        "properties": members,
        "required": [name for name in members if name != "id"],
        "additionalProperties": False,
    }
    reply = {"anyOf": [succeeded, {"$ref": "#/components/schemas/FailedReply"}]}
    replies = {"type": "array", "items": reply, "minItems": 1, "maxItems": 1}
    required = definition.get("required_args")
    arguments = {"type": "object", "properties": definition["args"], "required": required}
    return {
        **common,
        "operationId": command.name.removeprefix("/v1/").replace(".", ""),
        "summary": definition["doc"],
        "description": SERVICES[service_of(command.name)[0]],
        "requestBody": {
            "required": bool(required),
            "content": {JSON: {"schema": schema_of(arguments)}},
        },
        "responses": {
            "200": {
                "description": "The result, or why the command was not run.",
                "content": {JSON: {"schema": {"anyOf": [reply, replies]}}},
            },
            **common["responses"],
        },
    }


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
