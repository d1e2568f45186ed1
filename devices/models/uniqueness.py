"""What is said of a value that another row has, and of which field it is said."""

from typing import Any

from django.db import models


def unique_texts(model: Any) -> dict[str, str]:
    """Return the fields that are unique by themselves, by the texts of their constraints."""
    return {
        str(one.violation_error_message): one.fields[0]
        for one in model._meta.constraints
        if isinstance(one, models.UniqueConstraint) and len(one.fields) == 1
    }
