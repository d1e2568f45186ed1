"""Of a failed login nothing is kept that was sent with it.

CWE-312, CWE-359. django-axes keeps the whole form of a failure, but for the fields that a setting
names. The page for a new password sends the old one, mistyped by a letter perhaps, and the new one
twice, under other names: they stood in the table in clear, for auditors and in backups.
"""

from importlib import import_module
from types import SimpleNamespace
from typing import Any

import pytest
from axes.models import AccessAttempt
from django.apps import apps
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django_otp.plugins.otp_totp.models import TOTPDevice

pytestmark = [pytest.mark.django_db, pytest.mark.once(on="sqlite")]
PASSWORD = "a long enough password"
SENT = "hunter2-"  # how everything begins that is typed
FORMS = {
    "/admin/login/": {"username": "kim", "password": f"{SENT}old"},
    "/admin/confirm/": {"password": f"{SENT}old"},
    "/admin/password_change/": {
        "old_password": f"{SENT}old",
        "new_password1": f"{SENT}new one",
        "new_password2": f"{SENT}new one",
    },
    "/admin/second-factor/": {"code": f"{SENT}code"},
}


@pytest.fixture
def kim() -> User:
    return User.objects.create_superuser("kim", password=PASSWORD)


@pytest.mark.parametrize("address", FORMS)
@pytest.mark.parametrize("times", [1, 2])  # the second one is added to the row of the first
def test_nothing_that_was_sent_is_kept(kim: User, settings: Any, address: str, times: int) -> None:
    settings.STAFF_SECOND_FACTOR = "optional"
    client = Client()
    client.post("/admin/login/", {"username": "kim", "password": PASSWORD})
    if "factor" in address:
        TOTPDevice.objects.create(user=kim, name="app", confirmed=True)
    for _ in range(times):
        sent = FORMS[address] | {"reason": f"{SENT}reason"}
        assert client.post(f"{address}?next={SENT}next", sent).status_code == 200
    row = AccessAttempt.objects.get()
    assert (row.username, row.failures_since_start) == ("kim", times)
    assert SENT not in repr(row.__dict__)
    page = Client()
    page.force_login(User.objects.create_superuser("auditor"))  # whose login forgets none of kim's
    settings.STAFF_SECOND_FACTOR = "off"
    shown = page.get(f"/admin/axes/accessattempt/{row.pk}/change/").content.decode()
    assert "kim" in shown
    assert "Form Data" not in shown


def test_what_was_kept_before_is_forgotten() -> None:
    AccessAttempt.objects.bulk_create(
        [AccessAttempt(username="kim", failures_since_start=3, post_data=f"old_password={SENT}")]
    )
    migration = import_module("authsite.migrations.0016_forget_forms_of_failed_logins")
    migration.forget_forms(apps, SimpleNamespace(connection=connection))
    row = AccessAttempt.objects.get()
    assert (row.post_data, row.failures_since_start) == ("", 3)
