"""Attributes of a device: a JSON object that both databases store and give back."""

import json
from typing import Any, NoReturn

from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

from devices.values.json_text import TWICE, DuplicateNameError, named_once
from devices.values.text import MAX_QUOTED, unstorable_in, visible

MAX_DEPTH = 32  # levels of lists and objects
MAX_DIGITS = 300  # of a number; PostgreSQL gives a large one back as a whole number

NOT_AN_OBJECT = _("Attributes must be a JSON object.")
NO_CHARACTER = _("Attributes hold what is no character: NUL, or half of a surrogate pair.")
NO_NUMBER = _("Attributes hold a number that is not finite or too large.")
TOO_DEEP = _("Attributes nest more than %(most)d levels deep.")


def parse(text: str) -> dict[str, Any]:
    """Return the attributes in a JSON text; raises ValidationError as `check` does."""
    try:
        found = json.loads(
            text, parse_int=_whole_number, parse_constant=_no_number, object_pairs_hook=named_once
        )
    except DuplicateNameError as error:
        params = {"name": error.name[:MAX_QUOTED]}
        raise ValidationError(TWICE, code="twice", params=params) from None
    except ValueError:
        raise ValidationError(NOT_AN_OBJECT, code="invalid") from None
    except RecursionError:
        raise _too_deep() from None
    return check(found)


def check(attributes: object) -> dict[str, Any]:
    """Return attributes; raise ValidationError where they are no object, or cannot be stored."""
    if not isinstance(attributes, dict):
        raise ValidationError(NOT_AN_OBJECT, code="invalid")
    level: list[object] = [attributes]
    for _depth in range(MAX_DEPTH):
        below: list[object] = []
        for value in level:
            if isinstance(value, dict):
                below += [*value.keys(), *value.values()]
            elif isinstance(value, list):
                below += value
            else:
                _check_plain(value)
        if not below:
            break
        level = below
    else:
        raise _too_deep()
    return attributes


def is_same(one: object, other: object) -> bool:
    """Whether two values are the same JSON, where True is not 1; what is no JSON is no other."""
    try:
        return as_text(one, sort_keys=True) == as_text(other, sort_keys=True)
    except TypeError:
        return False


def as_text(value: object, *, sort_keys: bool = False) -> str:
    """Return JSON as text that can be sent on and read: half of a surrogate pair is escaped.

    Rows from before those were refused may hold one. So is what only controls the direction of
    text: it would turn round what staff read, and edit, of the object around it.
    """
    text = visible(json.dumps(value, ensure_ascii=False, sort_keys=sort_keys))
    return text if unstorable_in(text) is None else json.dumps(value, sort_keys=sort_keys)


def _check_plain(value: object) -> None:
    if isinstance(value, str) and unstorable_in(value) is not None:
        raise ValidationError(NO_CHARACTER, code="character")
    if isinstance(value, int | float) and not -(10**MAX_DIGITS) < value < 10**MAX_DIGITS:
        _no_number()  # NaN is neither larger nor smaller


def _whole_number(digits: str) -> int:
    return int(digits) if len(digits) <= MAX_DIGITS + 1 else _no_number()


def _no_number(_name: str = "") -> NoReturn:
    raise ValidationError(NO_NUMBER, code="number")


def _too_deep() -> ValidationError:
    return ValidationError(TOO_DEEP, code="depth", params={"most": MAX_DEPTH})
