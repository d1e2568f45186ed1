"""Changes that a database refuses since others change the same at that moment."""

from django.core.exceptions import ObjectDoesNotExist
from django.db import DatabaseError, IntegrityError
from django.utils.translation import gettext_lazy

CONFLICT = gettext_lazy("Somebody saved the same at this moment. Nothing was saved: look again.")
DEADLOCK = "40P01"  # SQLSTATE: two transactions waited for each other, and this one was ended


def is_conflict(error: BaseException) -> bool:
    """Whether a change failed since others made theirs at that moment, or deleted what it needs."""
    is_deadlock = getattr(error.__cause__, "sqlstate", None) == DEADLOCK
    # One that is of no narrower class is Django's own: the row that a save was to update is gone.
    is_gone = type(error) is DatabaseError and error.__cause__ is None
    return isinstance(error, IntegrityError | ObjectDoesNotExist) or is_deadlock or is_gone
