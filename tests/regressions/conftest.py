from collections.abc import Callable

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.test import Client

StaffClient = Callable[..., Client]


@pytest.fixture
def staff(client: Client) -> StaffClient:
    """Return what logs somebody in with permissions, or with a role of the name."""

    def log_in(*permissions: str, role: str = "") -> Client:
        user = User.objects.create_user("kim", is_staff=True)
        user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
        user.groups.set(Group.objects.filter(name=role))
        client.force_login(user)
        return client

    return log_in
