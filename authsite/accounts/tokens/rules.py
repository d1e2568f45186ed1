"""Rules that narrow what a token may do: to devices in a group, or to so many rows an hour.

A permission of a token about which there are rules may be used on a row where one of them admits
it. A permission without rules is narrowed by nothing but the scopes of the token.
"""

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec
from django.core.exceptions import ValidationError
from django.db.models import Model, Q, QuerySet
from django.utils.translation import gettext as _, gettext_lazy

from acl.engine.group_tree import GroupTree
from devices.models import Device, DeviceGroup, Membership

MAX_RULES = 20  # of one token
MAX_PER_HOUR = 1_000_000
# Models whose rows are devices, belong to one, or are groups of them: how a query finds its device.
DEVICE_OF = {"device": "pk", "presharedkey": "device", "certificate": "device"}
GROUP = "devicegroup"
BELONGING = frozenset({*DEVICE_OF, GROUP, "event"})
ON_DEVICES = frozenset({"devices.try_credential", "rpc.end_session"})
# What a permission is used for, as the API's views name their operations.
ACTIONS = {
    "devices.change_device": {
        "disable": gettext_lazy("only disable"),
        "enable": gettext_lazy("only enable"),
    }
}
# On the command line: `devices.change_device:disable in lab, 20 an hour`.
NOTATION = re.compile(
    r"(?P<permission>\w+\.\w+)(?::(?P<only>\w+))?"
    r"(?:\s+in\s+(?P<group>.+?))?(?:,?\s+(?P<rate>\d{1,7})\s+an\s+hour)?"
)
NO_RULE = gettext_lazy(
    "A limit is an object with a permission, and a group, a rate an hour or both."
)

Row = TypeVar("Row", bound=Model)


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What admits a permission: for one action, on devices within a group, so many rows an hour."""

    permission: str = ""
    only: str | None = None  # one of the ACTIONS of the permission
    group: int | None = None
    per_hour: int | None = None

    @classmethod
    def read(cls, stored: Any) -> "Rule":
        """Return the rule that a JSON object says; raises ValidationError."""
        try:
            return msgspec.convert(stored, cls)
        except msgspec.ValidationError:
            raise ValidationError(NO_RULE) from None

    @classmethod
    def parse(cls, text: str) -> "Rule":
        """Return the rule that a line says, as NOTATION has it; raises ValidationError."""
        match = NOTATION.fullmatch(text.strip())
        if match is None:
            raise ValidationError(
                _(
                    "“%(text)s” is no limit such as "
                    "devices.change_device:disable in lab, 20 an hour"
                ),
                params={"text": text[:200]},
            )
        group = None
        if (name := match["group"]) is not None:
            group = DeviceGroup.objects.filter(name=name.strip('“”"')).first()
            if group is None:
                raise ValidationError(
                    _("There is no group named “%(name)s”."), params={"name": name}
                )
        return cls(
            match["permission"],
            only=match["only"],
            group=None if group is None else group.pk,
            per_hour=int(match["rate"]) if match["rate"] else None,
        )

    def stored(self) -> dict[str, Any]:
        fields: dict[str, Any] = msgspec.to_builtins(self)
        return fields

    def in_words(self, permission: str, group: DeviceGroup | None) -> str:
        """Return the rule in words; `permission` and `group` are what it names."""
        if self.only is not None:
            permission = f"{permission} ({ACTIONS[self.permission][self.only]})"
        said = {"what": permission, "group": group or _("a group that is gone"), "n": self.per_hour}
        if self.group is None and self.per_hour is None:
            return permission
        if self.group is None:
            return _("%(what)s, at most %(n)d an hour") % said
        if self.per_hour is None:
            return _("%(what)s, only in “%(group)s”") % said
        return _("%(what)s, only in “%(group)s”, at most %(n)d an hour") % said

    def check(self, scopes: Collection[str]) -> None:
        """Raise ValidationError where the rule can admit nothing that its token may do."""
        if self.permission not in scopes:
            raise ValidationError(
                _("A limit narrows “%(permission)s”, which is not among the scopes."),
                params={"permission": self.permission},
            )
        if self.only is not None and self.only not in ACTIONS.get(self.permission, ()):
            raise ValidationError(
                _("“%(permission)s” has no action “%(action)s”."),
                params={"permission": self.permission, "action": self.only},
            )
        if self.only is None and self.group is None and self.per_hour is None:
            raise ValidationError(_("A limit names a group, a rate an hour, or both."))
        if self.per_hour is not None and not 1 <= self.per_hour <= MAX_PER_HOUR:
            raise ValidationError(
                _("A rate is 1 to %(most)d rows an hour."), params={"most": MAX_PER_HOUR}
            )
        app, _dot, codename = self.permission.partition(".")
        is_of_devices = app == "devices" and codename.partition("_")[2] in BELONGING
        if self.group is not None and not (is_of_devices or self.permission in ON_DEVICES):
            raise ValidationError(
                _("“%(permission)s” is about nothing that belongs to a device: name no group."),
                params={"permission": self.permission},
            )


def narrowed(rows: "QuerySet[Row]", rules: Sequence[Rule]) -> "QuerySet[Row]":
    """Return those of the rows that one of the rules admits; a rate narrows nothing here."""
    groups = [rule.group for rule in rules if rule.group is not None]
    if len(groups) < len(rules) or not rules:
        return rows
    model = rows.model._meta.model_name
    inside = GroupTree().below(*groups)
    if model == GROUP:
        return rows.filter(pk__in=inside)
    if model not in DEVICE_OF:
        return rows.none()
    members = Membership.objects.filter(devicegroup__in=inside).order_by().values("device")
    return rows.filter(Q(**{f"{DEVICE_OF[model]}__in": members}))


def admitting(
    rules: Iterable[Rule], rows: Sequence[Model], operation: str | None
) -> dict[Rule, int] | None:
    """Return how many of the rows each rule admits; None where one is admitted by none.

    A row is counted for one rule: for one without a rate if such a rule admits it.
    """
    rules = [rule for rule in rules if rule.only in {None, operation}]
    counts: dict[Rule, int] = defaultdict(int)
    groups = {rule.group for rule in rules if rule.group is not None}
    groups_of: Mapping[int, set[int]] = {}
    inside: Mapping[int, set[int]] = {}
    if groups:
        groups_of, tree = _groups_of(rows), GroupTree()
        inside = {group: tree.below(group) for group in groups}
    for place, _row in enumerate(rows):
        fitting = [
            rule
            for rule in rules
            if rule.group is None or not inside[rule.group].isdisjoint(groups_of.get(place, ()))
        ]
        if not fitting:
            return None
        counts[min(fitting, key=lambda rule: rule.per_hour is not None)] += 1
    return counts


def _groups_of(rows: Sequence[Model]) -> dict[int, set[int]]:
    """Return the groups that each row's device is in, by the row's place; one statement."""
    devices: dict[int, int] = {}
    found: dict[int, set[int]] = defaultdict(set)
    for place, row in enumerate(rows):
        if isinstance(row, DeviceGroup):
            # One that is being made is where its parent is.
            found[place] |= {pk for pk in (row.pk, row.parent_id) if pk is not None}
        device = row.pk if isinstance(row, Device) else getattr(row, "device_id", None)
        if device is not None:
            devices[place] = device
    groups: dict[int, set[int]] = defaultdict(set)
    members = Membership.objects.filter(device__in=set(devices.values()))
    for device, group in members.order_by().values_list("device_id", "devicegroup_id"):
        groups[device].add(group)
    found.update({place: groups[device] for place, device in devices.items()})
    return found
