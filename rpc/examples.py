"""The documented requests with their answers, on the registry that `manage.py seed_demo` loads.

`manage.py selftest` asks them, the OpenAPI document shows them.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Example:
    """A documented request, and the answer that its document gives."""

    name: str
    path: str
    body: str
    expected: Any
    headers: Mapping[str, str] = field(default_factory=dict)


def frame(command: str, arguments: dict[str, Any]) -> str:
    """Return the request of an example of the Auth service's page."""
    return json.dumps(
        {
            "v": 1,
            "src": "//api.cesanta.com/cloud.dispatcher",
            "dst": "//api.cesanta.com/cloud.registry",
            "cmds": [{"cmd": command, "id": 123, "args": arguments}],
        }
    )


def reply(result: object) -> dict[str, Any]:
    """Return the response of an example of the Auth service's page."""
    return {
        "v": 1,
        "src": "//api.cesanta.com/cloud.registry",
        "dst": "//api.cesanta.com/cloud.dispatcher",
        "resp": [{"id": 123, "status": 0, "resp": result}],
    }


CURL = {"Accept": "*/*", "Content-Type": "application/x-www-form-urlencoded"}
EXAMPLES = (
    Example(
        "RTIO device verifier: the right secret",
        "/deviceverifier",
        '{"method":"verify","id": 1999,"deviceid":"cfa09baa-4913-4ad7-a936-2e26f9671b05", '
        '"devicesecret": "mb6bgso4EChvyzA05thF9+wH"}',
        {"id": 1999, "code": "OK"},
        CURL,
    ),
    Example(
        "RTIO device verifier: an empty secret",
        "/deviceverifier",
        '{"method":"verify","id": 1999,"deviceid":"cfa09baa-4913-4ad7-a936-2e26f9671b05", '
        '"devicesecret": ""}',
        {"id": 1999, "code": "VERIFICATION_FAILED"},
        CURL,
    ),
    Example(
        "Auth service: AuthorizeCommand",
        "/",
        frame(
            "/v1/Auth.AuthorizeCommand",
            {
                "cmd": "/v1/Nuke.Launch",
                "dst": "//api.cesanta.com/misslecontrol",
                "src": "//api.cesanta.com/device_123",
            },
        ),
        reply(False),
    ),
    Example(
        "Auth service: Authenticate",
        "/",
        frame(
            "/v1/Auth.Authenticate",
            {"id": "//api.cesanta.com/device_123", "credentials": {"psk": "qwerty"}},
        ),
        reply(True),
    ),
    Example(
        "RTIO's own request, without Content-Type and Accept",
        "/deviceverifier",
        '{"id":1519738298,"method":"verify","deviceid":"cfa09baa-4913-4ad7-a936-2e26f9671b05",'
        '"devicesecret":"mb6bgso4EChvyzA05thF9+wH"}',
        {"id": 1519738298, "code": "OK"},
        {"User-Agent": "Go-http-client/1.1", "Accept-Encoding": "gzip"},
    ),
    Example(
        "Version 2 of the protocol: AuthorizeCommand",
        "/rpc",
        json.dumps(
            {
                "v": 2,
                "src": "//api.cesanta.com/cloud",
                "id": 7,
                "method": "/v1/Auth.AuthorizeCommand",
                "args": {
                    "src": "//api.cesanta.com/device_123",
                    "dst": "//api.cesanta.com/thermostat",
                    "cmd": "/v1/Config.Get",
                },
            }
        ),
        {"v": 2, "dst": "//api.cesanta.com/cloud", "id": 7, "result": True},
    ),
    Example(
        "A command at its own path: Authenticate",
        "/v1/Auth.Authenticate?id=7",
        json.dumps({"id": "//api.cesanta.com/device_123", "credentials": {"psk": "qwerty"}}),
        {"v": 2, "id": 7, "result": True},
    ),
    Example(
        "Version 2 with params and a tag, as mos since 2.8.0 sends them",
        "/",
        json.dumps(
            {
                "src": "//api.cesanta.com/cloud.dispatcher",
                "dst": "//api.cesanta.com/cloud.registry",
                "id": 1571761166950,
                "tag": "t-1",
                "method": "/v1/Auth.Authenticate",
                "params": {"id": "//api.cesanta.com/device_123", "credentials": {"psk": "qwerty"}},
            }
        ),
        {
            "v": 2,
            "src": "//api.cesanta.com/cloud.registry",
            "dst": "//api.cesanta.com/cloud.dispatcher",
            "id": 1571761166950,
            "result": True,
            "tag": "t-1",
        },
    ),
    Example(
        "A reply in an array, for Cesanta's Go client of early 2017",
        "/rpc/array",
        frame(
            "/v1/Auth.Authenticate",
            {"id": "//api.cesanta.com/device_123", "credentials": {"psk": "qwerty"}},
        ),
        [reply(True)],
    ),
    Example("A greeting", "/v1/Hello", "{}", {"v": 2}),
)
