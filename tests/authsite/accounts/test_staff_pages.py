"""Staff's accounts in the admin: roles, second factors, who is locked out, and the way back in."""

from datetime import UTC, datetime
from typing import Any

import pytest
from axes.models import AccessLog
from django.conf import settings
from django.contrib.auth.models import Group, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from authsite.accounts import login
from authsite.accounts.sign_on.models import ExternalIdentity
from authsite.accounts.tokens.models import ApiToken
from devices.events.models import Event
from tests.support.commands import run
from tests.support.forms import inputs
from tests.support.staff import browser_of, staff

pytestmark = pytest.mark.once(on="sqlite")

LIST = "/admin/auth/user/"
PASSWORD = "a long enough password"


@pytest.fixture
def kim(db: None) -> User:
    return User.objects.create_user("kim", password=PASSWORD)


def role(name: str) -> str:
    """Return the key of a role."""
    return str(Group.objects.get(name=name).pk)


def save(client: Client, user: User, **changed: Any) -> None:
    """Send the form of an account as it is, with these fields changed."""
    address = f"{LIST}{user.pk}/change/"
    answer = client.post(address, inputs(client.get(address)) | changed)
    assert answer.status_code == 302, answer.context["errors"]
    user.refresh_from_db()


def test_a_role_makes_somebody_staff_and_the_loss_of_the_last_one_ends_it(
    admin_client: Client, kim: User
) -> None:
    assert not kim.is_staff
    save(admin_client, kim, groups=[role("Viewer"), role("Auditor")])
    assert kim.is_staff
    save(admin_client, kim, groups=[role("Auditor")])
    assert kim.is_staff
    save(admin_client, kim, groups=[])
    assert not kim.is_staff
    save(admin_client, kim, is_superuser="on")
    assert kim.is_staff


@pytest.mark.parametrize("field", ["is_active", "is_superuser"])
def test_the_last_active_superuser_stays(
    admin_client: Client, admin_user: User, kim: User, field: str
) -> None:
    address = f"{LIST}{admin_user.pk}/"
    form = inputs(admin_client.get(f"{address}change/"))
    del form[field]
    refused = admin_client.post(f"{address}change/", form)
    assert field in refused.context["adminform"].form.errors
    for selected in ([admin_user], [admin_user, kim]):
        action = {"action": "delete_selected", "_selected_action": [one.pk for one in selected]}
        for confirmed in ({}, {"post": "yes"}):
            page = admin_client.post(LIST, action | confirmed).content.decode()
            assert "No other active superuser would be left." in page
    for answer in (admin_client.get, admin_client.post):
        page = answer(f"{address}delete/", {"post": "yes"}).content.decode()
        assert "No other active superuser would be left." in page
    assert User.objects.filter(is_active=True, is_superuser=True).get() == admin_user

    second = User.objects.create_superuser("second")
    assert admin_client.post(f"{address}change/", form).status_code == 302
    admin_user.refresh_from_db()
    assert not getattr(admin_user, field)
    assert User.objects.filter(is_active=True, is_superuser=True).get() == second


@pytest.mark.once(on="postgres")
@pytest.mark.skipif("connection.vendor != 'postgresql'", reason="SQLite has one writer")
@pytest.mark.parametrize("way", ["change", "delete", "list", "command"])
def test_a_turn_is_taken_before_an_account_is_locked(
    admin_client: Client, kim: User, way: str
) -> None:
    """Who has the turn and who has the row would wait for each other."""
    address = f"{LIST}{kim.pk}/{way}/"
    form = inputs(admin_client.get(address)) if way == "change" else {"post": "yes"}
    with CaptureQueriesContext(connection) as asked:
        if way == "command":
            run("disable_user", "kim")
        elif way == "list":
            form |= {"action": "delete_selected", "_selected_action": str(kim.pk)}
            admin_client.post(LIST, form)
        else:
            admin_client.post(address, form)
    locks = [
        query["sql"]
        for query in asked.captured_queries
        if "hashtext('superusers')" in query["sql"]
        or ("FOR " in query["sql"] and 'FROM "auth_user"' in query["sql"])
    ]
    assert "hashtext" in locks[0]
    assert "FOR NO KEY UPDATE" in " ".join(locks)


@pytest.mark.parametrize("where", ["page", "list"])
def test_a_deleted_account_ends_its_tokens_as_a_disabled_one(
    admin_client: Client, kim: User, where: str
) -> None:
    kim.groups.set(Group.objects.filter(name="Viewer"))
    live, ended = (
        ApiToken.objects.issue(owner=kim, name=name, scopes=["devices.view_device"])[0]
        for name in ("live", "ended")
    )
    ended.revoke(by="kim", reason="leaked")
    Event.objects.all().delete()

    if where == "page":
        admin_client.post(f"{LIST}{kim.pk}/delete/", {"post": "yes"})
    else:
        sent = {"action": "delete_selected", "_selected_action": [kim.pk], "post": "yes"}
        admin_client.post(LIST, sent)

    assert not User.objects.filter(pk=kim.pk).exists()
    told = Event.objects.filter(kind__startswith="token.").order_by("pk")
    kinds = [(one.kind, one.data["name"]) for one in told]
    assert kinds[0] == ("token.revoked", "live")
    assert sorted(kinds[1:]) == [("token.deleted", "ended"), ("token.deleted", "live")]
    for token, by, reason in (
        (live, "admin", "the account was deleted"),
        (ended, "kim", "leaked"),
    ):
        last = ApiToken.history.filter(id=token.pk).latest()
        assert (last.history_type, last.revoked_by, last.revoked_reason) == ("-", by, reason)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("first_name", "Ki\u202em", "U+202E"),
        ("last_name", "Sm\nith", "U+000A"),
        ("username", "ADMIN", "An account of this name exists."),
        ("username", "ａｄｍｉｎ", "An account of this name exists."),  # noqa: RUF001
    ],
)
def test_a_name_that_would_mislead_is_refused(
    admin_client: Client, kim: User, field: str, value: str, message: str
) -> None:
    address = f"{LIST}{kim.pk}/change/"
    answer = admin_client.post(address, inputs(admin_client.get(address)) | {field: value})
    assert message in answer.content.decode()
    save(admin_client, kim, username="KIM")
    named = admin_client.post("/admin/auth/group/add/", {"name": "Vie\u200bwer"})
    assert "U+200B" in named.content.decode()


def test_a_new_account_gets_its_roles_at_once(admin_client: Client) -> None:
    page = admin_client.get(f"{LIST}add/")
    new = {"username": "lee", "password1": PASSWORD, "password2": PASSWORD}
    admin_client.post(f"{LIST}add/", inputs(page) | new | {"groups": [role("Operator")]})
    lee = User.objects.get(username="lee")
    assert lee.is_staff
    assert lee.has_perm("rpc.view_callrecord")


@pytest.fixture
def locked(kim: User) -> User:
    """Return an account whose password was guessed at too often."""
    stranger = Client()
    for _ in range(settings.AXES_FAILURE_LIMIT):
        stranger.post("/admin/login/", {"username": "kim", "password": "guess"})
    assert login.lockouts().filter(username="kim").exists()
    return kim


@pytest.mark.parametrize("way", ["button", "action"])
def test_a_locked_account_is_shown_and_unlocked(
    way: str, admin_client: Client, locked: User
) -> None:
    assert 'badge-bad">locked' in admin_client.get(LIST).content.decode()
    page = admin_client.get(f"{LIST}{locked.pk}/change/").content.decode()
    assert f'action="{LIST}{locked.pk}/unlock/"' in page
    if way == "button":
        answer = admin_client.post(f"{LIST}{locked.pk}/unlock/", follow=True)
    else:
        sent = {"action": "unlock_accounts", "_selected_action": [locked.pk]}
        answer = admin_client.post(LIST, sent, follow=True)
    assert "1 account unlocked." in answer.content.decode()
    assert 'badge-bad">locked' not in admin_client.get(LIST).content.decode()
    assert not login.lockouts().exists()


def test_to_unlock_what_is_not_locked_is_no_success(admin_client: Client, kim: User) -> None:
    sent = {"action": "unlock_accounts", "_selected_action": [kim.pk]}
    text = admin_client.post(LIST, sent, follow=True).content.decode()
    assert '<li class="info">No account was locked.</li>' in text


def test_a_login_is_called_by_its_account_and_time_and_has_nothing_to_save(
    admin_client: Client, kim: User
) -> None:
    Client().post("/admin/login/", {"username": "kim", "password": PASSWORD})
    record = AccessLog.objects.get()
    text = admin_client.get(f"/admin/axes/accesslog/{record.pk}/change/").content.decode()
    assert f"{record.attempt_time:%Y-%m-%d %H:%M} UTC</bdi></h1>" in text
    assert "_save" not in text


def test_who_may_only_look_unlocks_nobody(locked: User) -> None:
    client = browser_of(staff("view_user", name="lee"))
    assert "unlock/" not in client.get(f"{LIST}{locked.pk}/change/").content.decode()
    assert client.post(f"{LIST}{locked.pk}/unlock/").status_code == 403
    assert login.lockouts().exists()


def test_the_list_costs_the_same_statements_however_many_accounts(
    admin_client: Client, kim: User, django_assert_max_num_queries: Any
) -> None:
    for number in range(12):
        User.objects.create_user(f"user{number}").groups.add(int(role("Viewer")))
    with django_assert_max_num_queries(20):
        assert "Viewer" in admin_client.get(LIST).content.decode()


def test_staff_call_accounts_and_roles_so_and_see_who_proves_an_account(
    admin_client: Client, kim: User
) -> None:
    assert "<h1>Accounts</h1>" in admin_client.get(LIST).content.decode()
    role_page = admin_client.get("/admin/auth/group/add/").content.decode()
    assert "<h1>Add role</h1>" in role_page
    assert "Accounts, in the admin" in role_page
    assert "Users" not in role_page
    page = f"{LIST}{kim.pk}/change/"
    assert "a password of this registry" in admin_client.get(page).content.decode()
    ExternalIdentity.objects.create(
        user=kim,
        source=ExternalIdentity.Source.OPENID_CONNECT,
        issuer="https://login.example.com",
        subject="<kim>",
        last_signed_on_at=datetime(2026, 1, 2, 3, 4, tzinfo=UTC),
    )
    shown = admin_client.get(page).content.decode()
    assert "OpenID Connect, https://login.example.com, as <bdi>&lt;kim&gt;</bdi>" in shown
    assert "2026-01-02 03:04" in shown


def test_failed_logins_offer_no_action_that_cannot_be_done(admin_client: Client) -> None:
    sent = {"action": "cleanup_expired_attempts", "_selected_action": "1"}
    answer = admin_client.post("/admin/axes/accessattempt/", sent, follow=True)
    assert "No action selected" in answer.content.decode()


@pytest.mark.parametrize(
    "page",
    ["/admin/auth/user/add/", "/admin/auth/user/{}/change/", "/admin/authsite/serviceaccount/add/"],
)
def test_pages_of_accounts_call_them_accounts(page: str, admin_client: Client) -> None:
    shown = admin_client.get(page.format(User.objects.get().pk)).content.decode()
    for of_django in ("created a user", "this user", "selected user", "another user"):
        assert of_django not in shown


@pytest.mark.parametrize(
    ("page", "sent"),
    [
        ("user/{kim}/change/", {"username": "kim", "is_superuser": "on"}),
        ("user/{admin}/change/", {"username": "admin", "first_name": "x"}),
        ("user/{admin}/delete/", {"post": "yes"}),
        ("user/{admin}/password/", {"password1": "long-enough-1", "password2": "long-enough-1"}),
        ("user/add/", {"username": "other", "usable_password": "false"}),
        ("group/{role}/change/", {"name": "role", "permissions": []}),
    ],
)
def test_whoever_is_no_superuser_makes_nobody_one(
    admin_user: User, page: str, sent: dict[str, Any]
) -> None:
    """CWE-269: Django lets whoever may change accounts change a superuser's, and its own."""
    every = [f"{verb}_{kind}" for kind in ("user", "group") for verb in ("add", "change", "delete")]
    kim = staff(*every)
    keys = {"kim": kim.pk, "admin": admin_user.pk, "role": Group.objects.get(name="Viewer").pk}
    assert browser_of(kim).post(f"/admin/auth/{page.format(**keys)}", sent).status_code == 403
