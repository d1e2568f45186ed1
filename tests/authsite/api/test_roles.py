"""Every role on every operation of the document: a new operation needs an entry here."""

import json
from typing import Any

import pytest

from authsite import roles
from authsite.api.document import rendered
from tests.devices.api.conftest import Client, account, client_of
from tests.support.staff import staff

__all__ = ["client_of"]

pytestmark = [pytest.mark.django_db, pytest.mark.once(on="sqlite")]

VIEWER, OPERATOR, SECURITY, AUDITOR = roles.ROLES
ALL = {VIEWER, OPERATOR, SECURITY, AUDITOR}
CALLS = {OPERATOR, SECURITY, AUDITOR}
ROWS = ("create", "change", "delete")


def rows(name: str, changed_by: str, *more: str) -> dict[str, set[str]]:
    """Return who reads rows, and the one role that changes them, by operation."""
    read = dict.fromkeys((f"{name}_list", f"{name}_read"), ALL)
    return read | {f"{name}_{verb}": {changed_by} for verb in (*ROWS, *more)}


def deeds(name: str, allowed: set[str], *verbs: str) -> dict[str, set[str]]:
    """Return who may do these deeds with rows."""
    return {f"{name}_{verb}": allowed for verb in verbs}


MAY: dict[str, set[str]] = {
    **rows("devices", OPERATOR, "enable", "disable", "provision"),
    **deeds("devices", {OPERATOR}, "bulk_create", "bulk_change", "bulk_delete"),
    **deeds("devices", {SECURITY}, "rotate_keys", "revoke_credentials", "try_credential"),
    **rows("groups", OPERATOR, "add_members", "remove_members"),
    **rows("keys", SECURITY, "revoke"),
    **rows("certificates", SECURITY, "revoke", "revoke_presented"),
    **rows("trust_anchors", SECURITY, "load_list"),
    **deeds("revocation_lists", ALL, "list", "read"),
    **{
        f"{name}_export": ALL
        for name in ("devices", "groups", "keys", "certificates", "trust_anchors", "rules")
    },
    "changes_list": {OPERATOR, SECURITY, AUDITOR},
    "events_list": {SECURITY, AUDITOR},
    **rows("rules", SECURITY),
    **rows("command_sets", SECURITY),
    **rows("assertions", SECURITY),
    **deeds("assertions", ALL, "check"),
    **dict.fromkeys(("decide", "explain", "lint", "what_if"), ALL),
    "permissions_document_read": ALL,
    "permissions_document_apply": set(),  # groups are the Operator's, rules are Security's
    **deeds("calls", CALLS, "list", "read", "callers", "export"),
    **rows("rtio_servers", SECURITY),
    **rows("rtio_routes", SECURITY, "refuse"),
    **deeds("rtio_sessions", ALL, "list", "read"),
    **deeds("rtio_sessions", {SECURITY}, "end"),
    **deeds("jobs", {OPERATOR}, "import_devices", "delete_devices"),
    **{
        f"{name}_{verb}": {SECURITY, AUDITOR}
        for name in ("accounts", "roles", "service_accounts", "tokens")
        for verb in ("list", "read")
    },
    **deeds("accounts", {SECURITY}, "create", "change", "enable", "disable"),
    **deeds("service_accounts", {SECURITY}, "create", "change"),
    **deeds("tokens", {SECURITY}, "end"),
}
OWN = {
    *deeds("jobs", ALL, "list", "read", "cancel"),  # what was asked for with the same token
    *deeds("changes", ALL, "restore", "undo", "undo_batch"),  # the change says what is needed
}
OPERATIONS = {
    operation["operationId"]: (method, path)
    for path, item in json.loads(rendered())["paths"].items()
    for method, operation in item.items()
    if path.startswith("/api/")
}


def refused(client: Any) -> set[str]:
    """Return the operations that are refused to a client: there are no rows to refuse it for."""
    found = set()
    for name, (method, path) in OPERATIONS.items():
        body = {} if method in {"get", "delete"} else {"data": {}, "format": "json"}
        answer = getattr(client, method)(path.format(id=1), headers={"If-Match": '"x"'}, **body)
        assert answer.status_code != 401, name
        assert answer.status_code < 500, name
        if answer.status_code == 403:
            found.add(name)
    return found


def test_the_table_has_every_operation() -> None:
    assert set(MAY) | OWN == set(OPERATIONS)


@pytest.mark.parametrize("role", sorted(ALL))
def test_a_role_may_what_the_table_says(client_of: Client, role: str) -> None:
    assert refused(client_of(staff(role=role))) == {
        name for name, may in MAY.items() if role not in may
    }


def test_an_account_without_a_role_may_nothing(client_of: Client) -> None:
    assert refused(client_of(account("nobody"))) == set(MAY)


def test_the_first_account_may_everything(client_of: Client) -> None:
    assert refused(client_of(account("admin", superuser=True))) == set()


class Nothing:
    """A token without scopes."""

    pk = 1

    def permits(self, permission: str) -> bool:
        return False

    def narrow(self, rows: Any) -> Any:
        return rows

    def narrows(self, permission: str) -> bool:
        return False

    def count_use(self, permission: str, rows: Any) -> None:
        raise AssertionError


def test_a_token_without_scopes_may_nothing(client_of: Client) -> None:
    assert refused(client_of(account("admin", superuser=True), Nothing())) == set(MAY)
