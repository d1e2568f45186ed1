"""Accounts of staff and of services as the API and commands change them.

Nobody gives a role, or enables an account, that may do what they may not do themselves; superusers
are made and changed by superusers in the admin and on the command line alone. (docs/tokens.md)
"""

from collections.abc import Iterable
from typing import Any

from django.contrib.auth.models import Group, User, UserManager
from django.core.exceptions import ValidationError
from django.db import models, transaction
from django.utils.translation import gettext as _, gettext_lazy

from authsite.accounts.tokens.models import ApiToken
from authsite.accounts.tokens.service_account import (
    Holder,
    ServiceAccount,
    check_held,
    names_of,
    new_account,
    permissions_answered_for,
    permissions_of,
)
from devices.database.turns import hold
from devices.history.context import current_user
from devices.history.models import hold_dependants


class AccountQuerySet(models.QuerySet["Account"]):
    def create_account(
        self,
        username: str,
        *,
        roles: Iterable[Group] = (),
        maker: Holder | None = None,
        **fields: Any,
    ) -> "Account":
        """Create an account of staff without a password; raises ValidationError.

        `maker` gives it no role that could do more than the maker could. None is somebody with
        access to the machine. It logs in by single sign-on, or after `changepassword`.
        """
        roles = list(roles)
        account = new_account(self.model, username, is_staff=bool(roles), **fields)
        with transaction.atomic():
            account.save()
            account.set_roles(roles, maker=maker)
        return account

    def delete_with_tokens(self) -> None:
        """Delete them, as others leave them; their tokens end first, as those of a disabled one.

        So what these have asked for is cancelled, and whoever listens to tokens that end is told.
        """
        with transaction.atomic():
            keys = hold(User, list(self.values_list("pk", flat=True)))
            ApiToken.objects.filter(owner__in=keys).revoke(
                by=current_user(), reason=_("the account was deleted")
            )
            hold_dependants(User, keys)
            User.objects.filter(pk__in=keys).delete()


class AccountManager(UserManager.from_queryset(AccountQuerySet)):  # type: ignore[misc] # made here
    """Django's own manager of accounts, which their `clean` asks, and the questions above."""

    use_in_migrations = False


class Account(User):
    """An account as a row of this registry, with permissions of its own: Django's open the admin's
    form, on which whoever may change accounts makes themselves a superuser.
    """

    unversioned_fields = ("password", "last_login")  # which change without anybody's change

    objects = AccountManager()  # type: ignore[misc] # as User has it

    class Meta:
        proxy = True
        verbose_name = gettext_lazy("account")
        verbose_name_plural = gettext_lazy("accounts")
        default_permissions = ("view", "add", "change")

    @property
    def service(self) -> ServiceAccount | None:
        """The service that it is of, if it is no person's."""
        found: ServiceAccount | None = getattr(self, "service_account", None)
        return found

    def check_ordinary(self) -> None:
        """Raise ValidationError for a superuser's."""
        if self.is_superuser:
            raise ValidationError(
                _("A superuser is changed in the admin and on the command line alone."),
                code="superuser",
            )

    def set_roles(self, roles: Iterable[Group], *, maker: Holder | None = None) -> None:
        """Give it these roles and no others; raises ValidationError for what `maker` lacks.

        Whoever has a role is staff, and whoever has none is not, as on the page of the account.
        """
        wanted, held = set(roles), set(self.groups.all())
        for role in sorted(wanted - held, key=lambda one: one.name):
            check_held(maker, names_of(role.permissions.all()))
        is_staff = bool(wanted) or self.user_permissions.exists()
        if is_staff and not self.is_staff:
            check_held(maker, permissions_answered_for(self))
        with transaction.atomic():
            self.groups.set(wanted)
            if self.service is None and self.is_staff != is_staff and not self.is_superuser:
                self.is_staff = is_staff
                self.save(update_fields=["is_staff"])

    def disable(self) -> None:
        """Disable it: it cannot log in, its sessions end at once, and its tokens end for good."""
        if self.is_active:
            with transaction.atomic():
                self.is_active = False
                self.save(update_fields=["is_active"])

    def enable(self, *, maker: Holder | None = None) -> None:
        """Let it log in again; raises ValidationError where it may do what `maker` may not.

        Services that it answers for come back with it.
        """
        check_held(maker, permissions_of(self) | permissions_answered_for(self))
        if not self.is_active:
            with transaction.atomic():
                self.is_active = True
                self.save(update_fields=["is_active"])
