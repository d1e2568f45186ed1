"""Events of accounts and roles, which are Django's own rows: whoever changes them. (docs/events.md)

They have no history table; what is told of them is written in the transaction of the change.
"""

from collections.abc import Iterable
from typing import Any

from django.contrib.auth.models import Group, User
from django.contrib.auth.password_validation import MinimumLengthValidator
from django.db.models import Model
from django.db.models.signals import m2m_changed, post_delete, post_save, pre_delete, pre_save
from django.dispatch import receiver

from authsite.accounts.tokens.service_account import names_of
from devices.events.kinds import Kind
from devices.events.models import Event

FIELDS = {
    User: ("username", "first_name", "last_name", "email", "is_active", "is_staff", "is_superuser"),
    Group: ("name",),
}
BEFORE = "_fields_before"  # of a row that is being saved
VERBS = {"post_add": "added", "pre_remove": "removed", "pre_clear": "removed"}


def account_data(user: User) -> dict[str, Any]:
    return {"id": user.pk, "username": user.get_username()}


def record_about(kind: Kind, user: User, **details: str | None) -> None:
    """Leave an event about an account, in the transaction of what happened."""
    Event.objects.record(kind, {"account": account_data(user), **details})


@receiver(pre_save, sender=User)
@receiver(pre_save, sender="authsite.Account")
@receiver(pre_save, sender=Group)
def remember(
    *, instance: User | Group, update_fields: frozenset[str] | None, **_signal: Any
) -> None:
    """Remember what a row says before it is saved, as far as the save touches it."""
    fields = FIELDS[Group if isinstance(instance, Group) else User]
    wanted = [one for one in fields if update_fields is None or one in update_fields]
    before = None
    if instance.pk is not None and wanted:
        before = type(instance)._default_manager.filter(pk=instance.pk).values(*wanted).first()
    instance.__dict__[BEFORE] = before or {}


def _changed(row: Model) -> list[str]:
    """Return the fields that a save changed; it asks once."""
    before: dict[str, Any] = row.__dict__.pop(BEFORE, {})
    return [name for name, value in before.items() if getattr(row, name) != value]


# --- Accounts -------------------------------------------------------------------------------


@receiver(post_save, sender=User)
@receiver(post_save, sender="authsite.Account")
def record_account(*, instance: User, created: bool, raw: bool = False, **_signal: Any) -> None:
    """Leave an event of an account that was created, enabled, disabled or changed."""
    changed = _changed(instance)
    if raw or not (created or changed):
        return
    kind = Kind.ACCOUNT_CREATED if created else Kind.ACCOUNT_CHANGED
    if "is_active" in changed:
        kind = Kind.ACCOUNT_ENABLED if instance.is_active else Kind.ACCOUNT_DISABLED
    Event.objects.record(
        kind,
        {
            "account": account_data(instance),
            "enabled": instance.is_active,
            "staff": instance.is_staff,
            "superuser": instance.is_superuser,
            "changed": changed,
        },
    )


@receiver(post_delete, sender=User)
@receiver(post_delete, sender="authsite.Account")
def record_deleted_account(*, instance: User, **_signal: Any) -> None:
    record_about(Kind.ACCOUNT_DELETED, instance)


class RecordedMinimumLength(MinimumLengthValidator):
    """Django's rule; it leaves an event, too, of each password that somebody set.

    Django tells rules of passwords alone whenever one was set, and not where a hash is renewed.
    """

    def password_changed(self, _password: str, user: User) -> None:
        record_about(Kind.ACCOUNT_PASSWORD_CHANGED, user)


# --- Roles ----------------------------------------------------------------------------------


@receiver(post_save, sender=Group)
def record_role(*, instance: Group, created: bool, raw: bool = False, **_signal: Any) -> None:
    """Leave an event of a role that was created, or has another name."""
    changed = _changed(instance)
    if not raw and (created or changed):
        kind = Kind.ROLE_CREATED if created else Kind.ROLE_CHANGED
        Event.objects.record(kind, {"role": instance.name, "changed": changed})


@receiver(pre_delete, sender=Group)
def record_deleted_role(*, instance: Group, **_signal: Any) -> None:
    """Leave events of a role that is deleted, and of each account that had it."""
    _record_roles(Kind.ROLE_TAKEN, instance.user_set.all(), [instance])
    Event.objects.record(Kind.ROLE_DELETED, {"role": instance.name})


@receiver(m2m_changed, sender=User.groups.through)
def record_roles_of_accounts(
    *, instance: Any, action: str, reverse: bool, pk_set: set[int] | None, **_signal: Any
) -> None:
    """Leave an event for each role that an account was given, or loses."""
    if action not in VERBS:
        return
    kind = Kind.ROLE_GIVEN if action == "post_add" else Kind.ROLE_TAKEN
    others = instance.user_set if reverse else instance.groups
    rows = others.all() if pk_set is None else others.filter(pk__in=pk_set)
    if reverse:
        _record_roles(kind, rows, [instance])
    else:
        _record_roles(kind, [instance], rows)


def _record_roles(kind: Kind, users: Iterable[User], roles: Iterable[Group]) -> None:
    roles = list(roles)
    for user in users:
        for role in roles:
            record_about(kind, user, role=role.name)


@receiver(m2m_changed, sender=Group.permissions.through)
@receiver(m2m_changed, sender=User.user_permissions.through)
def record_permissions(
    *, instance: Any, action: str, reverse: bool, pk_set: set[int] | None, **_signal: Any
) -> None:
    """Leave an event of the permissions that a role, or an account itself, was given or loses."""
    if action not in VERBS or reverse:  # a permission gives itself to nobody
        return
    is_role = isinstance(instance, Group)
    held = instance.permissions if is_role else instance.user_permissions
    rows = held.all() if pk_set is None else held.filter(pk__in=pk_set)
    if names := sorted(names_of(rows)):
        kind = Kind.ROLE_CHANGED if is_role else Kind.ACCOUNT_CHANGED
        about = {"role": instance.name} if is_role else {"account": account_data(instance)}
        said = {"changed": ["permissions"], VERBS[action]: names}
        Event.objects.record(kind, {**about, **said})
