"""How deep a JSON text nests, found without recursion and before anything decodes it."""

import re

STRINGS = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)  # the last one may not end
NO_BRACKETS = re.compile(rb"[^][{}]++")
OPENING = b"[{"


def is_deeper(text: bytes, most: int) -> bool:
    """Whether arrays and objects nest more than `most` levels deep.

    Decoders recurse, and not each interpreter stops them before the stack is used up.
    """
    if text.count(b"[") + text.count(b"{") <= most:
        return False
    depth = 0
    for bracket in NO_BRACKETS.sub(b"", STRINGS.sub(b"", text)):
        depth += 1 if bracket in OPENING else -1
        if depth > most:
            return True
    return False
