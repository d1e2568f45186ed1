"""The page of a role offers what has an effect, and leaves alone what it does not offer."""

from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group, Permission, User
from django.test import Client
from django.urls import reverse

from authsite.roles import ROLES
from tests.support.forms import inputs

pytestmark = pytest.mark.django_db


def offered(client: Client, page: str, field: str) -> set[str]:
    """Return the permissions that a page has boxes for."""
    rows = client.get(page).context["adminform"].form.fields[field].queryset
    return {f"{one.content_type.app_label}.{one.codename}" for one in rows}


def page_of(role: Group) -> str:
    return reverse("admin:auth_group_change", args=[role.pk])


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
    # Whatever a page of the admin asks for is among them, but for what no page lets anybody do.
    asked = {
        f"{model._meta.app_label}.{verb}_{model._meta.model_name}"
        for model in admin.site._registry
        for verb in model._meta.default_permissions
    }
    logins = {
        f"axes.{verb}_{name}"
        for verb in ("add", "change")
        for name in ("accessattempt", "accesslog")
    }
    assert asked - found == logins


def test_what_a_role_has_without_effect_makes_no_difference(admin_client: Client) -> None:
    role = Group.objects.create(name="Yard")
    kept = Permission.objects.get(codename="view_device")
    without_effect = Permission.objects.get(codename="add_historicaldevice")
    role.permissions.set([kept, without_effect])
    sent: dict[str, Any] = inputs(admin_client.get(page_of(role)))
    assert sent["permissions"] == [str(kept.pk)]
    assert admin_client.post(page_of(role), sent | {"name": "Harbour"}).status_code == 302
    role.refresh_from_db()
    assert (role.name, set(role.permissions.all())) == ("Harbour", {kept, without_effect})
