"""Every role on every operation of the devices' resources, from one table."""

import re
from typing import Any

import pytest
from django.urls import resolve
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.test import APIClient, APIRequestFactory, force_authenticate

from authsite import roles
from devices import history
from devices.api.base.views import ApiView, router
from devices.models import (
    Certificate,
    CertificateAuthority,
    Device,
    DeviceGroup,
    Job,
    PreSharedKey,
)
from devices.models.job import JobKind
from tests.devices.api.conftest import Client, account
from tests.support import pki
from tests.support.forms import filled
from tests.support.rules import make_rule
from tests.support.staff import staff

pytestmark = [pytest.mark.django_db, pytest.mark.once(on="sqlite")]

LACKING = r"\b[a-z]+\.[a-z]+_[a-z]+\b|you may not delete: "  # a refusal names a permission, or rows
EVERYBODY = {"Viewer", "Operator", "Security", "Auditor"}
OPERATOR, SECURITY = {"Operator"}, {"Security"}
NOBODY: set[str] = set()
NEW = {"identifier": "new"}

# What is asked, the body that goes with it, and the roles that may.
OPERATIONS: list[tuple[str, str, Any, set[str]]] = [
    ("get", "devices", None, EVERYBODY),
    ("post", "devices", NEW, OPERATOR),
    ("get", "devices/{device}", None, EVERYBODY),
    ("patch", "devices/{device}", {"name": "n"}, OPERATOR),
    ("delete", "devices/{bare}", None, OPERATOR),
    ("delete", "devices/{device}", None, NOBODY),  # its key goes along
    ("post", "devices/{device}/enable", {}, OPERATOR),
    ("post", "devices/{device}/disable", {}, OPERATOR),
    ("post", "devices/{device}/rotate-keys", {}, SECURITY),
    ("post", "devices/{device}/revoke-credentials", {}, SECURITY),
    ("post", "devices/try-credential", {"device": "known", "secret": "wrong"}, SECURITY),
    ("post", "devices/provision", NEW, OPERATOR),
    ("post", "devices/provision", {**NEW, "key": {}}, NOBODY),
    ("post", "devices/bulk-create", {"devices": [NEW]}, OPERATOR),
    ("post", "devices/bulk-create", {"devices": [{**NEW, "key": {}}]}, NOBODY),
    ("post", "devices/bulk-change", {"devices": [{"id": "{bare}", "if_match": "*"}]}, OPERATOR),
    ("post", "devices/bulk-delete", {"devices": [{"id": "{bare}", "if_match": "*"}]}, OPERATOR),
    ("post", "devices/bulk-delete", {"devices": [{"id": "{device}", "if_match": "*"}]}, NOBODY),
    ("get", "devices/export", None, EVERYBODY),
    ("get", "groups", None, EVERYBODY),
    ("get", "groups/export", None, EVERYBODY),
    ("get", "keys/export", None, EVERYBODY),
    ("get", "certificates/export", None, EVERYBODY),
    ("get", "trust-anchors/export", None, EVERYBODY),
    ("post", "groups", {"name": "new"}, OPERATOR),
    ("get", "groups/{group}", None, EVERYBODY),
    ("patch", "groups/{group}", {"name": "n"}, OPERATOR),
    ("delete", "groups/{group}", None, OPERATOR),
    ("delete", "groups/{ruled}", None, NOBODY),  # its rule goes along
    ("post", "groups/{group}/members", {"devices": ["{bare}"]}, OPERATOR),
    ("post", "groups/{group}/members/remove", {"devices": ["{bare}"]}, OPERATOR),
    ("get", "keys", None, EVERYBODY),
    ("post", "keys", {"device": "{device}"}, SECURITY),
    ("get", "keys/{key}", None, EVERYBODY),
    ("patch", "keys/{key}", {"label": "n"}, SECURITY),
    ("delete", "keys/{key}", None, SECURITY),
    ("post", "keys/{key}/revoke", {}, SECURITY),
    ("get", "certificates", None, EVERYBODY),
    ("post", "certificates", {"device": "{bare}", "certificate": "{pem}"}, SECURITY),
    ("get", "certificates/{certificate}", None, EVERYBODY),
    ("patch", "certificates/{certificate}", {"label": "n"}, SECURITY),
    ("delete", "certificates/{certificate}", None, SECURITY),
    ("post", "certificates/{certificate}/revoke", {}, SECURITY),
    (
        "post",
        "certificates/revoke-presented",
        {"device": "{device}", "certificate": "{pem}"},
        SECURITY,
    ),
    ("get", "trust-anchors", None, EVERYBODY),
    ("post", "trust-anchors", {"name": "n", "certificate": "{other_root}"}, SECURITY),
    ("get", "trust-anchors/{authority}", None, EVERYBODY),
    ("patch", "trust-anchors/{authority}", {"enabled": False}, SECURITY),
    ("delete", "trust-anchors/{authority}", None, SECURITY),
    ("post", "trust-anchors/{authority}/revocation-list", "{crl}", SECURITY),
    ("get", "revocation-lists", None, EVERYBODY),
    ("get", "revocation-lists/{list}", None, EVERYBODY),
    ("get", "jobs", None, EVERYBODY),
    ("get", "jobs/{job}", None, EVERYBODY),
    ("post", "jobs/{job}/cancel", {}, EVERYBODY),
    ("post", "jobs/import-devices?format=csv", b"identifier\nnew\n", OPERATOR),
    ("post", "jobs/delete-devices", {"identifier_prefix": "bare", "expected": 1}, OPERATOR),
    ("post", "jobs/delete-devices", {"identifier_prefix": "known", "expected": 1}, NOBODY),
    ("get", "changes", None, {"Operator", "Security", "Auditor"}),
    ("post", "changes/restore", {"model": "devices.device", "id": "{created}"}, OPERATOR),
    ("post", "changes/undo", {"model": "devices.device", "id": "{changed}"}, OPERATOR),
    ("post", "changes/undo-batch", {"batch": "{batch}"}, {"Operator", "Security", "Auditor"}),
]


@pytest.fixture(scope="module")
def rows(kept_rows: None) -> dict[str, Any]:
    """Return a row of each kind, and what is presented; what a test does to them is undone."""
    root, other = pki.authority("Root"), pki.authority("Other root")
    leaf = pki.device_certificate("known", root)
    group = DeviceGroup.objects.create(name="group")
    device, bare = (Device.objects.create(identifier=name) for name in ("known", "bare"))
    bare.groups.add(group)
    key, _secret = PreSharedKey.objects.issue(device=device)
    authority = CertificateAuthority.objects.register(presented=root.pem, name="Root")
    crl = pki.revocation_list(root)
    ruled = DeviceGroup.objects.create(name="ruled")
    make_rule(ruled, "everyone", "/v1/*")
    with history.origin("shell"):
        bare.name = "changed"
        bare.save()
    created, changed = Device.history.filter(id=bare.pk).order_by("history_id")
    return {
        "created": created.history_id,
        "changed": changed.history_id,
        "batch": str(changed.batch),
        "device": device.pk,
        "bare": bare.pk,
        "group": group.pk,
        "ruled": ruled.pk,
        "key": key.pk,
        "certificate": Certificate.objects.register(device=device, presented=leaf.pem).pk,
        "authority": authority.pk,
        "list": authority.load_list(crl, by="").pk,
        "pem": leaf.pem,
        "other_root": other.pem,
        "crl": crl,
    }


@pytest.mark.parametrize("role", sorted(EVERYBODY))
@pytest.mark.parametrize(
    ("method", "path", "body", "allowed"),
    OPERATIONS,
    ids=[f"{one[0]} {one[1]} {index}" for index, one in enumerate(OPERATIONS)],
)
def test_role(
    client_of: Client,
    rows: dict[str, Any],
    role: str,
    method: str,
    path: str,
    body: Any,
    allowed: set[str],
) -> None:
    user = staff(role=role)
    own = {"kind": JobKind.DELETE_DEVICES, "owner": user, "asked_with": f"User {user.pk}"}
    rows = {**rows, "job": Job.objects.create(**own).pk}
    sent = filled(body, rows)
    kind = (
        {"content_type": "application/pkix-crl"} if isinstance(sent, bytes) else {"format": "json"}
    )
    answer: Any = getattr(client_of(user), method)(
        f"/api/v1/{path.format(**rows)}",
        *([] if sent is None else [sent]),
        headers={"If-Match": "*"},
        **(kind if sent is not None else {}),
    )
    if role in allowed:
        assert 200 <= answer.status_code < 300, answer.json()
    else:
        assert (answer.status_code, answer.json()["code"]) == (403, "permission-denied")
        assert re.search(LACKING, answer.json()["detail"])


@pytest.mark.parametrize(("method", "path"), sorted({operation[:2] for operation in OPERATIONS}))
def test_nobody(rows: dict[str, Any], method: str, path: str) -> None:
    address = f"/api/v1/{path.format(**rows, job=1)}"
    assert getattr(APIClient(), method)(address).status_code == 401


class Unnamed(ApiView):
    """Says of no operation which permissions it needs."""

    def get(self, _request: Request) -> Response:
        return Response({})


def test_an_operation_without_permissions_of_its_own_is_nobody_s(db: None) -> None:
    request = APIRequestFactory().get("/")
    force_authenticate(request, account("admin", superuser=True))
    assert Unnamed.as_view()(request).status_code == 403


def test_the_table_has_every_operation(rows: dict[str, Any]) -> None:
    asked = set()
    for method, path, _body, _allowed in OPERATIONS:
        address = f"/api/v1/{path.format(**rows, job=1)}"
        view: Any = resolve(address.partition("?")[0]).func
        asked.add((view.cls, getattr(view, "actions", {}).get(method, method)))
    views: list[Any] = [pattern.callback for pattern in router.urls]
    there = {
        (view.cls, action)
        for view in views
        for method, action in getattr(view, "actions", {}).items()
        if method != "head" and view.cls.__module__.startswith("devices.api")
    }
    assert asked == there


def test_roles_are_those_of_the_table() -> None:
    assert set(roles.ROLES) == EVERYBODY
