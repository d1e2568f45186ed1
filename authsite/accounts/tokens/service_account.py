"""Accounts of services: programs that hold tokens, and whom somebody answers for."""

from collections.abc import Iterable
from typing import Any, Protocol, TypeVar

from django.contrib.auth.models import Group, Permission, User
from django.core.exceptions import ValidationError
from django.db import models, transaction
from django.db.models import Q, QuerySet
from django.db.models.signals import pre_save
from django.dispatch import receiver
from django.utils.translation import gettext as _, gettext_lazy

from devices.history import Recorded, Records
from devices.values.text import joined

TAKEN = gettext_lazy("An account of this name exists.")

AnyUser = TypeVar("AnyUser", bound=User)


class Holder(Protocol):
    """Who gives something: an account, or a request with what its token grants of one."""

    def has_perm(self, permission: str) -> bool:
        """Whether they may do it themselves."""

    def get_username(self) -> str:
        """Return who that is."""


class ServiceAccountQuerySet(models.QuerySet["ServiceAccount"]):
    def create_account(
        self,
        name: str,
        *,
        answerable: User,
        purpose: str = "",
        roles: Iterable[Group] = (),
        maker: Holder | None = None,
    ) -> "ServiceAccount":
        """Create an account that cannot log in; raises ValidationError.

        `maker` gives it no role that could do more than the maker could. None is somebody with
        access to the machine.
        """
        roles = list(roles)
        for role in roles:
            check_held(maker, names_of(role.permissions.all()))
        user = new_account(User, name)
        account = self.model(user=user, answerable=answerable, purpose=purpose)
        account.full_clean(exclude=["user"])
        with transaction.atomic():
            user.save()
            user.groups.set(roles)
            account.save()
        return account


class ServiceAccount(Recorded):
    """An account of a program: it has tokens, cannot log in, and somebody answers for it."""

    user = models.OneToOneField(
        User,
        verbose_name=gettext_lazy("account"),
        on_delete=models.CASCADE,
        related_name="service_account",
    )
    answerable = models.ForeignKey(
        User,
        verbose_name=gettext_lazy("answered for by"),
        on_delete=models.PROTECT,
        related_name="answers_for",
        limit_choices_to={"is_active": True, "is_staff": True},
        help_text=gettext_lazy("While this account is disabled, the service's tokens are refused."),
    )
    purpose = models.CharField(
        gettext_lazy("purpose"),
        max_length=255,
        blank=True,
        help_text=gettext_lazy("What the program does, and where it runs."),
    )
    created = models.DateTimeField(gettext_lazy("created"), auto_now_add=True)

    objects = ServiceAccountQuerySet.as_manager()
    history = Records(without=["created"])

    class Meta:
        ordering = ["user__username"]
        verbose_name = gettext_lazy("service account")
        verbose_name_plural = gettext_lazy("service accounts")
        default_permissions = ("view", "add", "change")

    def __str__(self) -> str:
        return self.user.get_username()

    def check_handed_on(self, permissions: Iterable[str], *, maker: Holder | None) -> None:
        """Raise ValidationError where `maker` may not name another account to answer for it.

        While who answers for it is disabled its tokens are refused: another one brings it back,
        with these permissions.
        """
        if not is_staff_member(self.answerable):
            check_held(maker, permissions)

    def clean(self) -> None:
        super().clean()
        if self.answerable_id is not None and not is_staff_member(self.answerable):
            raise ValidationError(
                {"answerable": _("Only active staff can answer for a service account.")}
            )


def is_taken(name: str, *, besides: int = 0) -> bool:
    """Whether an account has this name, in whatever capitals, but the one of the key `besides`."""
    return User.objects.filter(username__iexact=name).exclude(pk=besides).exists()


def check_free(name: str, *, besides: int = 0) -> None:
    """Raise ValidationError where another account has this name, in whatever capitals.

    `besides` is the key of the account that may have it.
    """
    if is_taken(name, besides=besides):
        raise ValidationError(TAKEN)


def new_account(model: type[AnyUser], name: str, **fields: Any) -> AnyUser:
    """Return an account without a password that is not saved yet; raises ValidationError."""
    account = model(username=model.normalize_username(name), **fields)
    account.set_unusable_password()
    account.full_clean()
    if is_taken(account.username):
        raise ValidationError({"username": TAKEN})
    return account


def is_staff_member(user: User) -> bool:
    """Whether an account is a person's who may use the admin."""
    return user.is_active and user.is_staff


def names_of(permissions: "QuerySet[Permission]") -> set[str]:
    """Return permissions as they are named: `devices.change_device`."""
    pairs = permissions.order_by().values_list("content_type__app_label", "codename")
    return {f"{app}.{codename}" for app, codename in pairs}


def permissions_of(user: User) -> set[str]:
    """Return what an account may do by its roles and by itself, whether or not it is enabled."""
    return names_of(Permission.objects.filter(Q(group__user=user.pk) | Q(user=user.pk)))


def permissions_answered_for(user: User) -> set[str]:
    """Return what the enabled services may do that an account answers for."""
    services = User.objects.filter(service_account__answerable=user.pk, is_active=True)
    return names_of(
        Permission.objects.filter(Q(group__user__in=services) | Q(user__in=services)).distinct()
    )


def check_held(user: Holder | None, permissions: Iterable[str]) -> None:
    """Raise ValidationError where an account lacks one of the permissions; None has all."""
    missing = sorted(name for name in permissions if user is not None and not user.has_perm(name))
    if missing:
        raise ValidationError(
            _(
                "%(account)s does not have these permissions, and so cannot give them to others: "
                "%(permissions)s."
            ),
            code="not-held",
            params={"account": user and user.get_username(), "permissions": joined(missing)},
        )


@receiver(pre_save, sender=User)
@receiver(pre_save, sender="authsite.Account")
def keep_services_from_logging_in(
    *, instance: User, update_fields: frozenset[str] | None, **_signal: Any
) -> None:
    """Leave a service account without a password and without the admin, whoever saves it."""
    login_fields = {"is_staff", "is_superuser", "password"}
    if instance.pk is None or (
        update_fields is not None and login_fields.isdisjoint(update_fields)
    ):
        return
    if not (instance.is_staff or instance.is_superuser or instance.has_usable_password()):
        return
    if ServiceAccount.objects.filter(user=instance.pk).exists():
        instance.is_staff = instance.is_superuser = False
        instance.set_unusable_password()
