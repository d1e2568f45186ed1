"""Parameters of addresses that no database stores were given to it, and answered with 500.

`GET /api/v1/changes?user=%00` on PostgreSQL: the name went into the statement unread, as no field
of a form had looked at it. Every text parameter of every list is asked here.

A public report of this kind: https://code.djangoproject.com/ticket/28201.
"""

import json
from typing import Any

import pytest

from authsite.api.document import rendered
from tests.devices.api.conftest import api, client_of

__all__ = ["api", "client_of"]  # fixtures that live elsewhere

pytestmark = pytest.mark.django_db
HOSTILE = ["%00", "a%00b", "%ED%A0%80", "%F0%9F%92%A9", "NaN", "1e999", "-1", "9" * 400, "x" * 4000]
LISTS = [
    (path, sorted(one["name"] for one in item["get"].get("parameters", ()) if one["in"] == "query"))
    for path, item in json.loads(rendered())["paths"].items()
    if path.startswith("/api/") and "get" in item and "{" not in path
]


@pytest.mark.parametrize(("path", "names"), LISTS, ids=[one[0] for one in LISTS])
def test_no_parameter_is_given_to_the_database_unread(
    api: Any, path: str, names: list[str]
) -> None:
    for name in names:
        for value in HOSTILE:
            answer = api.get(f"{path}?{name}={value}")
            assert answer.status_code < 500, (name, value)
