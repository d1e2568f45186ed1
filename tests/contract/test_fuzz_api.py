"""Schemathesis over the management API: made from its document, answers held against it.

`FUZZ=70` makes it thorough; the suite asks each operation little, of both kinds.
"""

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from django.conf import LazySettings
from django.contrib.auth.models import Permission, User
from django.core.signals import request_finished, request_started
from django.core.wsgi import get_wsgi_application
from django.db import close_old_connections
from hypothesis import HealthCheck, given, settings, strategies
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from acl.models import Assertion, CommandSet
from authsite.accounts.tokens.models import ApiToken
from authsite.accounts.tokens.service_account import names_of
from authsite.api.document import rendered
from devices.models import Device, DeviceGroup, PreSharedKey
from rpc.rtio.models import DeviceServiceRoute, RtioServer
from tests.support.fuzz import TIMES
from tests.support.rules import make_rule

pytestmark = [pytest.mark.django_db, pytest.mark.once(on="postgres")]

EXAMPLES = 3 * TIMES
OPERATIONS = {
    f"{found.method} {found.path}": found
    for result in schemathesis.openapi.from_dict(json.loads(rendered())).get_all_operations()
    if isinstance(result, Ok) and (found := result.ok()).path.startswith("/api/")
}
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
schemathesis.serializer.alias("application/pkix-crl", "application/octet-stream")
WRONG = "authsite_AAAAAAAAAAAA_" + 32 * "A"


@pytest.fixture(autouse=True)
def _keep_the_connection() -> Iterator[None]:
    """Let the end of a request leave the test's transaction alone, as Django's own client does."""
    for signal in (request_started, request_finished):
        signal.disconnect(close_old_connections)
    yield
    for signal in (request_started, request_finished):
        signal.connect(close_old_connections)


@pytest.fixture(autouse=True)
def _any_rate(settings: LazySettings) -> None:
    settings.API_RATE = 0


@pytest.fixture(scope="module")
def token(kept_rows: None) -> str:
    owner = User.objects.create_user("fuzz", is_staff=True, is_superuser=True)
    _row, text = ApiToken.objects.issue(
        owner=owner, name="fuzz", scopes=names_of(Permission.objects.all())
    )
    return text


@pytest.fixture(scope="module")
def rows(kept_rows: None) -> dict[str, int]:
    """Return the key of a row for the operations on one, by the first part of their address."""
    group = DeviceGroup.objects.create(name="lab")
    device = Device.objects.create(identifier=f"{1:036d}")
    backend = Device.objects.create(identifier=f"{2:036d}", kind="backend")
    device.groups.add(group)
    key, _secret = PreSharedKey.objects.issue(device=device)
    rule = make_rule(device, "everyone", "/v1/Config.Get")
    made: dict[str, Any] = {
        "devices": device,
        "groups": group,
        "keys": key,
        "rules": rule,
        "command-sets": CommandSet.objects.create(name="reading"),
        "assertions": Assertion.objects.create(text=f"{device.identifier} may not /v1/X itself"),
        "rtio-servers": RtioServer.objects.create(name="one", host="127.0.0.1", backend=backend),
        "rtio-routes": DeviceServiceRoute.objects.create(uri="/aa", url="http://localhost/"),
    }
    return {name: row.pk for name, row in made.items()}


def aimed(case: Any, rows: dict[str, int], at_a_row: bool) -> Any:
    """Return a case that is about a row there is, and knows its state, if it is to be."""
    if at_a_row:
        key = rows.get(case.path.split("/")[3])
        if key is not None and "id" in (case.path_parameters or {}):
            case.path_parameters["id"] = key
        if "If-Match" in (case.headers or {}):
            case.headers["If-Match"] = "*"
    return case


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_answer_is_a_described_one(
    name: str, token: str, rows: dict[str, int], report_counts: Counter[int]
) -> None:
    operation, app = OPERATIONS[name], get_wsgi_application()
    modes = strategies.one_of(*(operation.as_strategy(mode) for mode in GenerationMode))

    @settings(
        max_examples=2 * EXAMPLES,
        database=None,
        derandomize=TIMES == 1,
        suppress_health_check=list(HealthCheck),
    )
    @given(modes, strategies.booleans())
    def run(case: Any, at_a_row: bool) -> None:
        headers = {"Authorization": f"Bearer {token}"}
        response = aimed(case, rows, at_a_row).call(app=app, headers=headers)
        report_counts[response.status_code] += 1
        case.validate_response(response, checks=CHECKS)

    run()


def test_nothing_is_answered_without_a_token_that_holds(token: str, rows: dict[str, int]) -> None:
    app = get_wsgi_application()
    for operation in OPERATIONS.values():
        case = operation.Case(path_parameters={"id": 1} if "{id}" in operation.path else {})
        for authorization in (
            {},
            {"Authorization": f"Bearer {WRONG}"},
            {"Authorization": "Basic x"},
        ):
            response = case.call(app=app, headers=authorization)
            assert response.status_code == 401, operation.path
            case.validate_response(response, checks=CHECKS)


@pytest.fixture(scope="module")
def report_counts() -> Iterator[Counter[int]]:
    counts: Counter[int] = Counter()
    yield counts
    print(dict(sorted(counts.items())))  # noqa: T201
