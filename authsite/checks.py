"""System checks of a deployment: settings that work, but protect staff's accounts too little."""

import os
import sqlite3
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage, Tags, register
from django.db import connection

from authsite.accounts import second_factor
from authsite.accounts.sign_on.break_glass import lack_second_factor
from authsite.settings import env

MIN_SQLITE = (3, 35)
ALIKE = 0.9  # of two names, from 0 to 1


@register(Tags.security)
def variables_have_their_names(**_kwargs: Any) -> list[CheckMessage]:
    """Warn of a variable that is not read and whose name is nearly that of one which is."""
    unread = {name.removesuffix("_FILE") for name in os.environ} - env.names
    alike = {name: get_close_matches(name, env.names, 1, ALIKE) for name in sorted(unread)}
    return [
        checks.Warning(
            f"{name} is set, and no setting has this name; {found[0]} has nearly the same.",
            hint="Correct the name, or take the variable away.",
            id="authsite.W003",
        )
        for name, found in alike.items()
        if found
    ]


@register(Tags.security)
def the_database_has_a_folder(**_kwargs: Any) -> list[CheckMessage]:
    """Report a file of SQLite that could not be opened: the server would start, and answer none."""
    place = settings.DATABASES["default"]
    path = Path(place["NAME"])
    is_file = place["ENGINE"].endswith("sqlite3") and place["NAME"] != ":memory:"
    is_closed = is_file and (path.is_dir() or not os.access(path.parent, os.W_OK))
    message = checks.Error(
        f"DATABASE_URL must name a file in a folder that exists and may be written; it is {path}.",
        id="authsite.E002",
    )
    return [message] if is_closed else []


@register(Tags.security)
def sqlite_is_new_enough(**_kwargs: Any) -> list[CheckMessage]:
    """Report a library that does not know `AS MATERIALIZED`: devices would connect, not command."""
    is_old = connection.vendor == "sqlite" and sqlite3.sqlite_version_info < MIN_SQLITE
    message = checks.Error(
        f"SQLite {sqlite3.sqlite_version} is too old: it must be 3.35 or newer.",
        hint="Use a newer Python, or PostgreSQL.",
        id="authsite.E003",
    )
    return [message] if is_old else []


@register(Tags.security, deploy=True)
def staff_give_a_second_factor(**_kwargs: Any) -> list[CheckMessage]:
    """Warn where staff log in with a password alone."""
    message = checks.Info(
        "STAFF_SECOND_FACTOR is off: a stolen password of staff is enough to log in.",
        hint="Set it to required, or to optional: docs/accounts.md.",
        id="authsite.I001",
    )
    return [message] if not second_factor.is_on() else []


@register(Tags.security, deploy=True)
def hosts_are_named(**_kwargs: Any) -> list[CheckMessage]:
    """Warn of staff's pages that answer under any name: addresses and passkeys follow it."""
    message = checks.Warning(
        "ALLOWED_HOSTS holds *: staff's pages answer under every name that a stranger chooses, "
        "and lead on to it.",
        hint="List the host names that staff's browsers use.",
        id="authsite.W002",
    )
    return [message] if "*" in settings.ALLOWED_HOSTS else []


@register(Tags.security, deploy=True)
def tls_is_ended_somewhere(**_kwargs: Any) -> list[CheckMessage]:
    """Warn of a redirect to https where no proxy ends TLS."""
    message = checks.Info(
        "HTTPS is on and TRUSTED_PROXIES is empty: where a proxy ends TLS, browsers are "
        "redirected for ever, and all logins seem to come from the proxy.",
        hint="Name the proxy in TRUSTED_PROXIES: docs/operations.md.",
        id="authsite.I002",
    )
    return [message] if settings.HTTPS and not settings.TRUSTED_PROXIES else []


@register(Tags.security)
def break_glass_accounts_have_a_second_factor(**_kwargs: Any) -> list[CheckMessage]:
    """Report emergency accounts that a password alone opens: an error, in development a warning."""
    kind = checks.Warning if settings.DEBUG else checks.Error
    message = kind(
        "BREAK_GLASS_ACCOUNTS names accounts and STAFF_SECOND_FACTOR is off: their passwords "
        "are refused.",
        hint="Set STAFF_SECOND_FACTOR to optional or required: docs/sign-on.md.",
        id="authsite.E001",
    )
    return [message] if lack_second_factor() else []


@register(Tags.security)
def sign_on_brings_roles(**_kwargs: Any) -> list[CheckMessage]:
    """Warn where staff sign on and no group brings a role, so that nobody gets in."""
    needed = {
        "OIDC_ROLES": settings.OIDC_ISSUER,
        "LDAP_ROLES": settings.LDAP_URL,
        "PROXY_ROLES": settings.PROXY_USER_HEADER,
        "PROXY_GROUPS_HEADER": settings.PROXY_USER_HEADER,
    }
    return [
        checks.Warning(
            f"{name} is empty: whoever signs on gets no role, and without a role nobody gets in.",
            hint="Say which groups bring which roles: docs/sign-on.md.",
            id="authsite.W001",
        )
        for name, is_on in needed.items()
        if is_on and not getattr(settings, name)
    ]
