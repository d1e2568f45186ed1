"""Schemathesis: requests made from the OpenAPI document, answers held against it."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from authsite.api.document import rendered
from tests.support.fuzz import TIMES, Asked, Fuzz, Told, fuzzing
from tests.support.servers import demo_server

pytestmark = [pytest.mark.slow, pytest.mark.once(on="sqlite")]

EXAMPLES = 20 * TIMES  # requests that fit, and as many that do not, of each operation
DOCUMENT = json.loads(rendered())
OPERATIONS = {
    found.path: found
    for result in schemathesis.openapi.from_dict(DOCUMENT).get_all_operations()
    if isinstance(result, Ok) and not (found := result.ok()).path.startswith("/api/")
}

# Left out: whether wrong requests are refused by their HTTP status (RTIO's are answered with 200,
# and so are frames whose commands are wrong), whether right ones are not (JSON Schema counts 1.0
# as an integer, the contract does not), and other methods (GET of / is a browser's, who is
# redirected). What is answered in each of these cases is held against the contract elsewhere.
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


@pytest.fixture(scope="module")
def fuzz(tmp_path_factory: pytest.TempPathFactory, report: Callable[[str], None]) -> Iterator[Fuzz]:
    with (
        demo_server(tmp_path_factory.mktemp("described"), LOG_LEVEL="CRITICAL") as server,
        fuzzing(server, report, "Schemathesis") as running,
    ):
        yield running


@pytest.mark.parametrize("mode", GenerationMode, ids=lambda mode: mode.value)
@pytest.mark.parametrize("path", OPERATIONS)
def test_every_answer_is_a_described_one(path: str, mode: GenerationMode, fuzz: Fuzz) -> None:
    operation = OPERATIONS[path]

    @settings(
        max_examples=EXAMPLES,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(operation.as_strategy(mode))
    def run(case: Any) -> None:
        def told() -> Told:
            response = case.call(base_url=fuzz.server.url, session=session)
            case.validate_response(response, checks=CHECKS)
            body = response.request.body or b""
            bodies.append(body if isinstance(body, bytes) else str(body).encode())
            (kind,) = response.headers.get("content-type", [None])
            return Told(response.status_code, kind, response.content, response.elapsed)

        bodies: list[bytes] = []
        answer = fuzz.in_time(told)
        fuzz.check(Asked(path, bodies[-1]), answer)

    with requests.Session() as session:
        run()
