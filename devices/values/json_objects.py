"""JSON objects in which each name stands once, whoever reads them."""

from typing import Any

from django.utils.translation import gettext_lazy as _

TWICE = _("“%(name)s” stands twice in one object.")


class DuplicateNameError(ValueError):
    """A name stands twice in one object: one of the two values would be lost."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


def named_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of its pairs, as json's `object_pairs_hook`; raises DuplicateNameError."""
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _value in pairs]
        raise DuplicateNameError(next(name for name in names if names.count(name) > 1))
    return found
