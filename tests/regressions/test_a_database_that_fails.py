"""A database that fails is told as that: a full disk was told as a fault of ours.

The kind: CWE-755.
"""

from typing import Any

import pytest
from django.db import InterfaceError, OperationalError
from django.test import Client

from authsite.accounts.sessions import SessionStore
from devices.models import Device

ERRORS = [OperationalError("database or disk is full"), InterfaceError("connection already closed")]


@pytest.fixture(params=ERRORS, ids=str)
def fail(request: Any) -> Any:
    """Return a function that fails as the database does."""

    def raise_it(*_args: Any, **_kw: Any) -> None:
        raise request.param

    return raise_it


def assert_told(answer: Any) -> None:
    assert (answer.status_code, answer["Retry-After"]) == (503, "5")
    assert "its disk may be full" in answer.content.decode()


def test_a_page_that_cannot_be_saved_says_so(
    admin_client: Client, make_device: Any, fail: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    admin_client.raise_request_exception = False
    monkeypatch.setattr("devices.models.device.record", fail)
    assert_told(admin_client.post(f"/admin/devices/device/{make_device().pk}/disable/"))
    assert Device.objects.get().enabled


def test_so_does_a_page_whose_session_cannot_be_read(
    admin_client: Client, fail: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    admin_client.raise_request_exception = False
    monkeypatch.setattr(SessionStore, "load", fail)
    assert_told(admin_client.get("/admin/"))
    answer = admin_client.get("/api/v1/devices", headers={"Authorization": "Bearer x"})
    assert answer["Content-Type"] == "application/problem+json"
