"""The golden cases, against a real server."""

import json
from operator import itemgetter
from pathlib import Path
from typing import Any

import pytest

from tests.support.servers import Server

Case = dict[str, Any]


def load_cases(name: str) -> list[Case]:
    """Return the cases of a file beside this one."""
    lines = Path(__file__).with_name(name).read_text().splitlines()
    return [json.loads(line) for line in lines]


CASES = [
    case
    for name in ("rtio_cases.jsonl", "cesanta_cases.jsonl", "own_cases.jsonl")
    for case in load_cases(name)
]


def items_of(answer: Any) -> list[Any]:
    """Return the items of a reply frame."""
    items: list[Any] = answer["resp"]
    return items


@pytest.mark.parametrize("case", CASES, ids=itemgetter("name"))
def test_answers_as_the_contract_says(case: Case, server: Server) -> None:
    request, expected = case["request"], case["expect"]
    body = request["body"].encode() if "body" in request else None

    answer = server.ask(request["method"], request["path"], body, request["headers"])

    assert answer.status == expected["status"]
    assert answer.headers.get_all("Content-Type") == ["application/json"]
    document = json.loads(answer.body)
    if "json" in expected:
        assert document == expected["json"]
    if "resp_status" in expected:
        assert [item["status"] for item in items_of(document)] == expected["resp_status"]
    is_success = isinstance(expected.get("json"), dict) and expected["json"].get("code") == "OK"
    assert (b"OK" in answer.body) == is_success


def test_the_verifier_writes_its_documents_as_rtio_prints_them(server: Server) -> None:
    body = json.dumps(
        {
            "method": "verify",
            "id": 1999,
            "deviceid": "cfa09baa-4913-4ad7-a936-2e26f9671b05",
            "devicesecret": "mb6bgso4EChvyzA05thF9+wH",
        }
    ).encode()

    assert server.ask("POST", "/deviceverifier", body).body == b'{"id":1999,"code":"OK"}'
