"""Passwords where staff sign on with accounts of their company: for emergencies only, if so set."""

import logging
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.contrib.auth.signals import user_logged_in
from django.core.exceptions import PermissionDenied
from django.dispatch import receiver
from django.http import HttpRequest

from authsite.accounts import second_factor
from authsite.accounts.events import record_about
from authsite.accounts.login import client_address
from authsite.accounts.sign_on.sessions import is_signed_on
from devices.events.kinds import Kind

logger = logging.getLogger("authsite.sign_on")


def lack_second_factor() -> bool:
    """Whether break-glass accounts are named and none of them can be asked for a second factor."""
    return bool(settings.BREAK_GLASS_ACCOUNTS) and not second_factor.is_on()


class PasswordPolicy:
    """Refuses the passwords of all but break-glass accounts, where such are named.

    It finds no accounts again and knows no permissions: other backends do.
    """

    def authenticate(
        self,
        request: HttpRequest | None,
        username: str | None = None,
        password: str | None = None,
        **_credentials: Any,
    ) -> None:
        """Raise PermissionDenied, which asks no other backend, or leave it to them."""
        named = settings.BREAK_GLASS_ACCOUNTS  # the only ones with passwords here, if any are
        if password is not None and named and (username not in named or lack_second_factor()):
            User().set_password(password)  # as slow as for an account that has one
            if username in settings.BREAK_GLASS_ACCOUNTS:
                logger.error(
                    "The break-glass account %r was refused: STAFF_SECOND_FACTOR is off", username
                )
            raise PermissionDenied


@receiver(user_logged_in)
def record_break_glass(*, request: HttpRequest, user: User, **_signal: object) -> None:
    """Tell the operator that the password of an emergency account was given.

    Its second factor may still be missing: whoever knows the password is worth a look. Nobody gets
    in where the event cannot be written.
    """
    if not is_signed_on(request) and user.get_username() in settings.BREAK_GLASS_ACCOUNTS:
        address = client_address(request)
        logger.warning(
            "The break-glass account %r logged in with its password from %s",
            user.get_username(),
            address,
        )
        record_about(Kind.ACCOUNT_EMERGENCY_LOGIN, user, address=address)
