"""Clients of the API, each as an account with some permissions."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest
from django.contrib.auth.models import User
from rest_framework.test import APIClient

from devices.events.models import Event
from tests.support.described import DescribedClient
from tests.support.staff import staff

Client = Callable[..., APIClient]


def account(name: str, permissions: Iterable[str] = (), *, superuser: bool = False) -> User:
    """Return an account with these permissions."""
    user = staff(*permissions, name=name, is_staff=False, is_superuser=superuser)
    Event.objects.filter(kind__startswith="account.").delete()  # of the scenery, not of the play
    return user


@pytest.fixture
def client_of(db: None) -> Client:
    """Return the function that makes a client of an account, with a grant or without one."""

    def make(user: User, grant: Any = None) -> APIClient:
        client = DescribedClient()
        client.force_authenticate(user, token=grant)
        return client

    return make


@pytest.fixture
def api(client_of: Client) -> APIClient:
    """Return a client that may do everything."""
    return client_of(account("admin", superuser=True))
