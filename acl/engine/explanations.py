"""Why a decision is what it is: the rules that took part, the one that decided, and near misses.

One structure, which the admin's page, `manage.py explain` and the tests render.
"""

from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any

from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext as _, gettext_lazy

from acl import patterns
from acl.engine import decisions
from acl.engine.decisions import Decision, Keys, Reason, Request
from acl.models.command_permission import CommandPermission, DestinationKind, Effect, RuleState
from devices.database.statements import answered
from devices.models import DeviceGroup
from devices.values.moments import written
from devices.values.text import isolated

MAX_NEAR_MISSES = 10  # of each sort: a page is read by people


class Standing(models.TextChoices):
    """What a rule had to do with a decision."""

    DECIDED = "decided", gettext_lazy("decided")
    AGREED = "agreed", gettext_lazy("matches and agrees")
    OVERRULED = "overruled", gettext_lazy("matches, but a rule that denies wins")
    NOT_ASKED = "not-asked", gettext_lazy("matches, but an end is not admitted at all")
    DISABLED = "disabled", gettext_lazy("would match, but is switched off")
    NOT_YET = "not-yet", gettext_lazy("would match, but is not valid yet")
    EXPIRED = "expired", gettext_lazy("would match, but has expired")
    OTHER_DIRECTION = "other-direction", gettext_lazy("is about the other direction")
    OTHER_SOURCE = "other-source", gettext_lazy("is about another sender")
    OTHER_DESTINATION = "other-destination", gettext_lazy("is about another receiver")
    OTHER_COMMAND = "other-command", gettext_lazy("is about another command")


OUT_OF_FORCE = {
    RuleState.OFF: Standing.DISABLED,
    RuleState.NOT_YET: Standing.NOT_YET,
    RuleState.EXPIRED: Standing.EXPIRED,
}
REMEDIES = {
    Standing.DISABLED: gettext_lazy("it were switched on"),
    Standing.NOT_YET: gettext_lazy("its “valid from” had passed"),
    Standing.EXPIRED: gettext_lazy("its “valid until” lay in the future"),
    Standing.OTHER_DIRECTION: gettext_lazy("sender and receiver changed places"),
    Standing.OTHER_SOURCE: gettext_lazy("the sender were, or belonged to, {source}"),
    Standing.OTHER_DESTINATION: gettext_lazy("the receiver were, or belonged to, {destination}"),
    Standing.OTHER_COMMAND: gettext_lazy("the command matched {commands}"),
}
OF_RECEIVERS = {  # that are no device and no group
    DestinationKind.ITSELF: gettext_lazy("the receiver were the sender itself"),
    DestinationKind.SAME_GROUP: gettext_lazy("the receiver shared a group with the sender"),
}
TOOK_PART = frozenset({Standing.DECIDED, Standing.AGREED, Standing.OVERRULED, Standing.NOT_ASKED})


@dataclass(frozen=True, slots=True)
class Part:
    """A rule and what it had to do with the decision."""

    rule: CommandPermission
    standing: Standing

    @property
    def remedy(self) -> str:
        """What would make a near miss match."""
        kind = DestinationKind(self.rule.destination_kind)
        if self.standing is Standing.OTHER_DESTINATION and kind in OF_RECEIVERS:
            return str(OF_RECEIVERS[kind])
        return str(REMEDIES.get(self.standing, "")).format(
            source=isolated(self.rule.source_text),
            destination=isolated(self.rule.destination_text),
            commands=isolated(self.rule.command_text),
        )

    def __str__(self) -> str:
        return f"#{self.rule.pk} {self.rule.notation} ({self.standing.label})"


@dataclass(frozen=True, slots=True)
class Explanation:
    """A decision with its reasons: `parts` begins with the rule that decided, if one did.

    `at` is the moment that was asked about, by the rules and devices as they are; None: now.
    """

    request: Request
    decision: Decision
    parts: tuple[Part, ...]
    source_groups: tuple[str, ...] = ()
    destination_groups: tuple[str, ...] = ()
    at: datetime | None = None

    @property
    def decider(self) -> CommandPermission | None:
        return next((p.rule for p in self.parts if p.standing is Standing.DECIDED), None)

    @property
    def out_of_force(self) -> CommandPermission | None:
        """The first rule that would allow it, but is switched off, not valid yet or expired."""
        idle = (p.rule for p in self.parts if p.standing in OUT_OF_FORCE.values())
        return next((rule for rule in idle if rule.effect == Effect.ALLOW), None)

    @property
    def took_part(self) -> list[Part]:
        """The rules that match."""
        return [part for part in self.parts if part.standing in TOOK_PART]

    @property
    def near_misses(self) -> list[Part]:
        """The rules that would match but for one thing."""
        return [part for part in self.parts if part.standing not in TOOK_PART]

    def lines(self) -> list[str]:
        """Return the explanation as text, the answer first."""
        answer = _("allowed") if self.decision.allowed else _("denied")
        found = [str(self.request), f"{answer}: {self.decision.text}"]
        if self.at is not None:
            found.append(_("at %s, by the rules and devices as they are now") % written(self.at))
        for heading, groups in (
            (_("groups of the sender"), self.source_groups),
            (_("groups of the receiver"), self.destination_groups),
        ):
            if groups:
                found.append(f"{heading}: {', '.join(map(isolated, groups))}")
        for heading, parts in (
            (_("rules that match"), self.took_part),
            (_("near misses"), self.near_misses),
        ):
            if parts:
                found.append(f"{heading}:")
                found.extend(f"  {part}" for part in parts)
        return found

    def as_document(self) -> dict[str, Any]:
        return {
            **self.request.answered(self.decision),
            "at": None if self.at is None else written(self.at),
            "source_groups": list(self.source_groups),
            "destination_groups": list(self.destination_groups),
            "rules": [
                {"rule": part.rule.pk, "text": part.rule.notation, "standing": part.standing}
                for part in self.parts
            ],
        }


def explain(
    source: str, destination: str, command: str, *, now: datetime | None = None
) -> Explanation:
    """Answer as `decide` does, with every rule that took part and those that nearly did.

    A constant number of statements.
    """
    request, at, now = Request(source, destination, command), now, now or timezone.now()
    decision = decisions.decide_many([request], now=now)[0]
    candidates = patterns.candidates(request.command)
    context = answered(decisions.find_context([request], [candidates]))
    ends = [context.entities.get(end) for end in request[:2]]
    held = [entity.groups if entity else set() for entity in ends]
    names = DeviceGroup.objects.filter(pk__in=held[0] | held[1])
    named = dict(names.values_list("pk", "name"))  # without those that have just been deleted
    source_groups, destination_groups = (
        tuple(sorted(named[pk] for pk in held_by & named.keys())) for held_by in held
    )
    parts: tuple[Part, ...] = ()
    if None not in ends and candidates:
        keys = context.keys(request, candidates)
        back = context.keys(
            Request(request.destination, request.source, request.command), candidates
        )
        parts = (*_matching(keys, decision, now), *_near(keys, back, now))
    return Explanation(request, decision, parts, source_groups, destination_groups, at)


def _at(keys: Keys) -> Q:
    return Q(
        source_key__in=keys.sources,
        destination_key__in=keys.destinations,
        command_key__in=keys.commands,
    )


def _matching(keys: Keys, decision: Decision, now: datetime) -> list[Part]:
    rules = CommandPermission.objects.filter(_at(keys)).named().order_by("pk")
    parts = [Part(rule, _standing(rule, decision, now)) for rule in rules]
    order = list(Standing)
    return sorted(parts, key=lambda part: (order.index(part.standing), part.rule.pk))


def _standing(rule: CommandPermission, decision: Decision, now: datetime) -> Standing:
    state = rule.state_at(now)
    if state is not RuleState.IN_FORCE:
        return OUT_OF_FORCE[state]
    if decision.reason in {Reason.DISABLED_SOURCE, Reason.DISABLED_DESTINATION}:
        return Standing.NOT_ASKED
    if rule.pk == decision.rule:
        return Standing.DECIDED
    return Standing.OVERRULED if rule.effect == Effect.ALLOW != decision.effect else Standing.AGREED


def _near(keys: Keys, back: Keys, now: datetime) -> list[Part]:
    command = Q(command_key__in=keys.commands)
    ends = Q(source_key__in=keys.sources, destination_key__in=keys.destinations)
    seen: set[int] = set()
    parts: list[Part] = []
    for standing, near, order in (
        (Standing.OTHER_DIRECTION, _at(back), "pk"),
        (Standing.OTHER_SOURCE, command & Q(destination_key__in=keys.destinations), "pk"),
        (Standing.OTHER_DESTINATION, command & Q(source_key__in=keys.sources), "pk"),
        (Standing.OTHER_COMMAND, ends, "source_key"),  # as the index has them: they may be many
    ):
        rules = (
            CommandPermission.objects.filter(near)
            .exclude(_at(keys))
            .in_force_at(now)
            .named()
            .order_by(order)[: MAX_NEAR_MISSES + len(seen)]
        )
        for rule in islice((r for r in rules if r.pk not in seen), MAX_NEAR_MISSES):
            seen.add(rule.pk)
            parts.append(Part(rule, standing))
    return parts
