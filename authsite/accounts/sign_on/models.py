"""Whom an account belongs to outside of the registry, and what its roles follow from."""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from django.conf import settings
from django.contrib.auth.models import Group, User
from django.contrib.auth.validators import UnicodeUsernameValidator
from django.core.exceptions import ValidationError
from django.db import IntegrityError, models, transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from authsite.accounts.events import record_about
from authsite.accounts.sign_on.refusals import Reason, SignOnRefused
from authsite.accounts.superusers import check_superuser_remains
from authsite.accounts.tokens.service_account import is_taken
from devices.events.kinds import Kind
from devices.values.text import hidden_in, unstorable_in

logger = logging.getLogger("authsite.sign_on")

SUPERUSER = "superuser"  # beside the roles, in the settings that map groups
MAX_NAME = 150  # of an account, in characters
MAX_SUBJECT = 255  # characters (OpenID Connect Core 1.0, 2)


@dataclass(frozen=True, slots=True)
class Person:
    """Who somebody is, as a source of sign-on says after it has proved it.

    `subject` never changes and is never given to somebody else; `name` may. `groups` are those of
    the person there. All of it is as the source says it: `sign_on` looks at what it holds.
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

        `roles` says which each group brings. The account is made at the first time, for nobody
        without a role; one of the same name that is not tied to the person is never taken. Raises
        SignOnRefused.
        """
        if not is_subject(person.subject):
            is_name = person.subject == person.name  # as behind a proxy
            reason = Reason.NO_NAME if is_name else Reason.NO_SUBJECT
            raise SignOnRefused(reason, f"{person.name!r} came with {person.subject!r}")
        wanted = {role for group in person.groups for role in roles.get(group, ())}
        no_role = SignOnRefused(
            Reason.NO_ROLE,
            f"{person.name[:MAX_NAME]!r} is in none of the groups that bring a role, but in "
            f"{sorted(person.groups)[:20]}",
            wanted=tuple(roles),
        )
        known = self.filter(source=source, issuer=issuer, subject=person.subject)
        if not wanted and not known.exists():
            raise no_role
        user = self._account(source, issuer, person)
        if not user.is_active:
            raise SignOnRefused(Reason.DISABLED, f"the account {user.get_username()!r} is disabled")
        if not _give(user, wanted):
            raise no_role
        self.filter(user=user).update(last_signed_on_at=timezone.now())
        return user

    def tie(self, user: User, source: str, issuer: str, subject: str) -> None:
        """Let the subject sign on as an account, in place of whatever it was tied to.

        Its password ends, unless it is a break-glass account's. Raises IntegrityError where the
        subject has another account, or is empty.
        """
        self.filter(user=user).delete()
        self.create(user=user, source=source, issuer=issuer, subject=subject)
        record_about(Kind.ACCOUNT_TIED, user, source=source, issuer=issuer, subject=subject)
        if user.get_username() not in settings.BREAK_GLASS_ACCOUNTS:
            _end_password(user)

    def end_sessions(self, source: str, issuer: str, subject: str) -> None:
        """End every session of the account that the subject has, if it has one.

        Sessions end with the password; where that is usable, it and they are left alone.
        """
        found = self.filter(source=source, issuer=issuer, subject=subject).select_related("user")
        for user in (identity.user for identity in found):
            if user.has_usable_password():
                logger.warning("%r has a password: its sessions go on", user.get_username())
                continue
            _end_password(user)
            logger.info("The provider ended the sessions of %r", user.get_username())

    def untie(self, user: User) -> bool:
        """Let nobody sign on as an account any more; return whether it was tied.

        Its sessions end, unless it has a usable password.
        """
        with transaction.atomic():
            gone, _each = self.filter(user=user).delete()
            if gone:
                record_about(Kind.ACCOUNT_UNTIED, user)
            if gone and not user.has_usable_password():
                _end_password(user)
        return gone > 0

    def spelling(self, name: str) -> str:
        """Return a name in the one spelling that failures of its password are counted under.

        A directory takes a name in capitals, too: each spelling would buy five more guesses.
        """
        if User.objects.filter(username=name).exists():
            return name
        known = self.filter(source=ExternalIdentity.Source.LDAP, user__username__iexact=name)
        found: str | None = known.values_list("user__username", flat=True).first()
        return found or name.casefold()

    def _account(self, source: str, issuer: str, person: Person) -> User:
        """Return the account that the subject has, or a new one."""
        ours = self.filter(source=source, issuer=issuer, subject=person.subject)
        known = ours.select_related("user").first()
        if known is not None:
            return known.user
        user = _new_account(person)
        try:
            with transaction.atomic():
                if not is_taken(user.username):
                    user.save()
                    self.create(source=source, issuer=issuer, subject=person.subject, user=user)
                    logger.info(
                        "Made the account %r for the subject %r", user.username, person.subject
                    )
                    return user
        except IntegrityError:
            pass  # made by another request, after this one had looked
        # Two first sign-ons of one person may come at once.
        if (made := ours.select_related("user").first()) is not None:
            return made.user
        raise SignOnRefused(
            Reason.NAME_TAKEN,
            f"{user.username!r} is another account; the subject is {person.subject!r}",
        )


def _end_password(user: User) -> None:
    """Give an account a new unusable password: its sessions, bound to the old one, end."""
    user.set_unusable_password()
    user.save(update_fields=["password"])


def is_subject(text: str) -> bool:
    """Whether a text can bind an account: a database stores it, and it is not empty."""
    return 0 < len(text) <= MAX_SUBJECT and unstorable_in(text) is None


def _new_account(person: Person) -> User:
    """Return an account for a person that is not saved; raises SignOnRefused for a bad name."""
    name = User.normalize_username(person.name.strip())
    try:
        UnicodeUsernameValidator()(name)
    except ValidationError:
        name = ""
    if not name or len(name) > MAX_NAME:
        raise SignOnRefused(Reason.NO_NAME, f"no account can be named {person.name[:200]!r}")
    user = User(
        username=name,
        first_name=_line(person.first_name)[:150],
        last_name=_line(person.last_name)[:150],
        email=_email(person.email),
    )
    user.set_unusable_password()
    return user


def _line(text: str) -> str:
    """Return a name as an account keeps it; "" where it holds what nobody sees."""
    line = " ".join(text.split())
    return "" if hidden_in(line) is not None else line


def _email(text: str) -> str:
    """Return an e-mail address as an account keeps it; "" where it is none."""
    address = _line(text)
    try:
        User._meta.get_field("email").run_validators(address)
    except ValidationError:
        return ""
    return address


def _give(user: User, wanted: set[str]) -> bool:
    """Give an account these roles and no others; return whether it has any.

    The last active superuser stays one, and gets in by a role alone.
    """
    found = set(Group.objects.filter(name__in=wanted))
    if missing := wanted - {group.name for group in found} - {SUPERUSER}:
        logger.error("There is no role named %s: see the settings of sign-on", sorted(missing))
    with transaction.atomic():
        is_superuser = SUPERUSER in wanted
        flags = {"is_staff": bool(found or is_superuser), "is_superuser": is_superuser}
        try:
            if user.is_superuser and not is_superuser:
                # This takes the turn of superusers, before any row is locked.
                check_superuser_remains([user.pk])
        except ValidationError:
            flags["is_superuser"] = True
            record_about(Kind.ACCOUNT_SUPERUSER_KEPT, user)
            logger.warning(
                "%r is no superuser any more by its groups, and is left one: no other active "
                "superuser would be left",
                user.get_username(),
            )
        had = set(user.groups.all())
        if had != found:
            user.groups.set(found)
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
            ", superuser" if flags["is_superuser"] else "",
        )
    return flags["is_staff"]


class ExternalIdentity(models.Model):
    """The subject at a provider, in a directory or behind a proxy that an account belongs to.

    It, and never a name or an e-mail address, decides whose account somebody gets.
    """

    class Source(models.TextChoices):
        """Where the identity is proved."""

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
