"""Members of staff who have what a test says, and their browsers."""

from typing import Any

from django.contrib.auth.models import Group, Permission, User
from django.test import Client


def staff(*permissions: str, name: str = "kim", role: str = "", **fields: Any) -> User:
    """Return a new member of staff with permissions, their app named or not, and with a role."""
    user = User.objects.create_user(name, **{"is_staff": True, **fields})
    codenames = [one.rpartition(".")[2] for one in permissions]
    user.user_permissions.set([Permission.objects.get(codename=one) for one in codenames])
    if role:
        user.groups.add(Group.objects.get(name=role))
    return user


def browser_of(user: User) -> Client:
    """Return a new browser in which somebody is logged in."""
    client = Client()
    client.force_login(user)
    return client
