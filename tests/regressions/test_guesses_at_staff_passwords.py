"""Every place that takes a password or a code of staff counts failures, in one count.

CWE-307. The page for a new password tried old ones without limit, beside a login page and a
confirmation that locked at the fifth; a right password reset the count, so that a thief of one
had any number of codes to try.

A public report of this kind: https://github.com/pennersr/django-allauth/issues/1872. And a
directory that overlooks accents finds a person by many spellings: each had five guesses of its own.
"""

from typing import Any

import pytest
from axes.models import AccessAttempt
from django.contrib.auth.models import User
from django.test import Client
from django_otp.plugins.otp_totp.models import TOTPDevice

from authsite.accounts.sign_on.models import ExternalIdentity

pytestmark = [pytest.mark.django_db, pytest.mark.once(on="sqlite")]
PASSWORD = "a long enough password"
WRONG = {
    "/admin/login/": {"username": "kim", "password": "wrong"},
    "/admin/confirm/": {"password": "wrong"},
    "/admin/password_change/": {
        "old_password": "wrong",
        "new_password1": "quite another one",
        "new_password2": "quite another one",
    },
    "/admin/second-factor/": {"code": "abcde-abcde"},
}


@pytest.fixture(autouse=True)
def optional(settings: Any) -> None:
    settings.STAFF_SECOND_FACTOR = "optional"


@pytest.fixture
def kim() -> User:
    return User.objects.create_superuser("kim", password=PASSWORD)


def sign_in() -> Client:
    client = Client()
    assert client.post("/admin/login/", {"username": "kim", "password": PASSWORD}).status_code < 400
    return client


def enrol(user: User) -> None:
    TOTPDevice.objects.create(user=user, name="app", confirmed=True)


@pytest.mark.parametrize("address", [one for one in WRONG if "factor" not in one])
def test_the_fifth_wrong_password_locks_the_account(kim: User, address: str) -> None:
    client = sign_in()
    answers = [client.post(address, WRONG[address]).status_code for _ in range(5)]
    assert answers == [200] * 4 + [429]
    right = {"old_password": PASSWORD} if "change" in address else {"password": PASSWORD}
    assert client.post(address, WRONG[address] | right).status_code == 429
    kim.refresh_from_db()
    assert kim.check_password(PASSWORD)


def test_the_fifth_wrong_code_locks_the_account(kim: User) -> None:
    client = sign_in()
    enrol(kim)
    address = "/admin/second-factor/"
    answers = [client.post(address, WRONG[address]).status_code for _ in range(5)]
    assert answers == [200] * 4 + [429]


def test_failures_at_several_places_are_one_count(kim: User) -> None:
    client = sign_in()
    for address, wrong in WRONG.items():
        if "factor" in address:
            enrol(kim)
        assert client.post(address, wrong).status_code == 200
    assert client.post("/admin/second-factor/", {"code": "000000"}).status_code == 429
    assert Client().post("/admin/login/", WRONG["/admin/login/"]).status_code == 429


def test_a_right_password_buys_no_more_codes(kim: User) -> None:
    enrol(kim)
    for _ in range(2):
        client = sign_in()
        for _ in range(2):
            assert client.post("/admin/second-factor/", {"code": "000000"}).status_code == 200
    assert client.post("/admin/second-factor/", {"code": "000000"}).status_code == 429
    locked = Client().post("/admin/login/", {"username": "kim", "password": PASSWORD})
    assert locked.status_code == 429


def test_the_right_old_password_changes_it(kim: User) -> None:
    client = sign_in()
    sent = WRONG["/admin/password_change/"] | {"old_password": PASSWORD}
    answer = client.post("/admin/password_change/", sent)
    assert answer.headers["Location"] == "/admin/password_change/done/"
    kim.refresh_from_db()
    assert kim.check_password("quite another one")


@pytest.mark.parametrize("account", [None, "kim", "Kim"])
def test_what_a_directory_overlooks_buys_no_guesses(settings: Any, account: str | None) -> None:
    settings.LDAP_URL = "ldaps://ldap.example.com"  # its backend is not set: all are wrong
    if account is not None:
        user = User.objects.create_user(account, is_staff=True)
        ExternalIdentity.objects.create(
            user=user, source=ExternalIdentity.Source.LDAP, subject="entry-1"
        )
    spellings = ["kim", "kím", "KÏM", "k\u00adim", "ki\u0302m"]
    answers = [
        Client().post("/admin/login/", {"username": name, "password": "wrong"}).status_code
        for name in spellings
    ]
    assert answers == [200] * 4 + [429]
    assert {row.username for row in AccessAttempt.objects.all()} == {account or "kim"}


def test_an_account_whose_name_has_accents_is_counted_by_itself(settings: Any) -> None:
    settings.LDAP_URL = "ldaps://ldap.example.com"
    User.objects.create_superuser("jos\u00e9", password=PASSWORD)
    for name in ("jose", "jos\u00e9"):
        Client().post("/admin/login/", {"username": name, "password": "wrong"})
    assert {row.username for row in AccessAttempt.objects.all()} == {"jose", "jos\u00e9"}
    right = Client().post("/admin/login/", {"username": "jos\u00e9", "password": PASSWORD})
    assert right.status_code == 302
    assert {row.username for row in AccessAttempt.objects.all()} == {"jose"}
