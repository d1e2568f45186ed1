"""What happens to accounts, roles and tokens is told, in the transaction of the change."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import Group, Permission, User
from django.db import transaction
from django.test import Client, override_settings
from django.utils import timezone

from authsite.accounts.tokens.models import ApiToken
from devices import history
from devices.events.models import Event

pytestmark = [pytest.mark.django_db, pytest.mark.once(on="sqlite")]

PASSWORD = "a long pass phrase of nobody"
PBKDF2 = "django.contrib.auth.hashers.PBKDF2PasswordHasher"
Deed = Callable[[User, Group], None]


def saved(user: User, **fields: Any) -> None:
    for name, value in fields.items():
        setattr(user, name, value)
    user.save()


def token(user: User) -> ApiToken:
    issued, _text = ApiToken.objects.issue(owner=user, name="ci", scopes=["devices.view_device"])
    return issued


VIEW = Permission.objects.filter(codename="view_device")
Told = list[tuple[str, dict[str, Any]]]
DEEDS: list[Any] = []


def deed(*told: tuple[str, dict[str, Any]]) -> Callable[[Deed], Deed]:
    """Have a deed done, and these events expected of it."""

    def add(function: Deed) -> Deed:
        DEEDS.append(pytest.param(function, list(told), id=function.__name__))
        return function

    return add


@deed(("account.created", {}))
def make(_user: User, _role: Group) -> None:
    User.objects.create_user("sam")


@deed(("account.disabled", {"enabled": False, "changed": ["is_active"]}))
def disable(user: User, _role: Group) -> None:
    saved(user, is_active=False)


@deed(("account.changed", {"superuser": True, "changed": ["first_name", "is_superuser"]}))
def make_superuser(user: User, _role: Group) -> None:
    saved(user, is_superuser=True, first_name="K")


@deed()
def nothing(user: User, _role: Group) -> None:
    saved(user)
    with override_settings(PASSWORD_HASHERS=[PBKDF2, *settings.PASSWORD_HASHERS]):
        assert user.check_password(PASSWORD)  # its hash is renewed
    assert fresh(user).password.startswith("pbkdf2")
    User.objects.get(pk=user.pk).save(update_fields=["last_login"])
    user.groups.remove(Group.objects.get(name="Viewer"))


@deed(("account.password_changed", {}))
def set_a_password(user: User, _role: Group) -> None:
    user.set_password("x")
    user.save()


@deed(("account.deleted", {}))
def delete(user: User, _role: Group) -> None:
    user.delete()


@deed(("role.given", {"role": "Lab"}), ("role.taken", {"role": "Lab"}))
def give_and_take(user: User, role: Group) -> None:
    user.groups.add(role)
    user.groups.set([])


@deed(("role.given", {"role": "Lab"}), ("role.taken", {"role": "Lab"}))
def give_and_take_from_the_other_side(user: User, role: Group) -> None:
    role.user_set.add(user)
    role.user_set.clear()


@deed(("role.given", {}), ("role.taken", {"role": "Lab"}), ("role.deleted", {"role": "Lab"}))
def delete_a_role(user: User, role: Group) -> None:
    user.groups.add(role)
    role.delete()


@deed(("role.changed", {"changed": ["name"]}))
def rename_a_role(_user: User, role: Group) -> None:
    role.name = "Laboratory"
    role.save()


@deed(("role.created", {"role": "New"}))
def make_a_role(_user: User, _role: Group) -> None:
    Group.objects.create(name="New")


@deed(
    ("role.changed", {"role": "Lab", "added": ["devices.view_device"]}),
    ("role.changed", {"role": "Lab", "removed": ["devices.view_device"]}),
)
def change_what_a_role_may(_user: User, role: Group) -> None:
    role.permissions.add(VIEW.get())
    role.permissions.clear()


MAY = ("account.changed", {"changed": ["permissions"], "added": ["devices.view_device"]})


@deed(MAY)
def give_a_permission(user: User, _role: Group) -> None:
    user.user_permissions.add(VIEW.get())


@deed(MAY, ("token.created", {"name": "ci"}), ("token.revoked", {"revoked_reason": "leaked"}))
def make_and_end_a_token(user: User, role: Group) -> None:
    give_a_permission(user, role)
    token(fresh(user))
    ApiToken.objects.all().revoke(by="kim", reason="leaked")


@deed(MAY, ("token.created", {}), ("account.disabled", {}), ("token.revoked", {}))
def disable_with_a_token(user: User, role: Group) -> None:
    give_a_permission(user, role)
    token(fresh(user))
    saved(user, is_active=False)


def fresh(user: User) -> User:
    """Return the account as it is now: permissions are kept with an instance."""
    return User.objects.get(pk=user.pk)


@pytest.fixture
def kim() -> User:
    return User.objects.create_user("kim", password=PASSWORD, is_staff=True)


@pytest.mark.parametrize(("done", "expected"), DEEDS)
def test_what_is_done_is_told(done: Deed, expected: Told, kim: User) -> None:
    role = Group.objects.create(name="Lab")
    Event.objects.all().delete()
    with history.origin("admin", user="root", reason="a joiner"):
        done(kim, role)
    events = list(Event.objects.order_by("pk"))
    assert sorted(event.kind for event in events) == sorted(kind for kind, _said in expected)
    told = {event.kind: event for event in events}
    for kind, said in expected:
        data = next(
            event.data
            for event in events
            if event.kind == kind and said.items() <= event.data.items()
        )
        assert (data["by"], data["origin"], data["reason"]) == ("root", "admin", "a joiner")
        if kind.startswith(("account.", "role.given", "role.taken")) and kind != "account.created":
            assert data["account"]["username"] == "kim"
    assert PASSWORD not in str([event.data for event in told.values()])


def test_what_is_taken_back_is_not_told(kim: User) -> None:
    Event.objects.all().delete()
    with transaction.atomic():
        kim.groups.add(Group.objects.create(name="Lab"))
        saved(kim, is_active=False)
        transaction.set_rollback(True)
    assert not Event.objects.exists()


def test_a_break_glass_login_is_told_at_the_password(
    client: Client, kim: User, settings: Any
) -> None:
    settings.BREAK_GLASS_ACCOUNTS, settings.STAFF_SECOND_FACTOR = ["kim"], "required"
    sent = {"username": "kim", "password": "wrong"}
    client.post("/admin/login/", sent)
    assert not Event.objects.filter(kind="account.emergency_login").exists()
    client.post("/admin/login/", sent | {"password": PASSWORD})
    data = Event.objects.get(kind="account.emergency_login").data
    assert data["account"] == {"id": kim.pk, "username": "kim"}
    assert data["address"] == "127.0.0.1"


def test_an_expired_token_is_no_event_of_its_own(kim: User) -> None:
    """It ends by itself: `token.created` said when."""
    kim.user_permissions.add(VIEW.get())
    ends = timezone.now() + timedelta(days=1)
    ApiToken.objects.issue(
        owner=fresh(kim), name="ci", scopes=["devices.view_device"], not_after=ends
    )
    assert Event.objects.get(kind="token.created").data["not_after"] == ends.isoformat(
        timespec="milliseconds"
    ).replace("+00:00", "Z")
