"""The page of a role offers what has an effect, and what the role holds already."""

import os
import subprocess
import sys
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group, Permission, User
from django.contrib.contenttypes.models import ContentType
from django.test import Client
from django.urls import reverse

from authsite.roles import ROLES
from tests.support.forms import inputs

pytestmark = [pytest.mark.django_db, pytest.mark.once(on="sqlite")]


def offered(client: Client, page: str, field: str) -> set[str]:
    """Return the permissions that a page has boxes for."""
    rows = client.get(page).context["adminform"].form.fields[field].queryset
    return {f"{one.content_type.app_label}.{one.codename}" for one in rows}


def test_what_belongs_to_an_account_is_known_whatever_was_asked_first() -> None:
    """A look at the fields of a list made every page of tokens fail, until the server's end."""
    asked = """
import django
django.setup()
from django.contrib import admin
from django.contrib.auth.models import User
admin.autodiscover()
admin.site.get_model_admin(User).opts.get_fields()
assert {"tokens", "service_account"} <= {one.name for one in User._meta.get_fields()}
"""
    environment = os.environ | {"DJANGO_SETTINGS_MODULE": "tests.settings"}
    subprocess.run([sys.executable, "-c", asked], env=environment, check=True)


def page_of(role: Group) -> str:
    return reverse("admin:auth_group_change", args=[role.pk])


def test_who_deletes_a_role_is_told_how_many_have_it(
    admin_client: Client, admin_user: User
) -> None:
    role = Group.objects.get(name="Viewer")
    address = reverse("admin:auth_group_delete", args=[role.pk])
    assert "Grants" not in admin_client.get(address).content.decode()
    role.user_set.add(admin_user)
    page = admin_client.get(address)
    assert "Grants to accounts: 1" in page.content.decode()
    admin_client.post(address, inputs(page))
    assert not Group.objects.filter(pk=role.pk).exists()


def test_what_has_an_effect_is_offered_and_nothing_else(
    admin_client: Client, admin_user: User
) -> None:
    role = Group.objects.get(name="Viewer")
    found = offered(admin_client, page_of(role), "permissions")
    account = reverse("admin:auth_user_change", args=[admin_user.pk])
    assert offered(admin_client, account, "user_permissions") == found
    assert set().union(*ROLES.values()) < found
    histories = {one for one in found if ".historical" in one or "_historical" in one}
    assert {one.partition(".")[2].partition("_")[0] for one in histories} == {"view"}
    assert "devices.view_historicaldevice" in histories
    for strange in ("admin.view_logentry", "sessions.delete_session", "otp_totp.add_totpdevice"):
        assert strange not in found
    # Whatever a page asks for is among them, but what only superusers may do, or nobody.
    asked = {
        f"{model._meta.app_label}.{verb}_{model._meta.model_name}"
        for model in admin.site._registry
        for verb in model._meta.default_permissions
    }
    nobodys = {
        name.replace(".", f".{verb}_")
        for verb in ("add", "change")
        for name in ("axes.accessattempt", "axes.accesslog", "auth.user", "auth.group")
    }
    assert asked - found == nobodys


@pytest.mark.parametrize("is_role", [True, False], ids=["role", "account"])
def test_what_a_row_holds_without_effect_has_a_box(admin_client: Client, is_role: bool) -> None:
    row: Any
    if is_role:
        row = Group.objects.create(name="Yard")
        held, name, field, address = row.permissions, "name", "permissions", page_of(row)
    else:
        row = User.objects.create_user("yard", is_staff=True)
        held, name, field = row.user_permissions, "username", "user_permissions"
        address = reverse("admin:auth_user_change", args=[row.pk])
    see, more, without_effect = (
        Permission.objects.get(codename=one)
        for one in ("view_device", "change_device", "add_historicaldevice")
    )
    gone = Permission.objects.create(
        content_type=ContentType.objects.create(app_label="devices", model="shelf"),
        codename="view_shelf",
        name="Can view shelf",
    )
    held.set([see, without_effect, gone])

    def keys(*permissions: Permission) -> set[str]:
        return {str(one.pk) for one in permissions}

    def save(**changed: Any) -> None:
        saved = admin_client.post(address, sent | changed, follow=True)
        assert [code for _page, code in saved.redirect_chain] == [302]
        assert "others changed this" not in saved.content.decode()

    page = admin_client.get(address)
    sent: dict[str, Any] = inputs(page)
    assert set(sent[field]) == keys(see, without_effect, gone)
    assert "shelf: </span>see" in page.content.decode()
    save(**{name: "Harbour"})
    row.refresh_from_db()
    assert (getattr(row, name), set(held.all())) == ("Harbour", {see, without_effect, gone})
    sent = inputs(admin_client.get(address))
    save(**{field: [*sent[field], str(more.pk)]})
    assert set(held.all()) == {see, more, without_effect, gone}
    sent = inputs(admin_client.get(address))
    save(**{field: list(keys(see, more))})
    assert set(held.all()) == {see, more}
    assert "devices.add_historicaldevice" not in offered(admin_client, address, field)


def test_what_another_row_holds_without_effect_is_not_offered(
    admin_client: Client, admin_user: User
) -> None:
    without_effect = Permission.objects.get(codename="add_historicaldevice")
    role, other = Group.objects.get(name="Viewer"), Group.objects.create(name="Yard")
    other.permissions.add(without_effect)
    admin_user.groups.add(other)
    name = "devices.add_historicaldevice"
    assert name in offered(admin_client, page_of(other), "permissions")
    account = reverse("admin:auth_user_change", args=[admin_user.pk])
    for page, field in (
        (page_of(role), "permissions"),
        (reverse("admin:auth_group_add"), "permissions"),
        (account, "user_permissions"),
    ):
        assert name not in offered(admin_client, page, field)
    sent = inputs(admin_client.get(page_of(role)))
    forged = [*sent["permissions"], str(without_effect.pk)]
    refused = admin_client.post(page_of(role), sent | {"permissions": forged})
    assert "not one of the available choices" in refused.content.decode()
    assert without_effect not in role.permissions.all()
