"""The documented requests with their answers, on the registry that `manage.py seed_demo` loads.

`examples.yaml` has them. `manage.py selftest` asks them, the OpenAPI document shows them.
"""

import base64
import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

Judge = Callable[[int, Any], Iterator[str]]  # yields what is wrong with a status and an answer
APP_S_DEVICE = "cfa09baa-4913-4ad7-a936-3e26f9671b09"
# The documented refusals of a token, by HTTP status, id and code, and what each says of a registry.
REFUSALS = {
    (200, 12667, "INTERNAL_SERVER_ERROR"): "the server has no key to sign with (JWT_SIGNING_KEYS)",
    (200, 12667, "NOT_FOUND"): "the device is not registered, or is disabled",
    (401, 0, "BAD_REQUEST"): "the call shows no right credential; an app has its own (--user)",
    (403, 0, "BAD_REQUEST"): "what the caller shows is the credential of no backend",
    (403, 12667, "BAD_REQUEST"): "no rule lets the caller send /rtio/Jwt.Issue to the device",
}


class Example(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A documented request, and the answer that its document gives.

    Where a server may rightly answer otherwise, `judge` names the one of JUDGES that says what is
    wrong with an answer.
    """

    name: str
    path: str
    body: str
    expected: Any
    headers: dict[str, str] = {}
    judge: Literal["hub", "token"] | None = None


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
    if answer.get("code") != "OK" or not isinstance(answer.get("jwt"), str):
        if not why_refused(status, answer) or len(answer) != 2:  # noqa: PLR2004
            yield "it should be a token, or a documented refusal"
        return
    parts = [*(_decoded(part) for part in answer["jwt"].split(".")), {}, {}]
    header, claims = parts[0], parts[1]
    if header.get("alg") != "EdDSA" or claims.get("sub") != APP_S_DEVICE:
        yield f"the token should be for {APP_S_DEVICE}, and signed with EdDSA"


def why_refused(status: int, answer: Mapping[str, Any]) -> str:
    """Return why a server may rightly give no token; empty where it should have answered."""
    said = (status, answer.get("id"), answer.get("code"))
    return next((why for refusal, why in REFUSALS.items() if refusal == said), "")


def _decoded(part: str) -> Mapping[str, Any]:
    """Return what a part of a token says; nothing where it is no JSON object."""
    try:
        value = json.loads(base64.urlsafe_b64decode(part + "=="))
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


JUDGES: Mapping[str, Judge] = {"hub": judge_hub, "token": judge_token}
EXAMPLES = msgspec.yaml.decode(
    Path(__file__).with_name("examples.yaml").read_bytes(), type=tuple[Example, ...]
)
