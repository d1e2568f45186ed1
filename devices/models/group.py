"""Groups of devices, which lie within each other."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from django.core.exceptions import ValidationError
from django.db import connection, models, transaction
from django.db.models import F, Func, Q, QuerySet
from django.db.models.expressions import RawSQL
from django.utils.translation import gettext_lazy as _

from devices.database.conflicts import checking_again
from devices.database.turns import take_turn
from devices.history import Recorded, Records, bulk_create, bulk_delete, bulk_update

MAX_DEPTH = 8  # levels of groups, the top one included

# A group and those that lie in it.
BELOW = """
WITH RECURSIVE below (id) AS (
    SELECT id FROM devices_devicegroup WHERE id = %s
    UNION
    SELECT g.id FROM devices_devicegroup g JOIN below ON g.parent_id = below.id
)
"""
GROUPS_BELOW = f"{BELOW} SELECT id FROM below"  # noqa: S608 (nothing in it is a user's)
MEMBERSHIPS_BELOW = f"""{BELOW}
SELECT m.id FROM devices_device_groups m JOIN below ON m.devicegroup_id = below.id LIMIT %s
"""  # noqa: S608 (nothing in it is a user's)

# Level by level, so that a limit leaves out the lowest. No circle is below the top.
TREE = """
WITH RECURSIVE tree (id, level) AS (
    SELECT id, 1 FROM devices_devicegroup WHERE {top}
    UNION ALL
    SELECT g.id, tree.level + 1 FROM devices_devicegroup g JOIN tree ON g.parent_id = tree.id
     WHERE tree.level < %s
), drawn AS (SELECT id, level FROM tree LIMIT %s)
SELECT g.id, g.name, g.parent_id, drawn.level,
       (SELECT COUNT(*) FROM devices_device_groups m WHERE m.devicegroup_id = g.id) AS members,
       (SELECT COUNT(*) FROM devices_devicegroup b WHERE b.parent_id = g.id) AS groups_in_it
  FROM drawn JOIN devices_devicegroup g ON g.id = drawn.id
 ORDER BY drawn.level, g.name
"""


class DeviceGroup(Recorded):
    """A named set of devices. Groups nest: a rule on a group covers the groups below it."""

    name = models.CharField(_("name"), max_length=100)
    parent = models.ForeignKey(
        "self",
        verbose_name=_("within"),
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="children",
        help_text=_("The group that this one lies in, as a building lies in a site."),
    )
    description = models.TextField(_("description"), blank=True)

    history = Records()
    changes_in_turns = True
    bulk_fields = ("parent", "description")
    restored_fields = ("name", *bulk_fields)

    class Meta:
        ordering = ["name"]
        verbose_name = _("device group")
        verbose_name_plural = _("device groups")
        constraints = [
            models.UniqueConstraint(
                fields=["name"],
                name="devices_group_name_unique",
                violation_error_message=_("A group of this name exists."),
            ),
            models.CheckConstraint(condition=~Q(name=""), name="devices_group_name_present"),
            models.CheckConstraint(
                condition=Q(parent=None) | ~Q(parent=F("pk")),
                name="devices_group_not_within_itself",
                violation_error_message=_("A group cannot lie within itself."),
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Save; a change of parent is checked again under a lock, so that no two moves cross."""
        if self.pk is None and self.parent_id is None:
            super().save(*args, **kwargs)
            return
        with transaction.atomic():
            take_turn(self._meta.db_table)  # two moves could each be right alone
            if self.parent_id is not None:
                parent = DeviceGroup.objects.filter(pk=self.parent_id).first()
                with checking_again():
                    if parent is None:
                        raise ValidationError({"parent": _("The group does not exist any more.")})
                    self._check_parent(parent)
            super().save(*args, **kwargs)

    @classmethod
    def save_tree(cls, groups: Sequence["DeviceGroup"]) -> None:
        """Save groups, new and changed, any of which may lie in any other.

        The tree is checked as it is with all of them in their places: one after the other, a group
        could be too deep until another has moved. Raises ValidationError, and saves none, where
        one of them, or what lies in it, is misplaced.
        """
        if not groups:
            return
        with transaction.atomic():
            take_turn(cls._meta.db_table)
            placed = {group.name: group.parent.name if group.parent else None for group in groups}
            parents = dict(cls.objects.order_by().values_list("name", "parent__name"))
            for path, error in misplaced(parents | placed):
                if not placed.keys().isdisjoint(path):
                    raise error
            changed = [group for group in groups if group.pk is not None]
            created: dict[int, list[DeviceGroup]] = defaultdict(list)
            for group in groups:
                if group.pk is None:
                    created[_new_above(group)].append(group)
            for level in sorted(created):
                bulk_create(created[level])
            bulk_update(changed, ["parent", "description"])

    @classmethod
    def misfits(cls, rows: Sequence["DeviceGroup"]) -> dict["DeviceGroup", ValidationError]:
        """Return the groups, and why, that must stay for the others to be moved; few, where any.

        The tree is looked at as it would be with all of them in their places. In a transaction: no
        other group moves until it ends.
        """
        if not rows:
            return {}
        take_turn(cls._meta.db_table)
        stored = {pk: found for pk, *found in cls.objects.values_list("pk", "name", "parent_id")}
        moved = {
            stored[row.pk][0]: row
            for row in rows
            if row.pk in stored and row.parent_id != stored[row.pk][1]
        }
        left: dict[DeviceGroup, ValidationError] = {}
        while True:
            places = dict(stored.values()) | {name: row.parent_id for name, row in moved.items()}
            parents = {name: stored[pk][0] if pk in stored else None for name, pk in places.items()}
            wrong: dict[str, ValidationError] = {}
            # Ways with few moved groups first: whoever stays may mend the longer ways through it.
            ways = misplaced(parents)
            for path, error in sorted(ways, key=lambda way: len(moved.keys() & set(way[0]))):
                blamed = next((name for name in path if name in moved), None)
                if blamed and wrong.keys().isdisjoint(path):
                    wrong[blamed] = error
            if not wrong:
                return left
            left |= {moved.pop(name): error for name, error in wrong.items()}

    @classmethod
    def delete_in_order(cls, rows: Sequence["DeviceGroup"]) -> None:
        """Delete groups with their history, those that lie within others first."""
        left = {row.pk: row for row in rows}
        while left:
            above = {row.parent_id for row in left.values()}
            leaves = [row for pk, row in left.items() if pk not in above]
            bulk_delete(leaves)
            left = {pk: row for pk, row in left.items() if pk in above}

    def clean(self) -> None:
        """Refuse a place in the tree that would make a cycle or be too deep."""
        super().clean()
        if self.parent is not None:
            self._check_parent(self.parent)

    def _check_parent(self, parent: "DeviceGroup") -> None:
        above = [parent.pk, *parent.ancestor_ids()]
        if self.pk is not None and self.pk in above:
            raise _cycle()
        if len(above) + self._height() > MAX_DEPTH:
            raise _too_deep()

    def ancestor_ids(self) -> list[int]:
        """Return the primary keys of the groups that this one lies in, nearest first."""
        found: list[int] = []
        above, parents = self.parent_id, DeviceGroup.objects.order_by().values_list("parent_id")
        while above is not None and above not in found:
            found.append(above)
            (above,) = parents.filter(pk=above).first() or (None,)  # deleted at this moment
        return found

    @classmethod
    def tree(cls, most: int, top: "DeviceGroup | None" = None) -> "list[DeviceGroup]":
        """Return so many groups at most, level by level: all, or `top` and those that lie in it.

        Each has its `level`, and numbers: of its `members`, and of the `groups_in_it`.
        """
        condition, keys = ("parent_id IS NULL", []) if top is None else ("id = %s", [top.pk])
        return list(cls.objects.raw(TREE.format(top=condition), [*keys, MAX_DEPTH, most]))

    def memberships(self, most: int) -> QuerySet[Any]:
        """Return who is in this group and in those that lie in it: that many memberships at most.

        They are found by an index, however many there are. A device may be in several groups.
        """
        below = RawSQL(MEMBERSHIPS_BELOW, [self.pk, most])  # noqa: S611 (the key is a parameter)
        rows: QuerySet[Any] = self.devices.through.objects.filter(pk__in=below)
        return rows

    def _height(self) -> int:
        """Return how many levels there are from this group down, itself included."""
        height, level = 1, [self.pk] if self.pk else []
        while level and height <= MAX_DEPTH:
            level = list(DeviceGroup.objects.filter(parent__in=level).values_list("pk", flat=True))
            height += bool(level)
        return height


def is_in_group_or_below(field: str, pk: int) -> Q | Func:
    """Return the condition that a foreign key names the group of a key, or one that lies in it.

    It walks the tree by the index of parents: within the statement on SQLite, before on PostgreSQL.
    """
    below = RawSQL(GROUPS_BELOW, [pk])  # noqa: S611 (the key is a parameter)
    if connection.vendor == "postgresql":
        # The planner expects as many rows as these keys have, be they few or all there are. Of a
        # subquery it expects the same number, whatever the group.
        keys = list(DeviceGroup.objects.filter(pk__in=below).values_list("pk", flat=True))
        return Func(
            F(field),
            RawSQL("%s::bigint[]", [keys]),
            template="%(expressions)s)",
            arg_joiner=" = ANY(",
            output_field=models.BooleanField(),
        )
    return Q((f"{field}__in", below))


def misplaced(parents: Mapping[str, str | None]) -> Iterator[tuple[list[str], ValidationError]]:
    """Yield each group that is too deep or in a cycle: the way up from it, and what is wrong.

    `parents` is a whole tree by names. A way ends at the first group too many, or as it closes.
    """
    for name in parents:
        path, above = [name], parents[name]
        while above and len(path) <= MAX_DEPTH and above not in path:
            path.append(above)
            above = parents.get(above)
        if above and above in path:
            yield path, _cycle()
        elif len(path) > MAX_DEPTH:
            yield path, _too_deep()


def _cycle() -> ValidationError:
    message = _("A group cannot lie within itself or a group below it.")
    return ValidationError({"parent": message}, code="cycle")


def _too_deep() -> ValidationError:
    message = _("Groups nest at most %(deepest)d deep.") % {"deepest": MAX_DEPTH}
    return ValidationError({"parent": message}, code="deep")


def _new_above(group: DeviceGroup) -> int:
    """Return how many groups above this one must be created before it."""
    number, above = 0, group.parent
    while above is not None and above.pk is None:
        number, above = number + 1, above.parent
    return number
