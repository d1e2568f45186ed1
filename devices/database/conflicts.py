"""Changes that a database refuses since others change the same at that moment."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from django.core.exceptions import ObjectDoesNotExist, ValidationError
from django.db import DatabaseError, IntegrityError
from django.utils.translation import gettext_lazy

CONFLICT = gettext_lazy("Somebody saved the same at this moment. Nothing was saved: look again.")
DEADLOCK = "40P01"  # SQLSTATE: two transactions waited for each other, and this one was ended
LOCK_TIMEOUT = "55P03"  # SQLSTATE


class RefusedNow(ValidationError):
    """What was right when its form was checked, or its page shown, and is not when it is saved."""


@contextmanager
def checking_again() -> Iterator[None]:
    """Raise what a model refuses when it saves as RefusedNow."""
    try:
        yield
    except ValidationError as error:
        raise RefusedNow(error) from None


class Gone(ObjectDoesNotExist):
    """A row that is being changed was there a moment ago: others have deleted it."""


def is_conflict(error: BaseException) -> bool:
    """Whether a change failed since others made theirs at that moment, or deleted what it needs.

    That some other row was looked for and not found is a fault of ours, and no conflict.
    """
    is_deadlock = getattr(error.__cause__, "sqlstate", None) == DEADLOCK
    # One that is of no narrower class is Django's own: the row that a save was to update is gone.
    is_gone = type(error) is DatabaseError and error.__cause__ is None
    return isinstance(error, IntegrityError | Gone) or is_deadlock or is_gone


def is_locked(error: BaseException) -> bool:
    """Whether a statement, which did nothing, waited in vain for what others have locked."""
    code = getattr(error.__cause__, "sqlite_errorcode", 0) & 0xFF  # without what narrows it
    is_timeout = getattr(error.__cause__, "sqlstate", None) == LOCK_TIMEOUT
    return code == sqlite3.SQLITE_BUSY or is_timeout


def conflict_text(error: BaseException) -> str | None:
    """Return what staff are told of a change that met another one; None for any other fault."""
    if isinstance(error, RefusedNow):
        return " ".join(error.messages)
    return str(CONFLICT) if is_conflict(error) else None
