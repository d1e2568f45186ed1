"""The documented requests with their answers, on the registry that `manage.py seed_demo` loads.

`manage.py selftest` asks them, the OpenAPI document shows them.
"""

import base64
import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

Judge = Callable[[int, Any], Iterator[str]]  # yields what is wrong with a status and an answer


@dataclass(frozen=True)
class Example:
    """A documented request, and the answer that its document gives.

    Where a server may rightly answer otherwise, `judge` says what is wrong with an answer.
    """

    name: str
    path: str
    body: str
    expected: Any
    headers: Mapping[str, str] = field(default_factory=dict)
    judge: Judge | None = None


def judge_hub(status: int, answer: Any) -> Iterator[str]:
    """Yield what RTIO would not take of its hub's configuration, whatever routes there are."""
    members = ["id", "code", "config", "digest"]
    if (status, list(answer)) != (200, members) or not isinstance(answer["config"], str):
        yield "it should be HTTP 200 with id, code, config and digest"
    elif (answer["id"], answer["code"]) != (1999, "OK"):
        yield "the id should be 1999, and the code OK"
    elif answer["digest"] != zlib.crc32(answer["config"].encode()):
        yield "the digest should be the CRC-32 of config"


def judge_token(status: int, answer: Any) -> Iterator[str]:
    """Yield what is wrong with a token, or with a refusal: without a key, a credential, a rule."""
    refusals = {
        (200, 12667, "INTERNAL_SERVER_ERROR"),
        (200, 12667, "NOT_FOUND"),
        (401, 0, "BAD_REQUEST"),
        (403, 0, "BAD_REQUEST"),
        (403, 12667, "BAD_REQUEST"),
    }
    if answer.get("code") != "OK" or not isinstance(answer.get("jwt"), str):
        if (status, answer.get("id"), answer.get("code")) not in refusals or len(answer) != 2:  # noqa: PLR2004
            yield "it should be a token, or a documented refusal"
        return
    parts = [*(_decoded(part) for part in answer["jwt"].split(".")), {}, {}]
    header, claims = parts[0], parts[1]
    if header.get("alg") != "EdDSA" or claims.get("sub") != APP_S_DEVICE:
        yield f"the token should be for {APP_S_DEVICE}, and signed with EdDSA"


def _decoded(part: str) -> Mapping[str, Any]:
    """Return what a part of a token says; nothing where it is no JSON object."""
    try:
        value = json.loads(base64.urlsafe_b64decode(part + "=="))
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


APP_S_DEVICE = "cfa09baa-4913-4ad7-a936-3e26f9671b09"


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
        "RTIO hub configuration: the routes",
        "/hubconfiger",
        '{"method":"getconfig","id": 1999 }',
        {
            "id": 1999,
            "code": "OK",
            "config": '{"deviceservicemap":{'
            '"/aa/bb":"http://localhost:17517/deviceservice/aa/bb",'
            '"/aa/cc":"http://localhost:17517/deviceservice/aa/cc",'
            '"/aa/dd":"http://localhost:17517/deviceservice/aa/dd"}}',
            "digest": 785914363,
        },
        CURL,
        judge_hub,
    ),
    Example(
        "RTIO tokens for apps: one that lives a day",
        "/jwtissuer",
        '{"method":"jwtissuer", "id":12667,"deviceid":"cfa09baa-4913-4ad7-a936-3e26f9671b09", '
        '"expires": 86400}',
        {
            "id": 12667,
            "code": "OK",
            "jwt": "eyJhbGciOiJFZERTQSIsInR5cCI6IkpXVCJ9.eyJleHAiOjE3MjY0NjQ1MzAsImlzcyI6InJ0aW8iL"
            "CJzdWIiOiJjZmEwOWJhYS00OTEzLTRhZDctYTkzNi0zZTI2Zjk2NzFiMDkifQ.sM80Zu3nMsmahzmLpmSC4Gl"
            "sI8G0xKbnIk8kZIJvLH9IbadEc3sOM3tSb7m_L_ZY2eWy4Ipl8EiYS7t9y_NmCA",
        },
        CURL,
        judge_token,
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
