"""A database that fails is told as that: a full disk was told as a fault of ours.

The kind: CWE-755.
"""

import sqlite3
from typing import Any

import pytest
from django.db import Error, InterfaceError, OperationalError
from django.test import Client

from authsite.accounts.sessions import SessionStore
from devices.api.base.problems import as_api_exception
from devices.models import Device

LOCKED = OperationalError("database is locked")
LOCKED.__cause__ = sqlite3.OperationalError()
LOCKED.__cause__.sqlite_errorcode = sqlite3.SQLITE_BUSY_SNAPSHOT
ERRORS = {
    OperationalError("database or disk is full"): "its disk may be full",
    InterfaceError("connection already closed"): "its disk may be full",
    LOCKED: "Others were changing",
}


@pytest.fixture(params=ERRORS, ids=str)
def error(request: Any) -> Any:
    return request.param


@pytest.fixture
def fail(error: Error) -> Any:
    """Return a function that fails as the database does."""

    def raise_it(*_args: Any, **_kw: Any) -> None:
        raise error

    return raise_it


def assert_told(answer: Any, error: Error) -> None:
    assert (answer.status_code, answer["Retry-After"]) == (503, "5")
    assert ERRORS[error] in answer.content.decode()


def test_a_page_that_cannot_be_saved_says_so(
    admin_client: Client,
    make_device: Any,
    fail: Any,
    error: Error,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    admin_client.raise_request_exception = False
    monkeypatch.setattr("devices.models.device.record", fail)
    assert_told(admin_client.post(f"/admin/devices/device/{make_device().pk}/disable/"), error)
    assert Device.objects.get().enabled


def test_so_does_a_page_whose_session_cannot_be_read(
    admin_client: Client, fail: Any, error: Error, monkeypatch: pytest.MonkeyPatch
) -> None:
    admin_client.raise_request_exception = False
    monkeypatch.setattr(SessionStore, "load", fail)
    assert_told(admin_client.get("/admin/"), error)
    answer = admin_client.get("/api/v1/devices", headers={"Authorization": "Bearer x"})
    assert answer["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("error", "said"),
    [(LOCKED, "Nothing was changed"), (OperationalError("no room"), "cannot answer just now")],
    ids=str,
)
def test_so_does_the_api(error: Error, said: str) -> None:
    problem = as_api_exception(error)
    assert problem is not None
    assert said in str(problem.detail)
