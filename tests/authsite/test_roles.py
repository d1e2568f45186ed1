"""Who may do what: a role on each row, a page or a deed on each, and the answer expected."""

import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.conf import settings
from django.contrib.auth.models import Group, Permission, User
from django.test import Client

from acl.models import CommandPermission, CommandSet
from authsite import roles
from devices.admin.base.actions import set_digest
from devices.models import Device, PreSharedKey
from tests.support import pki
from tests.support.forms import inputs
from tests.support.rules import make_rule
from tests.support.staff import browser_of, staff

pytestmark = [pytest.mark.django_db, pytest.mark.once(on="sqlite")]

YES, NO = {200, 302}, {403, 404}
EVERYBODY = {"Viewer", "Operator", "Security", "Auditor"}
NOBODY: set[str] = set()

# A page or a deed, as method and address, and the roles that may.
MATRIX: list[tuple[str, str, set[str]]] = [
    ("get", "/admin/devices/device/", EVERYBODY),
    ("get", "/admin/devices/device/{device}/change/", EVERYBODY),
    ("get", "/admin/devices/device/add/", {"Operator"}),
    ("post", "/admin/devices/device/{device}/change/", {"Operator"}),
    ("get", "/admin/devices/device/{bare}/delete/", {"Operator"}),
    ("get", "/admin/devices/devicegroup/", EVERYBODY),
    ("get", "/admin/devices/devicegroup/add/", {"Operator"}),
    ("get", "/admin/devices/attributedefinition/", EVERYBODY),
    ("get", "/admin/devices/attributedefinition/add/", {"Operator"}),
    ("get", "/admin/devices/presharedkey/", EVERYBODY),
    ("get", "/admin/devices/device/{device}/issue-key/", {"Security"}),
    ("post", "/admin/devices/device/{device}/issue-key/", {"Security"}),
    ("get", "/admin/devices/device/{device}/rotate-keys/", {"Security"}),
    ("post", "/admin/devices/device/{device}/rotate-keys/", {"Security"}),
    ("get", "/admin/devices/presharedkey/{key}/revoke/", {"Security"}),
    ("post", "/admin/devices/presharedkey/{key}/revoke/", {"Security"}),
    ("get", "/admin/devices/certificate/", EVERYBODY),
    ("get", "/admin/devices/certificate/add/", {"Security"}),
    ("get", "/admin/devices/certificateauthority/", EVERYBODY),
    ("get", "/admin/devices/certificateauthority/add/", {"Security"}),
    ("get", "/admin/acl/commandpermission/", EVERYBODY),
    ("get", "/admin/acl/commandpermission/add/", {"Security"}),
    ("post", "/admin/acl/commandpermission/{rule}/change/", {"Security"}),
    ("get", "/admin/acl/commandpermission/{rule}/delete/", {"Security"}),
    ("get", "/admin/acl/commandpermission/explain/", EVERYBODY),
    ("get", "/admin/acl/commandset/", EVERYBODY),
    ("get", "/admin/acl/commandset/add/", {"Security"}),
    ("get", "/admin/acl/assertion/add/", {"Security"}),
    ("get", "/admin/rpc/callrecord/", {"Operator", "Security", "Auditor"}),
    ("get", "/admin/rpc/rtioserver/", EVERYBODY),
    ("get", "/admin/rpc/rtioserver/add/", {"Security"}),
    ("get", "/admin/rpc/deviceserviceroute/", EVERYBODY),
    ("get", "/admin/rpc/deviceserviceroute/add/", {"Security"}),
    ("get", "/admin/rpc/sessionending/", EVERYBODY),
    ("get", "/admin/axes/accesslog/", {"Auditor"}),
    ("get", "/admin/axes/accessattempt/", {"Auditor"}),
    ("get", "/admin/auth/user/", NOBODY),
    ("get", "/admin/auth/group/", NOBODY),
]


@pytest.fixture(scope="module")
def rows(kept_rows: None) -> dict[str, int]:
    device, bare = (Device.objects.create(identifier=name) for name in ("known", "bare"))
    key, _secret = PreSharedKey.objects.issue(device=device)
    rule = make_rule("everyone", "itself", "/v1/*")
    return {"device": device.pk, "bare": bare.pk, "key": key.pk, "rule": rule.pk}


@pytest.mark.parametrize("role", sorted(EVERYBODY))
@pytest.mark.parametrize(
    ("method", "address", "allowed"), MATRIX, ids=[f"{row[0]} {row[1]}" for row in MATRIX]
)
def test_who_may(
    role: str, method: str, address: str, allowed: set[str], rows: dict[str, int]
) -> None:
    answer = getattr(browser_of(staff(role=role)), method)(address.format(**rows))
    assert answer.status_code in (YES if role in allowed else NO)


@pytest.mark.parametrize(
    ("method", "address"), [row[:2] for row in MATRIX], ids=[f"{row[0]} {row[1]}" for row in MATRIX]
)
def test_a_superuser_may_everything(
    method: str, address: str, rows: dict[str, int], admin_client: Client
) -> None:
    assert getattr(admin_client, method)(address.format(**rows)).status_code in YES


def test_staff_without_a_role_see_nothing(rows: dict[str, int]) -> None:
    client = browser_of(staff())
    assert client.get("/admin/").status_code == 200
    for method, address, _allowed in MATRIX:
        assert getattr(client, method)(address.format(**rows)).status_code in NO, address


def test_a_refused_form_changes_nothing(rows: dict[str, int]) -> None:
    client = browser_of(staff(role="Operator"))
    client.post(f"/admin/acl/commandpermission/{rows['rule']}/change/", {"effect": "deny"})
    client.post(f"/admin/devices/device/{rows['device']}/issue-key/", {"label": "mine"})
    assert CommandPermission.objects.get().effect == "allow"
    assert PreSharedKey.objects.count() == 1


def test_who_may_not_write_finds_no_buttons_for_it(rows: dict[str, int]) -> None:
    client = browser_of(staff(role="Viewer"))
    page = client.get(f"/admin/devices/device/{rows['device']}/change/").content.decode()
    assert "Issue a key" not in page
    assert 'name="_save"' not in page


@pytest.mark.parametrize("action", ["enable", "disable"])
def test_actions_are_refused_like_pages(action: str, rows: dict[str, int]) -> None:
    sent = {"action": action, "_selected_action": [rows["device"]], "confirmed": "yes"}
    sent["shown"] = set_digest(Device.objects.filter(pk=rows["device"]))
    browser_of(staff(role="Auditor")).post("/admin/devices/device/", sent)
    assert Device.objects.filter(enabled=True).count() == 2


def test_an_operator_deletes_no_device_whose_credentials_would_go(rows: dict[str, int]) -> None:
    client = browser_of(staff(role="Operator"))
    address = f"/admin/devices/device/{rows['device']}/delete/"
    page = client.get(address).content.decode()
    assert "Your account may not delete what would go with it: keys" in page
    client.post(address, {"post": "yes"})
    assert Device.objects.filter(pk=rows["device"]).exists()


def known() -> set[str]:
    return {
        f"{app}.{name}"
        for app, name in Permission.objects.values_list("content_type__app_label", "codename")
    }


def granted(name: str) -> set[str]:
    rows = Group.objects.get(name=name).permissions.values_list(
        "content_type__app_label", "codename"
    )
    return {f"{app}.{codename}" for app, codename in rows}


@pytest.mark.parametrize("name", sorted(roles.ROLES))
def test_the_migrations_made_each_group_with_what_its_role_says(name: str) -> None:
    assert granted(name) == roles.ROLES[name] & known()


def test_a_role_names_permissions_that_exist() -> None:
    assert set().union(*roles.ROLES.values()) <= known()


def table() -> list[str]:
    """Return the documentation's table of roles, as the code has it."""
    verbs: dict[str, dict[str, list[str]]] = {}
    for name, permissions in roles.ROLES.items():
        for permission in permissions:
            app, _dot, codename = permission.partition(".")
            verb, _underscore, model = codename.partition("_")
            verbs.setdefault(f"{app}.{model}", {}).setdefault(name, []).append(verb)
    order = ["view", "add", "change", "delete", "try", "end", "resend"]
    return [
        f"| {model} | "
        + " | ".join(
            ", ".join(sorted(held.get(name, []), key=order.index)) or "-" for name in roles.ROLES
        )
        + " |"
        for model, held in sorted(verbs.items())
    ]


def test_the_documentation_says_what_the_code_does() -> None:
    said = Path(settings.BASE_DIR, "docs", "accounts.md").read_text()
    assert "\n".join(table()) in said
    for name, default in re.findall(r"^\| `(STAFF_\w+)` \| `?(\w+)`? \|", said, re.MULTILINE):
        assert f"#{name}={default}\n" in Path(settings.BASE_DIR, ".env.example").read_text()


def test_only_security_holds_what_concerns_secrets_and_rules() -> None:
    writes = {
        permission
        for name, permissions in roles.ROLES.items()
        if name != "Security"
        for permission in permissions
        if not permission.partition(".")[2].startswith("view_")
    }
    harmless = ("_device", "_devicegroup", "_attributedefinition")
    assert all(permission.endswith(harmless) for permission in writes)


def test_what_administrators_add_to_a_group_stays(rows: dict[str, int]) -> None:
    viewer = Group.objects.get(name="Viewer")
    extra = Permission.objects.get(codename="add_commandset")
    viewer.permissions.add(extra)
    roles.establish(apps)
    assert extra in viewer.permissions.all()
    assert granted("Viewer") == roles.ROLES["Viewer"] | {"acl.add_commandset"}


def test_who_may_look_after_a_device_sees_why_it_was_refused(rows: dict[str, int]) -> None:
    address = f"/admin/devices/device/{rows['device']}/change/"
    for role, sees in (("Operator", True), ("Security", True), ("Viewer", False)):
        User.objects.filter(username="kim").delete()
        page = browser_of(staff(role=role)).get(address).content.decode()
        assert ("Last calls" in page) is sees, role


def test_a_later_migration_is_taken_back_alone() -> None:
    import_module("authsite.migrations.0003_operators_see_calls").withdraw(apps, None)
    assert granted("Operator") == (roles.ROLES["Operator"] - roles.CALLS) & known()
    assert "rpc.view_callrecord" in granted("Auditor")


def test_the_migration_is_taken_back() -> None:
    Group.objects.create(name="Mine")
    import_module("authsite.migrations.0001_roles").abolish(apps, None)
    assert list(Group.objects.values_list("name", flat=True)) == ["Mine"]
    roles.establish(apps)
    assert granted("Security") == roles.ROLES["Security"] & known()


def test_a_certificate_is_security_s_to_revoke(make_device: Any) -> None:
    from devices.models import Certificate

    party = pki.device_certificate("pump", pki.authority("CA"))
    row = Certificate.objects.register(device=make_device(), presented=party.pem)
    address = f"/admin/devices/certificate/{row.pk}/revoke/"
    client = browser_of(staff(role="Operator"))
    assert client.get(address).status_code == 403
    User.objects.get(username="kim").groups.set(Group.objects.filter(name="Security"))
    assert client.get(address).status_code == 200


def test_a_command_set_is_read_by_everybody() -> None:
    command_set = CommandSet.objects.create(name="read")
    address = f"/admin/acl/commandset/{command_set.pk}/change/"
    assert browser_of(staff(role="Viewer")).get(address).status_code == 200


def test_a_role_is_given_permissions_by_ticking_boxes(admin_client: Client) -> None:
    role = Group.objects.get(name="Viewer")
    address = f"/admin/auth/group/{role.pk}/change/"
    page = admin_client.get(address)
    text = page.content.decode()
    assert '<span class="visually-hidden">Devices: </span>see' in text
    assert '<span class="visually-hidden">History: rules: </span>see' in text
    assert text.count('name="permissions"') == len(roles.EFFECTIVE & known())
    held = set(role.permissions.values_list("pk", flat=True))
    given = Permission.objects.get(codename="add_device").pk
    sent = inputs(page)
    assert {int(pk) for pk in sent["permissions"]} == held
    admin_client.post(address, sent | {"permissions": [*sent["permissions"], given]})
    assert set(role.permissions.values_list("pk", flat=True)) == held | {given}
