"""Whoever changes accounts leaves a superuser: in the admin, by a command, by a sign-on."""

from collections.abc import Collection

from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

from devices.database.turns import take_turn


def take_superusers_turn() -> None:
    """Wait for whoever changes superusers, until the transaction ends; before a row is locked.

    Who has the turn, and then locks accounts, and who asks for it with one of them locked would
    wait for each other.
    """
    take_turn("superusers")


def check_superuser_remains(leaving: Collection[int]) -> None:
    """Raise ValidationError where no active superuser would be left without these accounts (keys).

    Whoever asks in a transaction has a turn until it ends: of two superusers, one is the last.
    """
    take_superusers_turn()
    superusers = User.objects.filter(is_superuser=True, is_active=True)
    # Whoever was left one at a sign-on that brought no role may not log in.
    remaining = superusers.filter(is_staff=True).exclude(pk__in=leaving)
    if superusers.filter(pk__in=leaving).exists() and not remaining.exists():
        raise ValidationError(_("No other active superuser would be left."), code="last")
