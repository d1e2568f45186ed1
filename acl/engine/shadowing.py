"""Which denials cover another rule, so that it decides nothing: the engine's look-up, for rules."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from acl import patterns
from acl.engine import decisions
from acl.engine.decisions import Keys
from acl.engine.group_tree import GroupTree
from acl.models.command_permission import EVERYONE, ITSELF, SAME_GROUP, CommandPermission, Effect
from acl.models.command_set import CommandSetPattern
from devices.database.statements import answered
from devices.models import Device


class ShadowFinder:
    """Finds denials that are wider than given rules. Made for one report."""

    def __init__(self, tree: GroupTree, now: datetime) -> None:
        self._tree = tree
        self._now = now

    def denials(
        self, rules: Sequence[CommandPermission], within: str | Sequence[str] = "*"
    ) -> dict[int, CommandPermission]:
        """Return a denial for each allowance that denials cover as a whole, by its position.

        `within` narrows what a rule is taken to be about to that pattern, or each to its own. A
        denial counts where it covers a pattern alone, with the rule's whole window; what several
        denials cover only together is not found. Four statements.
        """
        scopes = [within] * len(rules) if isinstance(within, str) else within
        groups = self._groups_of(rules)
        narrowed: list[tuple[int, str]] = []
        for position, (rule, scope) in enumerate(zip(rules, scopes, strict=True)):
            overlaps = [p for p in patterns_of(rule) if patterns.overlap(p, scope)]
            narrowed += [(position, p if patterns.covers(scope, p) else scope) for p in overlaps]
        sets = sets_by_pattern({wide for _position, p in narrowed for wide in patterns.wider(p)})
        candidates = self._denying(
            [self._wider(rules[position], pattern, groups, sets) for position, pattern in narrowed]
        )
        covered: dict[int, list[CommandPermission | None]] = defaultdict(list)
        for (position, _pattern), found in zip(narrowed, candidates, strict=True):
            lasting = (denial for denial in found if outlasts(denial, rules[position]))
            covered[position].append(next(lasting, None))
        return {
            position: first
            for position, (first, *others) in covered.items()
            if first is not None and None not in others
        }

    def _denying(self, keys: Sequence[Keys]) -> list[list[CommandPermission]]:
        found = [
            [rule.pk for rule in rules if rule.effect == Effect.DENY]
            for rules in answered(decisions.find_rules(keys, now=self._now)).matching
        ]
        rules = CommandPermission.objects.named().in_bulk({pk for pks in found for pk in pks})
        return [[rules[pk] for pk in sorted(rules.keys() & pks)] for pks in found]

    def _groups_of(self, rules: Iterable[CommandPermission]) -> dict[int, set[int]]:
        devices = {
            pk for rule in rules for pk in (rule.source_device_id, rule.destination_device_id) if pk
        }
        groups: dict[int, set[int]] = defaultdict(set)
        for device, group in Device.groups.through.objects.filter(device__in=devices).values_list(
            "device_id", "devicegroup_id"
        ):
            groups[device] |= self._tree.above(group)
        return groups

    def _wider(
        self,
        rule: CommandPermission,
        pattern: str,
        groups: dict[int, set[int]],
        sets: Mapping[str, list[int]],
    ) -> Keys:
        sources = self._wider_end(rule.source_device_id, rule.source_group_id, groups)
        destinations = self._wider_end(
            rule.destination_device_id, rule.destination_group_id, groups
        )
        if rule.destination_kind == "itself":
            destinations = [ITSELF, *sources]
        elif rule.destination_kind == "same-group":
            destinations = [SAME_GROUP, EVERYONE]
        elif rule.source_device_id and rule.source_device_id == rule.destination_device_id:
            destinations.append(ITSELF)
        wider = patterns.wider(pattern)
        with_wider = {decisions.set_key(pk) for one in wider for pk in sets.get(one, ())}
        return Keys(sources, destinations, [*wider, *sorted(with_wider)])

    def _wider_end(
        self, device: int | None, group: int | None, groups: dict[int, set[int]]
    ) -> list[int]:
        if device is not None:
            return [device, *(-pk for pk in groups[device]), EVERYONE]
        if group is not None:
            return [*(-pk for pk in self._tree.above(group)), EVERYONE]
        return [EVERYONE]


def patterns_of(rule: CommandPermission) -> list[str]:
    if rule.command_set is None:
        return [rule.pattern]
    return [row.pattern for row in rule.command_set.patterns.all()]


def sets_by_pattern(wanted: Iterable[str]) -> dict[str, list[int]]:
    sets: dict[str, list[int]] = defaultdict(list)
    rows = CommandSetPattern.objects.filter(pattern__in=sorted(wanted)).order_by()
    for pattern, pk in rows.values_list("pattern", "command_set_id"):
        sets[pattern].append(pk)
    return sets


def outlasts(long: CommandPermission, short: CommandPermission) -> bool:
    """Whether `long` is valid whenever `short` is."""
    begins = long.valid_from is None or (
        short.valid_from is not None and long.valid_from <= short.valid_from
    )
    ends = long.valid_until is None or (
        short.valid_until is not None and long.valid_until >= short.valid_until
    )
    return begins and ends
