"""Sessions that began with a sign-on outside of the registry."""

import time
from typing import Any

from django.contrib import auth
from django.contrib.auth import BACKEND_SESSION_KEY
from django.contrib.auth.backends import BaseBackend, ModelBackend
from django.contrib.auth.models import User
from django.contrib.auth.signals import user_logged_in
from django.dispatch import receiver
from django.http import HttpRequest

from authsite.accounts import login, second_factor
from authsite.accounts.sign_on.models import ExternalIdentity
from devices.admin.base import reauthentication

BACKEND = f"{__name__}.SignedOnBackend"
DIRECTORY = "authsite.accounts.sign_on.directory.DirectoryBackend"
SOURCE = "sign_on_source"  # in a session, like what follows
ID_TOKEN = "sign_on_id_token"  # noqa: S105 (the name of a place)
SUBJECT = "sign_on_subject"
DIRECTORY_NAME = "sign_on_directory_name"

Source = ExternalIdentity.Source


class SignedOnBackend(BaseBackend):
    """Finds the account of a session again; permissions are ModelBackend's."""

    def get_user(self, user_id: Any) -> Any:
        return ModelBackend().get_user(user_id)


def begin(
    request: HttpRequest,
    user: User,
    source: Source,
    *,
    subject: str,
    proved_at: float | None = None,
    has_second_factor: bool = False,
) -> None:
    """Begin the session of an account that was signed on.

    `proved_at` is when the person showed who they are (Unix seconds), which may be long ago: a
    provider's own session answers for them meanwhile. None where nobody says.
    """
    auth.login(request, user, backend=BACKEND)
    if has_second_factor:
        login.renew_session(request)  # Django keeps the key where the account was logged in already
    session = request.session
    session[SOURCE], session[SUBJECT] = source.value, subject
    session[second_factor.BY_PROVIDER] = has_second_factor
    session.pop(ID_TOKEN, None)
    for moment in (reauthentication.CONFIRMED_AT, login.PASSWORD_AT):  # a login of ours sets them
        session.pop(moment, None)
        if proved_at is not None:
            session[moment] = min(proved_at, time.time())


@receiver(user_logged_in)
def remember_directory_name(*, request: HttpRequest, user: Any, **_signal: object) -> None:
    """Remember the name that the directory knows the person by; the account keeps its first one."""
    if (name := getattr(user, "directory_name", None)) is not None:
        request.session[DIRECTORY_NAME] = name


def password_name(request: HttpRequest) -> str:
    """Return the name that the password of the session's account goes with."""
    own: str = request.user.get_username()
    if request.session.get(BACKEND_SESSION_KEY) != DIRECTORY:
        return own
    return str(request.session.get(DIRECTORY_NAME, own))


def is_signed_on(request: HttpRequest) -> bool:
    """Whether the session began with something else than a password of this registry."""
    return request.session.get(BACKEND_SESSION_KEY) in {BACKEND, DIRECTORY}


def source(request: HttpRequest) -> Source | None:
    """Return where the session was signed on, or None for a password of this registry."""
    return source_in(request.session)


def source_in(session: Any) -> Source | None:
    """Return the same of what any session holds."""
    backend = session.get(BACKEND_SESSION_KEY)
    if backend == DIRECTORY:
        return Source.LDAP
    return Source(session[SOURCE]) if backend == BACKEND else None
