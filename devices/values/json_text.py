"""JSON texts, whoever reads them: how deep they nest, and that each name stands once."""

import re
from collections import Counter
from itertools import accumulate
from typing import Any, NoReturn

from django.utils.translation import gettext_lazy as _

from devices.values.text import storable

ESCAPED = re.compile(rb"\\.", re.DOTALL)  # outside of strings it ends what a decoder reads
STEPS = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
NO_BRACKETS = bytes(set(range(256)) - STEPS.keys())
MAX_DIGITS = 400  # of a whole number; no field takes more
TWICE = _("“%(name)s” stands twice in one object.")


class LongNumberError(ValueError):
    """A number has more digits than are converted, which Python bounds."""

    def __init__(self) -> None:
        super().__init__(_("A number has more than %(most)d digits.") % {"most": MAX_DIGITS})


class DuplicateNameError(ValueError):
    """A name stands twice in one object: one of the two values would be lost.

    `name` can be kept and shown: no half of a surrogate pair is in it.
    """

    def __init__(self, name: str) -> None:
        self.name = storable(name)
        super().__init__(self.name)


def named_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of its pairs, as json's `object_pairs_hook`; raises DuplicateNameError."""
    found = dict(pairs)
    if len(found) != len(pairs):
        counts = Counter(name for name, _value in pairs)
        raise DuplicateNameError(next(name for name, n in counts.items() if n > 1))
    return found


def whole_number(digits: str) -> int:
    """Return a whole number, as json's `parse_int`; raises LongNumberError."""
    if len(digits) > MAX_DIGITS:
        raise LongNumberError
    return int(digits)


def no_constant(name: str) -> NoReturn:
    """Refuse NaN and the infinities, as json's `parse_constant`."""
    raise ValueError(f"{name} is not JSON")


def is_deeper(text: bytes, most: int) -> bool:
    """Whether arrays and objects nest more than `most` levels deep.

    Decoders recurse, and not every interpreter stops them before the stack overflows.
    """
    if text.count(b"[") + text.count(b"{") <= most:
        return False
    outside_strings = b"".join(ESCAPED.sub(b"", text).split(b'"')[::2])
    brackets = outside_strings.translate(None, NO_BRACKETS)
    return max(accumulate(map(STEPS.__getitem__, brackets)), default=0) > most
