"""A client of the API that holds each answer against the OpenAPI document.

An answer must have a status, a media type and headers that its operation names, and a body with no
property but those that the schema has: what a client reads, the document says.
"""

import json
import re
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator
from rest_framework.test import APIClient

from authsite.api.document import rendered

SAID = ("ETag", "Location", "Retry-After", "WWW-Authenticate", "Idempotency-Replayed")
NOWHERE = frozenset({404, 405})  # addresses and methods that the document does not have


class DescribedClient(APIClient):
    """Fails the test where an answer is not as the document says."""

    def request(self, **kwargs: Any) -> Any:
        answer = super().request(**kwargs)
        asked = f"{kwargs['REQUEST_METHOD']} {kwargs['PATH_INFO']} {answer.status_code}"
        assert not (faults := faults_of(kwargs["REQUEST_METHOD"], kwargs["PATH_INFO"], answer)), (
            asked,
            faults,
        )
        return answer


def faults_of(method: str, path: str, answer: Any) -> list[str]:
    """Return what of an answer the document does not say."""
    operation = _operation(method, path)
    if operation is None:
        return [] if answer.status_code in NOWHERE else ["there is no such operation"]
    said = operation["responses"].get(str(answer.status_code))
    if said is None:
        return ["there is no such status"]
    if "$ref" in said:
        said = _strict()["components"]["responses"][said["$ref"].rpartition("/")[2]]
    faults = [
        f"there is no header {name}"
        for name in SAID
        if name in answer.headers and name not in said.get("headers", {})
    ]
    kinds = said.get("content", {})
    kind = answer.headers.get("Content-Type", "").partition(";")[0]
    if not answer.streaming and answer.content and kind not in kinds:
        faults.append(f"there is no {kind!r}")
    elif not answer.streaming and answer.content:
        faults += _validator(json.dumps(kinds[kind]["schema"])).faults(answer.json())
    return faults


def _operation(method: str, path: str) -> Any:
    found = (item for pattern, item in _paths() if pattern.fullmatch(path))
    item: dict[str, Any] = next(found, {})
    return item.get("get" if method == "HEAD" else method.lower())


@cache
def _paths() -> list[tuple[re.Pattern[str], Any]]:
    """Return the addresses of the document as patterns, those without a key first."""
    paths = sorted(_strict()["paths"].items(), key=lambda one: one[0].count("{"))
    return [(re.compile(re.sub(r"\{\w+\}", "[^/]+", path)), item) for path, item in paths]


@cache
def _strict() -> dict[str, Any]:
    """Return the document, its objects closed: there is nothing in them that it does not name."""
    found: dict[str, Any] = json.loads(rendered())
    waiting: list[Any] = [found]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            if one.get("type") == "object" and one.get("properties"):
                one.setdefault("additionalProperties", False)
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one
    return found


class _Validator:
    def __init__(self, schema: Any) -> None:
        self._one = Draft202012Validator({**schema, "components": _strict()["components"]})

    def faults(self, body: Any) -> list[str]:
        return [f"{error.json_path}: {error.message}" for error in self._one.iter_errors(body)]


@cache
def _validator(schema: str) -> _Validator:
    return _Validator(json.loads(schema))
