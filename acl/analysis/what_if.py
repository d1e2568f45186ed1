"""Trying a change of the rules before it is saved.

The change is made in a transaction that is rolled back, and the engine itself is asked before and
within it: what a trial says is what will be.
"""

import copy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _, ngettext

from acl import notation
from acl.analysis import assertions
from acl.analysis.assertions import Broken
from acl.engine.decisions import Decision, Request, decide_many
from acl.extension_points import REQUEST_SOURCES
from acl.models import CommandPermission
from devices.events.kinds import Kind
from devices.events.models import Event

Change = Callable[[], object]

MAX_LISTED = 100  # decisions in an answer to a program


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
        text = f"{self.request}: {was} → {becomes}"
        if self.asked:
            times = ngettext("asked %(n)d time of late", "asked %(n)d times of late", self.asked)
            text += f" ({times % {'n': self.asked}})"
        return text


@dataclass(frozen=True, slots=True)
class Consequences:
    """Which of the requests tried a change answers otherwise, and the assertions it breaks."""

    tried: int
    changed_decisions: list[ChangedDecision]
    broken: list[Broken]

    def as_json(self) -> dict[str, Any]:
        """Return them for programs: the first of many, and how many there are."""
        return {
            "tried": self.tried,
            "changed_decisions_total": len(self.changed_decisions),
            "changed_decisions": [
                {
                    **changed.request._asdict(),
                    "allowed_before": changed.before.allowed,
                    "allowed": changed.after.allowed,
                    "asked": changed.asked,
                }
                for changed in self.changed_decisions[:MAX_LISTED]
            ],
            "broken_assertions": [asdict(one) for one in self.broken],
        }


class DecisionsBefore:
    """The answers and the assertions before a change, now or at another moment, to compare."""

    def __init__(
        self, requests: Mapping[Request, int] | None = None, *, now: datetime | None = None
    ) -> None:
        self._now = now or timezone.now()
        self._requests = known_requests() if requests is None else requests
        self._decisions = decide_many(self._requests, now=self._now)
        self._assertions = assertions.saved()
        self._broken = {one.text for one in assertions.check(self._assertions, now=self._now)}

    def compare(self, *, records: bool = True) -> Consequences:
        """Return what has changed since, within the same transaction.

        Each assertion that the change breaks leaves an event, which is rolled back with the change;
        not where whoever makes the change around this one `records` it.
        """
        broken = [
            one
            for one in assertions.check(self._assertions, now=self._now)
            if one.text not in self._broken
        ]
        for one in broken if records else ():
            Event.objects.record(Kind.ASSERTION_BROKEN, asdict(one))
        after = decide_many(self._requests, now=self._now)
        answers = zip(self._requests.items(), self._decisions, after, strict=True)
        return Consequences(
            len(self._requests),
            [
                ChangedDecision(request, was, becomes, asked)
                for (request, asked), was, becomes in answers
                if was.allowed != becomes.allowed
            ],
            broken,
        )


def watch(*, only_assertions: bool = False) -> Callable[[], Consequences]:
    """Return what compares, as `DecisionsBefore` does: a `Watch` of changes that others make."""
    return DecisionsBefore({} if only_assertions else None).compare


def consequences_of(
    change: Change, requests: Mapping[Request, int] | None = None, *, now: datetime | None = None
) -> Consequences:
    """Make a change, compare, undo the change; without `requests`, for those that are known.

    `now` is the moment whose answers are compared, if it is another one.
    """
    with transaction.atomic():
        before = DecisionsBefore(requests, now=now)
        change()
        found = before.compare()
        transaction.set_rollback(True)
    return found


def known_requests() -> dict[Request, int]:
    """Return the requests of assertions and all sources, each with how often it was made of late.

    That an assertion is about a request does not say that it was made: 0 times.
    """
    known = dict.fromkeys(assertions.saved_requests(), 0)
    for source in REQUEST_SOURCES:
        for request, asked in source().items():
            known[request] = known.get(request, 0) + asked
    return known


def saving(rule: CommandPermission) -> Change:
    """Return the change that saves `rule`; the object itself stays as it is."""
    return copy.copy(rule).save


def removing(rule: CommandPermission) -> Change:
    """Return the change that deletes `rule`; the object itself stays as it is."""
    return copy.copy(rule).delete


def read_requests(lines: Iterable[str]) -> dict[Request, int]:
    """Return the requests of a file, as `known_requests` does those that nobody made.

    `SOURCE DESTINATION COMMAND` a line, `#` begins a remark.
    """
    requests: dict[Request, int] = {}
    for number, line in enumerate(lines, 1):
        try:
            words = notation.words_of(line)
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
