"""Trying a change of the rules before it is saved.

The change is made in a transaction that is rolled back, and the engine itself is asked before and
within it: what a trial says is what will be.
"""

import copy
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from acl.engine.decisions import Decision, Request
from acl.models import CommandPermission

BATCH = 1000
Answer = TypeVar("Answer")
Change = Callable[[], object]

# Where requests come from that a change is tried with, and how often each was asked of late: the
# saved expectations, and what apps that build on this one have seen. Who adds a source bounds it.
SOURCES: list[Callable[[], Mapping[Request, int]]] = []
# Where names of commands come from beside rules and requests.
COMMANDS: list[Callable[[], Iterable[str]]] = []


@dataclass(frozen=True, slots=True)
class ChangedDecision:
    """A request that is answered otherwise once the change is made, and how often it was made."""

    request: Request
    before: Decision
    after: Decision
    asked: int

    def __str__(self) -> str:
        was = _("allowed") if self.before.allowed else _("denied")
        becomes = _("allowed") if self.after.allowed else _("denied")
        text = (
            f"{self.request.source} → {self.request.destination}: {self.request.command}: "
            f"{was} → {becomes}"
        )
        if self.asked:
            times = ngettext("asked %(n)d time of late", "asked %(n)d times of late", self.asked)
            text += f" ({times % {'n': self.asked}})"
        return text


def known_requests() -> dict[Request, int]:
    """Return the requests of all sources, each with how often it was made of late."""
    known: dict[Request, int] = {}
    for source in SOURCES:
        for request, asked in source().items():
            known[request] = known.get(request, 0) + asked
    return known


def within_change(change: Change, ask: Callable[[], Answer]) -> Answer:
    """Make a change, ask, undo the change, and return what was answered."""
    with transaction.atomic():
        change()
        answer = ask()
        transaction.set_rollback(True)
    return answer


def saving(rule: CommandPermission) -> Change:
    """Return the change that saves `rule`; the object itself stays as it is."""
    return copy.copy(rule).save


def removing(rule: CommandPermission) -> Change:
    """Return the change that deletes `rule`; the object itself stays as it is."""
    return copy.copy(rule).delete


def changed_decisions(
    change: Change, requests: Mapping[Request, int], *, now: datetime | None = None
) -> list[ChangedDecision]:
    """Return those of `requests` whose answer `change` turns, in their order."""
    moment, listed = now or timezone.now(), list(requests)
    before = decide_all(listed, moment)
    after = within_change(change, lambda: decide_all(listed, moment))
    return turned(requests, before, after)


def turned(
    requests: Mapping[Request, int], before: Iterable[Decision], after: Iterable[Decision]
) -> list[ChangedDecision]:
    """Return the requests whose answers, before and after a change, differ."""
    return [
        ChangedDecision(request, was, becomes, asked)
        for (request, asked), was, becomes in zip(requests.items(), before, after, strict=True)
        if was.allowed != becomes.allowed
    ]


def decide_all(requests: Sequence[Request], now: datetime) -> list[Decision]:
    """Answer any number of requests, a bounded number at a time."""
    return [
        decision
        for start in range(0, len(requests), BATCH)
        for decision in CommandPermission.objects.decide_many(
            requests[start : start + BATCH], now=now
        )
    ]


def read_requests(lines: Iterable[str]) -> dict[Request, int]:
    """Return the requests of a file, as `known_requests` does those that nobody made.

    `SOURCE DESTINATION COMMAND` a line, `#` begins a remark.
    """
    requests: dict[Request, int] = {}
    for number, line in enumerate(lines, 1):
        try:
            words = shlex.split(line, comments=True)
        except ValueError as error:
            words = [str(error)]
        if not words:
            continue
        if len(words) != len(Request._fields):
            raise ValidationError(
                _("Line %(number)d is not SOURCE DESTINATION COMMAND: %(line)s")
                % {"number": number, "line": line.strip()[:100]}
            )
        requests[Request(*words)] = 0
    return requests
