"""Trying a change of the rules before it is saved.

The change is made in a transaction that is rolled back, and the engine itself is asked before and
within it: what a trial says is what will be.
"""

import copy
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any, NamedTuple

from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _, ngettext

from acl import notation
from acl.analysis import assertions
from acl.analysis.assertions import MAX_MOMENTS, Broken, from_then_on
from acl.engine.decisions import Decision, Request, decide_many
from acl.extension_points import REQUEST_SOURCES
from acl.models import CommandPermission
from acl.models.command_permission import IDENTITY
from devices.events.kinds import Kind
from devices.events.models import Event
from devices.values.moments import written

Change = Callable[[], object]

MAX_LISTED = 100  # decisions in an answer to a program
DECIDING = (*IDENTITY, "enabled", "valid_from", "valid_until")  # all of a rule but its note


@dataclass(frozen=True, slots=True)
class ChangedDecision:
    """A request that is answered otherwise once the change is made, and how often it was made.

    `begins` is when, if a rule that was changed begins later; None: at once.
    """

    request: Request
    before: Decision
    after: Decision
    asked: int
    begins: datetime | None = None

    def __str__(self) -> str:
        was = _("allowed") if self.before.allowed else _("denied")
        becomes = _("allowed") if self.after.allowed else _("denied")
        text = f"{self.request}: {was} → {becomes}"
        if self.begins is not None:
            text += f", {from_then_on(self.begins)}"
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
                    "begins": None if changed.begins is None else written(changed.begins),
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
        self._started = timezone.now()
        self._now = now or self._started
        self._requests = known_requests() if requests is None else requests
        self._assertions = assertions.saved()
        self._before = self._answers(self._now)
        self._later: dict[datetime, set[str]] = {}  # what is broken from then on
        broken = self._before.broken
        for moment, concerned in assertions.moments(self._assertions, now=self._now).items():
            found = {one.text for one in assertions.check(concerned, now=moment)}
            self._later[moment] = broken = broken.difference(concerned) | found

    def compare(self, *, records: bool = True) -> Consequences:
        """Return what has changed since, within the same transaction.

        Of rules that were changed and begin later, also what changes then, against what would hold
        then without them. Of assertions also those that hold now, and no longer once another rule
        begins or one ends, but would have held then without the change.

        Each assertion that the change breaks leaves an event, which is rolled back with the change;
        not where whoever makes the change around this one `records` it.
        """
        changed = self._changed(self._before, self._now)
        broken = self._newly_broken(self._before.broken, self._assertions, self._now)
        for begins, without in self._without_later_rules().items():
            seen = {one.request for one in changed}
            later = self._changed(without, begins)
            changed += [replace(one, begins=begins) for one in later if one.request not in seen]
            known = {one.text for one in broken}
            broken += [
                assertions.later(one, begins)
                for one in self._newly_broken(without.broken, self._assertions, begins)
                if one.text not in known
            ]
        broken += self._broken_later({one.text for one in broken})
        for one in broken if records else ():
            Event.objects.record(Kind.ASSERTION_BROKEN, asdict(one))
        return Consequences(len(self._requests), changed, broken)

    def _answers(self, now: datetime) -> "_Answers":
        broken = assertions.check(self._assertions, now=now)
        return _Answers(decide_many(self._requests, now=now), {one.text for one in broken})

    def _changed(self, before: "_Answers", now: datetime) -> list[ChangedDecision]:
        after = decide_many(self._requests, now=now)
        answers = zip(self._requests.items(), before.decisions, after, strict=True)
        return [
            ChangedDecision(request, was, becomes, asked)
            for (request, asked), was, becomes in answers
            if was.allowed != becomes.allowed
        ]

    @staticmethod
    def _newly_broken(
        before: Collection[str], concerned: Iterable[str], now: datetime
    ) -> list[Broken]:
        found = assertions.check(concerned, now=now)
        return [one for one in found if one.text not in before]

    def _broken_later(self, known: set[str]) -> list[Broken]:
        """Return the other assertions that the change breaks later, when a rule begins or ends.

        Between two moments when one did before the change, the answers then were the same.
        """
        found: list[Broken] = []
        before, asked = self._before.broken, sorted(self._later)
        for moment, concerned in assertions.moments(self._assertions, now=self._now).items():
            while asked and asked[0] <= moment:
                before = self._later[asked.pop(0)]
            if not asked and len(self._later) == MAX_MOMENTS and moment not in self._later:
                break  # what would have held then was not asked
            newly = self._newly_broken({*before, *known}, concerned, moment)
            known.update(one.text for one in newly)
            found += [assertions.later(one, moment) for one in newly]
        return found

    def _without_later_rules(self) -> "dict[datetime, _Answers]":
        """Return what would hold without the changed rules that begin later, when they begin."""
        begins = self._begins() if self._requests or self._assertions else {}
        if not begins:
            return {}
        moments = list(dict.fromkeys(begins.values()))[:MAX_MOMENTS]
        with transaction.atomic():
            # Past the history: it is rolled back, as no more than a question.
            CommandPermission.objects.filter(pk__in=begins).update(enabled=False)
            found = {moment: self._answers(moment) for moment in moments}
            transaction.set_rollback(True)
        return found

    def _begins(self) -> dict[int, datetime]:
        """Return when the changed rules begin that begin later, the earliest first.

        Those of which only the note was changed are none of them: they decide what they did.
        """
        rows = CommandPermission.objects.enabled().filter(
            valid_from__gt=self._now, updated__gte=self._started
        )
        found = {row["id"]: row for row in rows.order_by("valid_from").values("id", *DECIDING)}
        if not found:
            return {}
        earlier = CommandPermission.history.filter(
            id__in=rows.values("pk"), history_date__lt=self._started
        )
        before = {row["id"]: row for row in earlier.order_by("pk").values("id", *DECIDING)}
        return {pk: row["valid_from"] for pk, row in found.items() if row != before.get(pk)}


class _Answers(NamedTuple):
    """What holds at a moment: decisions in the order of the requests, assertions that do not."""

    decisions: list[Decision]
    broken: set[str]


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
    return dict.fromkeys(assertions.saved_requests(), 0) | made_requests()


def made_requests() -> dict[Request, int]:
    """Return the requests of all sources, each with how often it was made of late."""
    made: Counter[Request] = Counter()
    for source in REQUEST_SOURCES:
        made.update(source())
    return made


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
