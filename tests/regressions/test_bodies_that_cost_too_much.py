"""Bodies of the API that held a process up: 4 MiB of empty questions took minutes to refuse.

A list that is too long is refused before its values are looked at, and a name that stands twice is
found in one pass.

The kind: CWE-407, CWE-770.
"""

import json
from typing import Any

import pytest
from rest_framework.test import APIClient

from devices.values.json_text import DuplicateNameError, named_once
from tests.devices.api.conftest import api, client_of

pytestmark = pytest.mark.once(on="sqlite")

__all__ = ["api", "client_of"]  # fixtures that live elsewhere

TOO_MANY = 1001
LISTS: dict[str, dict[str, Any]] = {
    "decide": {"requests": [{}] * TOO_MANY},
    "what-if": {"change": "create", "requests": [{}] * TOO_MANY},
    "assertions/check": {"texts": [1] * TOO_MANY},
    "command-sets": {"name": "many", "commands": [1] * TOO_MANY},
    "devices/bulk-create": {"devices": [1] * TOO_MANY},
    "devices/bulk-change": {"devices": [1] * TOO_MANY},
    "devices/bulk-delete": {"devices": [1] * TOO_MANY},
    "groups/{group}/members": {"devices": ["x"] * TOO_MANY},
    "accounts": {"username": "many", "roles": [1] * TOO_MANY},
}


@pytest.mark.django_db
@pytest.mark.parametrize("path", LISTS)
def test_of_a_list_that_is_too_long_no_value_is_read(
    path: str, api: APIClient, make_group: Any
) -> None:
    body = LISTS[path]
    answer = api.post(f"/api/v1/{path.format(group=make_group().pk)}", body, format="json")
    (name,) = (name for name, value in body.items() if isinstance(value, list))
    assert answer.status_code == 400
    assert [error["pointer"] for error in answer.json()["errors"]] == [f"#/{name}"]


class Name(str):
    """A name that counts how often it is compared with another one."""

    compared = 0
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        Name.compared += 1
        return str.__eq__(self, other)


def test_a_name_that_stands_twice_is_found_in_one_pass() -> None:
    count = 1000
    pairs: list[tuple[str, Any]] = [(Name(n), n) for n in range(count)]
    pairs.append((Name(count - 1), 0))
    with pytest.raises(DuplicateNameError) as raised:
        named_once(pairs)
    assert raised.value.name == "999"
    assert Name.compared < 10 * count
    assert json.loads('{"a": {"b": 1}, "b": 2}', object_pairs_hook=named_once)
