"""Staff log in with their password of a directory (LDAP), by django-auth-ldap.

Imported only where LDAP_URL is set, since python-ldap is not installed everywhere.
"""

import logging
from functools import cache
from typing import Any

import ldap
from django.conf import settings
from django.contrib.auth.models import User
from django.http import HttpRequest
from django_auth_ldap.backend import LDAPBackend, ldap_error
from django_auth_ldap.config import (
    ActiveDirectoryGroupType,
    GroupOfNamesType,
    GroupOfUniqueNamesType,
    LDAPSearch,
    NestedActiveDirectoryGroupType,
    NestedGroupOfNamesType,
    NestedGroupOfUniqueNamesType,
    PosixGroupType,
)

from authsite.accounts.sign_on import calls
from authsite.accounts.sign_on.models import ExternalIdentity, Person
from authsite.accounts.sign_on.refusals import Reason, SignOnRefused
from authsite.accounts.sign_on.sessions import SignedOnBackend
from authsite.readers import starts_tls
from devices.database.slots import released

logger = logging.getLogger("authsite.sign_on")

CONNECT_SECONDS = 3
ANSWER_SECONDS = 5
MAX_NAME = 255  # characters that are looked for
GUID = "objectguid"  # Active Directory's, which is 16 bytes
# Each with the class of its groups, flat and nested; a posixGroup has no groups inside.
GROUPS: dict[str, tuple[str, Any, Any]] = {
    "groupofnames": ("groupOfNames", GroupOfNamesType, NestedGroupOfNamesType),
    "groupofuniquenames": (
        "groupOfUniqueNames", GroupOfUniqueNamesType, NestedGroupOfUniqueNamesType,
    ),
    "posixgroup": ("posixGroup", PosixGroupType, PosixGroupType),
    "activedirectory": ("group", ActiveDirectoryGroupType, NestedActiveDirectoryGroupType),
}  # fmt: skip


@cache
def _calls(_url: str) -> calls.Calls:
    """Return the calls of one directory: those that hang hold up those of no other."""
    return calls.Calls()


class Directory(LDAPBackend):
    """A directory of those that the settings name; it asks our database nothing."""

    def __init__(self, url: str) -> None:
        name, flat, nested = GROUPS[settings.LDAP_GROUP_TYPE]
        self.default_settings = {
            "SERVER_URI": url,
            "START_TLS": starts_tls(settings.LDAP_URL, wanted=settings.LDAP_START_TLS),
            "CONNECTION_OPTIONS": _options(),
            "BIND_DN": settings.LDAP_BIND_DN,
            "BIND_PASSWORD": settings.LDAP_BIND_PASSWORD,
            "USER_SEARCH": LDAPSearch(
                settings.LDAP_USER_BASE,
                ldap.SCOPE_SUBTREE,
                settings.LDAP_USER_FILTER,
                ["*", settings.LDAP_ID_ATTRIBUTE],  # which is of those that are named or not sent
            ),
            "GROUP_SEARCH": LDAPSearch(
                settings.LDAP_GROUP_BASE, ldap.SCOPE_SUBTREE, f"(objectClass={name})"
            ),
            "GROUP_TYPE": nested() if settings.LDAP_NESTED_GROUPS else flat(),
            "ALWAYS_UPDATE_USER": False,
        }

    def get_or_build_user(self, username: str, ldap_user: Any) -> tuple[User, bool]:
        """Return an account that is not saved, with the person; called once it is proved."""
        user: Any = User(username=username)
        user.person = _person(ldap_user)
        return user, False


def _options() -> dict[int, Any]:
    """Return bounds on the waits, and what makes a certificate one that is believed."""
    options = {
        ldap.OPT_NETWORK_TIMEOUT: CONNECT_SECONDS,
        ldap.OPT_TIMEOUT: ANSWER_SECONDS,
        # What hangs ends where the directory's machine is gone.
        ldap.OPT_X_KEEPALIVE_IDLE: CONNECT_SECONDS,
        ldap.OPT_X_KEEPALIVE_INTERVAL: CONNECT_SECONDS,
        ldap.OPT_X_KEEPALIVE_PROBES: 3,
        ldap.OPT_REFERRALS: 0,
        ldap.OPT_X_TLS_REQUIRE_CERT: ldap.OPT_X_TLS_DEMAND,
    }
    if settings.LDAP_CA_FILE:
        options[ldap.OPT_X_TLS_CACERTFILE] = settings.LDAP_CA_FILE
    options[ldap.OPT_X_TLS_NEWCTX] = 0  # last: from it on the others hold
    return options


def _person(ldap_user: Any) -> Person:
    # No name passes for the DN of another group.
    names = {name for name in ldap_user.group_names or () if "=" not in name}
    groups = {*ldap_user.group_dns, *names}
    return Person(
        subject=_value(ldap_user.attrs, settings.LDAP_ID_ATTRIBUTE),
        name=_value(ldap_user.attrs, settings.LDAP_NAME_ATTRIBUTE),
        groups=frozenset(group.lower() for group in groups if isinstance(group, str)),
        first_name=_value(ldap_user.attrs, "givenName"),
        last_name=_value(ldap_user.attrs, "sn"),
        email=_value(ldap_user.attrs, "mail"),
    )


def _value(attributes: Any, name: str) -> str:
    """Return the first value of an attribute; what is bytes by its nature in hexadecimal."""
    value: str | bytes = next(iter(attributes.get(name, ())), "")
    if name.lower() == GUID:
        return (value.encode() if isinstance(value, str) else value).hex()
    return value if isinstance(value, str) else ""


def _refuse(*, exception: Exception, **_signal: Any) -> None:
    """Raise SignOnRefused for a directory that fails, which is no wrong password."""
    description = exception.args[0].get("desc", "") if exception.args else ""
    detail = f"the directory: {type(exception).__name__} {description}".strip()
    raise SignOnRefused(Reason.UNREACHABLE, detail) from None


ldap_error.connect(_refuse, sender=Directory)


def _asked(name: str, password: str) -> Any:
    """Return whom the first directory that answers knows, or None; fails as the last one does."""
    *others, last = settings.LDAP_URL.split()
    for url in others:
        try:
            return _found(url, name, password)
        except SignOnRefused as failure:
            logger.warning("%s did not answer, the next directory is asked: %s", url, failure)
    return _found(last, name, password)


def _found(url: str, name: str, password: str) -> Any:
    try:
        return _calls(url).within(
            calls.WHOLE_SECONDS,
            lambda: Directory(url).authenticate(None, username=name, password=password),
        )
    except TimeoutError as error:  # libldap bounds no TLS handshake
        raise SignOnRefused(Reason.UNREACHABLE, f"the directory: {error}") from None


class DirectoryBackend(SignedOnBackend):
    """Verifies a name and a password in the directory, unless the name is a local account's."""

    def authenticate(
        self,
        request: HttpRequest | None,
        username: str | None = None,
        password: str | None = None,
        **_credentials: Any,
    ) -> Any:
        """Return the account with the roles that its groups bring now, or None.

        Raises SignOnRefused where the directory fails, or the password is right and no account
        is due.
        """
        name = (username or "").strip()
        if not name or not password or "\0" in name + password or len(name) > MAX_NAME:
            return None
        local = User.objects.filter(username__iexact=name).exclude(
            external_identity__source=ExternalIdentity.Source.LDAP
        )
        if local.exists():
            return None
        try:
            with released():
                found = _asked(name, password)
        except ValueError as error:  # of an option that it does not take
            detail = f"the directory: {error} (LDAP_CA_FILE?)"
            raise SignOnRefused(Reason.UNREACHABLE, detail) from None
        if found is None:
            return None
        roles = {group.lower(): names for group, names in settings.LDAP_ROLES.items()}
        user = ExternalIdentity.objects.sign_on(
            ExternalIdentity.Source.LDAP, "", found.person, roles
        )
        logger.info("%r logged in with the password of the directory", user.get_username())
        user.directory_name = name  # type: ignore[attr-defined]
        return user
