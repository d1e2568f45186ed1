"""Command patterns: what they look like, and the few that can match one command.

A pattern is a full command name (`/v1/Config.Get`), or ends in `*` right after a boundary, `/` or
`.` (`/v1/*`, `/v1/Config.*`), or is `*` alone. `*` stands for any text, none included.
"""

import re
from collections.abc import Sequence
from functools import lru_cache

from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

from devices.values import addresses

MAX_LENGTH = addresses.MAX_LENGTH
MAX_BOUNDARIES = 32  # a command with more is malformed: what it can cost is bounded
BOUNDARY = re.compile(r"[/.]")


def validate_pattern(pattern: str) -> None:
    """Raise ValidationError, with how to mend it, unless `pattern` can match a command."""
    message = _complaint(pattern)
    if message:
        raise ValidationError(message, code="pattern")


def _complaint(pattern: str) -> str:
    if not pattern:
        return _("A pattern is needed: a command such as /v1/Config.Get, or * for every command.")
    if pattern.startswith("set:"):
        return _("Choose the command set instead of writing its name here, or write its commands.")
    if len(pattern) > MAX_LENGTH:
        return _("A pattern has at most %(longest)d characters; this one has %(length)d.") % {
            "longest": MAX_LENGTH,
            "length": len(pattern),
        }
    if any(char.isspace() or not char.isprintable() for char in pattern):
        return _("A pattern has no spaces, line breaks or control characters; remove them.")
    if len(BOUNDARY.findall(pattern)) > MAX_BOUNDARIES:
        return _("A pattern has at most %(most)d slashes and dots.") % {"most": MAX_BOUNDARIES}
    literal = pattern.removesuffix("*")
    if "*" in literal:
        return _(
            "“*” may stand only at the end. Write %(mended)s, or one pattern for each command."
        ) % {"mended": _prefix_pattern(literal)}
    if literal and literal != pattern and literal[-1] not in "/.":
        return _("“*” must follow “/” or “.”, or stand alone. Did you mean %(mended)s?") % {
            "mended": _prefix_pattern(literal)
        }
    return ""


def _prefix_pattern(text: str) -> str:
    """Return the longest pattern with `*` that covers what `text` begins with."""
    before = text.partition("*")[0]
    return before[: max(before.rfind("/"), before.rfind(".")) + 1] + "*"


def candidates(command: str) -> tuple[str, ...]:
    """Return every pattern that can match `command`, widest first: `*`, `/*`, …, itself.

    None at all mean that the command is malformed: empty, too long, with too many boundaries,
    or with characters that no database stores. Nothing can match it.
    """
    return _candidates(command) if command and addresses.is_storable(command) else ()


@lru_cache(maxsize=1024)  # a fleet uses few commands, and none of them is long
def _candidates(command: str) -> tuple[str, ...]:
    boundaries = [match.end() for match in BOUNDARY.finditer(command)]
    if len(boundaries) > MAX_BOUNDARIES:
        return ()
    found = ("*", *(f"{command[:end]}*" for end in boundaries))
    # A command is no pattern: its star is a star.
    return found if "*" in command else (*found, command)


def wider(pattern: str) -> Sequence[str]:
    """Return every pattern that matches all that `pattern` matches, itself last."""
    if not pattern.endswith("*"):
        return candidates(pattern)
    return [found for found in candidates(pattern[:-1]) if found.endswith("*")] or ["*"]


def covers(wide: str, narrow: str) -> bool:
    """Whether every command that `narrow` matches is matched by `wide` too."""
    return wide == narrow or (wide.endswith("*") and narrow.startswith(wide[:-1]))


def overlap(one: str, other: str) -> bool:
    """Whether some command is matched by both: of two such patterns, one covers the other."""
    return covers(one, other) or covers(other, one)
