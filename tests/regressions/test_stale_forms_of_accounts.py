"""A form of an account or a role that lay open undoes nothing that others did meanwhile.

A lost update: an administrator took *Active* away while another had the form open, who saved a
first name, and the account was active again.

A public report of this kind: https://github.com/etianen/django-reversion/issues/79.
"""

import re

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.test import Client

from authsite.accounts.tokens.service_account import ServiceAccount
from tests.support.forms import inputs
from tests.support.staff import staff

pytestmark = pytest.mark.once(on="sqlite")

PASSWORD = "a long enough password"


@pytest.fixture
def lee(admin_user: User) -> User:
    return staff(name="lee", role="Viewer", password=PASSWORD)


def test_an_account_that_was_disabled_meanwhile_stays_disabled(
    admin_client: Client, lee: User
) -> None:
    address = f"/admin/auth/user/{lee.pk}/change/"
    sent = inputs(admin_client.get(address))
    User.objects.filter(pk=lee.pk).update(is_active=False, is_superuser=False)
    lee.groups.set([Group.objects.get(name="Auditor")])
    saved = admin_client.post(address, sent | {"first_name": "Lee"}, follow=True)
    assert "others changed this" in saved.content.decode()
    lee.refresh_from_db()
    assert (lee.first_name, lee.is_active) == ("Lee", False)
    assert [group.name for group in lee.groups.all()] == ["Auditor"]


def test_what_both_changed_is_asked_about(admin_client: Client, lee: User) -> None:
    address = f"/admin/auth/user/{lee.pk}/change/"
    sent = inputs(admin_client.get(address))
    User.objects.filter(pk=lee.pk).update(first_name="Leslie")
    answer = admin_client.post(address, sent | {"first_name": "Lee"})
    assert "Somebody changed this to" in answer.content.decode()
    lee.refresh_from_db()
    assert lee.first_name == "Leslie"
    admin_client.post(address, inputs(answer))  # once it was said
    lee.refresh_from_db()
    assert lee.first_name == "Lee"


def test_a_permission_that_was_withdrawn_meanwhile_stays_withdrawn(
    admin_client: Client, lee: User
) -> None:
    role = Group.objects.get(name="Operator")
    address = f"/admin/auth/group/{role.pk}/change/"
    sent = inputs(admin_client.get(address))
    withdrawn = Permission.objects.get(codename="delete_device")
    role.permissions.remove(withdrawn)
    admin_client.post(address, sent | {"name": "Operators"})
    role.refresh_from_db()
    assert role.name == "Operators"
    assert withdrawn not in role.permissions.all()


def test_a_service_that_was_disabled_meanwhile_stays_disabled(
    admin_client: Client, admin_user: User
) -> None:
    service = ServiceAccount.objects.create_account(
        "robot", answerable=admin_user, roles=[Group.objects.get(name="Operator")]
    )
    address = f"/admin/authsite/serviceaccount/{service.pk}/change/"
    sent = inputs(admin_client.get(address))
    User.objects.filter(pk=service.user_id).update(is_active=False)
    service.user.groups.set([Group.objects.get(name="Viewer")])
    saved = admin_client.post(address, sent | {"purpose": "in the yard"}, follow=True)
    assert "others changed this; their change stands: Roles, Enabled." in saved.content.decode()
    both = admin_client.post(address, sent | {"roles": []})
    assert "Somebody changed this to “Viewer”" in both.content.decode()
    service = ServiceAccount.objects.get()
    assert (service.purpose, service.user.is_active) == ("in the yard", False)
    assert [role.name for role in service.user.groups.all()] == ["Viewer"]
    sent = inputs(admin_client.get(address))
    admin_client.post(address, sent | {"enabled": "on", "roles": []})
    service = ServiceAccount.objects.get()
    assert service.user.is_active
    assert not service.user.groups.exists()


def test_accounts_are_still_added_and_changed(admin_client: Client) -> None:
    page = admin_client.get("/admin/auth/user/add/")
    new = {"username": "kim", "password1": PASSWORD, "password2": PASSWORD}
    assert admin_client.post("/admin/auth/user/add/", inputs(page) | new).status_code == 302
    kim = User.objects.get(username="kim")
    assert kim.check_password(PASSWORD)
    address = f"/admin/auth/user/{kim.pk}/change/"
    sent = inputs(admin_client.get(address))
    roles = [str(Group.objects.get(name="Viewer").pk)]
    admin_client.post(address, sent | {"is_staff": "on", "groups": roles})
    kim.refresh_from_db()
    assert kim.is_staff
    assert [group.name for group in kim.groups.all()] == ["Viewer"]
    assert kim.check_password(PASSWORD)


def test_no_form_carries_the_hash_of_a_password(admin_client: Client, lee: User) -> None:
    page = admin_client.get(f"/admin/auth/user/{lee.pk}/change/").content.decode()
    assert lee.password.rpartition("$")[2] not in page
    assert not re.search(r'name="(initial-)?password"', page)
