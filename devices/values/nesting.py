"""How deep a JSON text nests, found without recursion and before anything decodes it."""

import re
from itertools import accumulate

ESCAPED = re.compile(rb"\\.", re.DOTALL)  # outside of strings it ends what a decoder reads
STEPS = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
NO_BRACKETS = bytes(set(range(256)) - STEPS.keys())


def is_deeper(text: bytes, most: int) -> bool:
    """Whether arrays and objects nest more than `most` levels deep.

    Decoders recurse, and not every interpreter stops them before the stack overflows.
    """
    if text.count(b"[") + text.count(b"{") <= most:
        return False
    outside_strings = b"".join(ESCAPED.sub(b"", text).split(b'"')[::2])
    brackets = outside_strings.translate(None, NO_BRACKETS)
    return max(accumulate(map(STEPS.__getitem__, brackets)), default=0) > most
