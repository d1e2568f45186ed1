"""No address of the pages of permissions, however made, is the server's failure.

CWE-20: `/admin/acl/commandpermission/add/?valid_from=abc` answered 500. Numbers of every size,
dates of every year and texts that no database stores stand in every parameter that a page reads.
"""

from typing import Any

import pytest
from django.contrib import admin
from django.test import Client
from django.urls import reverse

from acl.models import Assertion, CommandPermission, CommandSet

VALUES = [
    "",
    "abc",
    "\x00",
    "-1",
    "0",
    "1",
    "²",
    "٣",
    "9223372036854775807",
    "9223372036854775808",
    "9" * 5000,
    "1e999",
    "0001-01-01",
    "9999-12-31T23:59:59-23:59",
    "99999-01-01",
    "2030-02-30",
    "group-9" * 2,
    "group-" + "9" * 30,
    "(",
    "%",
    "'\"<",
    "\u202e",
]
LOOKUPS = ["abc", "(", "9" * 5000]
NAMES = ["pk", "q", "o", "p", "all", "e", "_popup", "_to_field", "_changelist_filters"]
PAGES = ["explain", "report", "commands"]
ANSWERS = {200, 301, 302, 400, 403, 404}
MODELS = [CommandPermission, CommandSet, Assertion]


@pytest.fixture
def client(admin_client: Client) -> Client:
    admin_client.raise_request_exception = False
    return admin_client


def failures(client: Client, address: str, names: list[str], values: list[str]) -> list[Any]:
    asked = [(name, value) for name in names for value in values]
    found = [(*one, client.get(address, dict([one])).status_code) for one in asked]
    return [one for one in found if one[-1] not in ANSWERS]


@pytest.mark.parametrize("model", MODELS)
def test_lists_answer_any_address(client: Client, model: Any) -> None:
    address = reverse(f"admin:acl_{model._meta.model_name}_changelist")
    chosen: Any = admin.site.get_model_admin(model).list_filter
    filters = [one.parameter_name for one in chosen if hasattr(one, "parameter_name")]
    assert failures(client, address, [*NAMES, *filters], VALUES) == []
    fields = [field.name for field in model._meta.get_fields()]
    kinds = ("exact", "in", "regex", "isnull")
    looked_up = [f"{name}__{kind}" for name in fields for kind in kinds]
    assert failures(client, address, [*fields, *looked_up], LOOKUPS) == []


@pytest.mark.parametrize("model", MODELS)
def test_new_forms_answer_any_address(client: Client, model: Any) -> None:
    address = reverse(f"admin:acl_{model._meta.model_name}_add")
    fields = [field.name for field in model._meta.get_fields()]
    found = {
        value: client.get(address, dict.fromkeys(fields, value)).status_code for value in VALUES
    }
    assert set(found.values()) <= ANSWERS, found


@pytest.mark.parametrize("page", PAGES)
def test_pages_beside_the_list_answer_any_address(client: Client, page: str) -> None:
    address = reverse(f"admin:acl_commandpermission_{page}")
    names = ["source", "destination", "command", "fault", "q"]
    assert failures(client, address, names, VALUES) == []
    whole = [{"source": value, "destination": value, "command": value} for value in VALUES]
    assert {client.get(address, sent).status_code for sent in whole} <= ANSWERS


@pytest.mark.parametrize("model", MODELS)
def test_pages_of_a_row_answer_any_key(client: Client, model: Any) -> None:
    base = reverse(f"admin:acl_{model._meta.model_name}_changelist")
    keys = [value for value in VALUES if "/" not in value]
    pages = [
        f"{base}{key}/{page}/".replace("%", "%25")
        for key in keys
        for page in ("change", "delete", "history", f"history/{key}/restore")
    ]
    found = {page[:60]: client.get(page).status_code for page in pages}
    assert {page: status for page, status in found.items() if status not in ANSWERS} == {}
