"""Whom an account belongs to outside of the registry, and what its roles follow from."""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from django.conf import settings
from django.contrib.auth.models import Group, User
from django.contrib.auth.validators import UnicodeUsernameValidator
from django.core.exceptions import ValidationError
from django.db import models, transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from authsite.accounts.sign_on.refusals import Reason, SignOnRefused

logger = logging.getLogger("authsite.sign_on")

SUPERUSER = "superuser"  # beside the roles, in the settings that map groups
MAX_NAME = 150  # of an account, in characters


@dataclass(frozen=True, slots=True)
class Person:
    """Who somebody is, as a source of sign-on says after it has proved it.

    `subject` never changes and is never given to somebody else; `name` may. `groups` are those of
    the person there.
    """

    subject: str
    name: str
    groups: frozenset[str]
    first_name: str = ""
    last_name: str = ""
    email: str = ""


class ExternalIdentityQuerySet(models.QuerySet["ExternalIdentity"]):
    def sign_on(
        self, source: str, issuer: str, person: Person, roles: Mapping[str, Iterable[str]]
    ) -> User:
        """Return the person's account, with the roles that its groups bring now.

        `roles` says which each group brings. The account is made at the first time; one of the
        same name that is not tied to the person is never taken. Raises SignOnRefused.
        """
        user = self._account(source, issuer, person)
        if not user.is_active:
            raise SignOnRefused(Reason.DISABLED, f"the account {user.get_username()!r} is disabled")
        wanted = {role for group in person.groups for role in roles.get(group, ())}
        if not _give(user, wanted):
            raise SignOnRefused(
                Reason.NO_ROLE,
                f"{user.get_username()!r} is in none of the groups that bring a role, but in "
                f"{sorted(person.groups)[:20]}",
                wanted=tuple(roles),
            )
        self.filter(user=user).update(last_signed_on_at=timezone.now())
        return user

    def tie(self, user: User, source: str, issuer: str, subject: str) -> None:
        """Let the subject sign on as an account, in place of whatever it was tied to.

        Its password ends, unless it is a break-glass account's. Raises IntegrityError where the
        subject has another account, or is empty.
        """
        self.filter(user=user).delete()
        self.create(user=user, source=source, issuer=issuer, subject=subject)
        if user.get_username() not in settings.BREAK_GLASS_ACCOUNTS:
            user.set_unusable_password()
            user.save(update_fields=["password"])

    def end_sessions(self, source: str, issuer: str, subject: str) -> None:
        """End every session of the account that the subject has, if it has one.

        Sessions end with the password; where that is usable, it and they are left alone.
        """
        found = self.filter(source=source, issuer=issuer, subject=subject).select_related("user")
        for user in (identity.user for identity in found):
            if user.has_usable_password():
                logger.warning("%r has a password: its sessions go on", user.get_username())
                continue
            user.set_unusable_password()
            user.save(update_fields=["password"])
            logger.info("The provider ended the sessions of %r", user.get_username())

    def _account(self, source: str, issuer: str, person: Person) -> User:
        ours = self.filter(source=source, issuer=issuer, subject=person.subject)
        known = ours.select_related("user").first()
        if known is not None:
            return known.user
        name = User.normalize_username(person.name.strip())
        try:
            UnicodeUsernameValidator()(name)
        except ValidationError:
            name = ""
        if not name or len(name) > MAX_NAME or not person.subject:
            raise SignOnRefused(Reason.NO_NAME, f"no account can be named {person.name[:200]!r}")
        with transaction.atomic():
            if User.objects.filter(username__iexact=name).exists():
                # Two first sign-ons of one person may come at once.
                if (made := ours.select_related("user").first()) is not None:
                    return made.user
                raise SignOnRefused(
                    Reason.NAME_TAKEN,
                    f"{name!r} is another account; the subject is {person.subject!r}",
                )
            user = User(
                username=name,
                first_name=person.first_name[:150],
                last_name=person.last_name[:150],
                email=person.email[:254],
            )
            user.set_unusable_password()
            user.save()
            self.create(source=source, issuer=issuer, subject=person.subject, user=user)
        logger.info("Made the account %r for the subject %r", name, person.subject)
        return user


def _give(user: User, wanted: set[str]) -> bool:
    """Give an account these roles and no others; return whether it has any."""
    found = set(Group.objects.filter(name__in=wanted))
    if missing := wanted - {group.name for group in found} - {SUPERUSER}:
        logger.error("There is no role named %s: see the settings of sign-on", sorted(missing))
    with transaction.atomic():
        had = set(user.groups.all())
        if had != found:
            user.groups.set(found)
        is_superuser = SUPERUSER in wanted
        flags = {"is_staff": bool(found or is_superuser), "is_superuser": is_superuser}
        changed = [name for name, value in flags.items() if getattr(user, name) != value]
        if changed:
            for name in changed:
                setattr(user, name, flags[name])
            user.save(update_fields=changed)
    if had != found or changed:
        logger.info(
            "The roles of %r are now %s%s",
            user.get_username(),
            sorted(group.name for group in found),
            ", superuser" if is_superuser else "",
        )
    return flags["is_staff"]


class ExternalIdentity(models.Model):
    """The subject at a provider, in a directory or behind a proxy that an account belongs to.

    It, and never a name or an e-mail address, decides whose account somebody gets.
    """

    class Source(models.TextChoices):
        OPENID_CONNECT = "openid", _("OpenID Connect")
        LDAP = "ldap", _("LDAP")
        PROXY = "proxy", _("Trusted proxy")

    user = models.OneToOneField(
        User, models.CASCADE, related_name="external_identity", verbose_name=_("account")
    )
    source = models.CharField(_("source"), max_length=10, choices=Source)
    issuer = models.CharField(
        _("issuer"),
        max_length=255,
        blank=True,
        help_text=_("Of OpenID Connect: the address of the provider."),
    )
    subject = models.CharField(_("subject"), max_length=255)
    last_signed_on_at = models.DateTimeField(_("last signed on"), null=True, blank=True)

    objects = ExternalIdentityQuerySet.as_manager()

    class Meta:
        verbose_name = _("external identity")
        verbose_name_plural = _("external identities")
        default_permissions = ("view", "delete")
        constraints = [
            models.UniqueConstraint(
                "source", "issuer", "subject", name="authsite_external_identity_unique"
            ),
            models.CheckConstraint(
                condition=Q(source__in=["openid", "ldap", "proxy"]),
                name="authsite_external_identity_source_known",
            ),
            models.CheckConstraint(
                condition=~Q(subject=""), name="authsite_external_identity_subject_given"
            ),
        ]

    def __str__(self) -> str:
        return self.subject
