"""The groups of a file: those that rows describe, and those that rows of devices only name."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

from devices.database.turns import take_turn
from devices.models import DeviceGroup
from devices.models.group import misplaced
from devices.transfer.formats import Record
from devices.transfer.rows import Findings

MAX_GROUPS = 2_000  # in a file


@dataclass(slots=True)
class GroupRow:
    """What a row says of a group; None where it says nothing."""

    row: int
    name: str
    parent: str | None = None
    description: str | None = None


class GroupRows:
    """Groups on their way into the registry, with what is found wrong about them.

    `create`: those that rows only name are made, too.
    """

    def __init__(self, findings: Findings, *, create: bool) -> None:
        self._found = findings
        self._create = create
        self._rows: dict[str, GroupRow] = {}
        self._missing: dict[str, list[int]] = {}  # and the rows that name them
        self.pks: dict[str, int] = {}  # of those that the registry has
        self.new: set[str] = set()  # that rows only name
        self.counts: Counter[str] = Counter()

    @property
    def has_changes(self) -> bool:
        return bool(self.counts["new"] or self.counts["changed"] or self.new)

    def look_up(self) -> None:
        self.pks = dict(DeviceGroup.objects.order_by().values_list("name", "pk"))

    def note_named(self, names: frozenset[str], row: int) -> None:
        for name in names - self.pks.keys():
            self._missing.setdefault(name, []).append(row)

    def read(self, record: Record, values: Mapping[str, Any]) -> None:
        """Take in a row that is about a group; `values` is what its cells mean."""
        name = values.get("group", "")
        if not name:
            self._found.add_problem(record.row, "group", _("The name is missing."), group=True)
        elif name in self._rows:
            message = _("The group is in row %(row)d already.") % {"row": self._rows[name].row}
            self._found.add_problem(record.row, "group", message, name, group=True)
        elif len(self._rows) >= MAX_GROUPS:
            raise ValidationError(
                _("The file has more than %(most)d groups; split it."), params={"most": MAX_GROUPS}
            )
        else:
            parent = values.get("parent", "" if "parent" in record.cells else None)
            self._rows[name] = GroupRow(record.row, name, parent, values.get("description"))

    def check(self) -> None:
        """Classify the groups, and look at the tree that would come of them."""
        if self._rows:
            self._check_rows()
        self._check_missing()

    def _check_rows(self) -> None:
        found = {group.name: group for group in DeviceGroup.objects.select_related("parent")}
        parents = {name: group.parent.name if group.parent else "" for name, group in found.items()}
        moved: set[str] = set()
        for one in self._rows.values():
            if one.row in self._found.rejected_groups:
                continue
            try:
                DeviceGroup(name=one.name).clean_fields(exclude=["parent", "description"])
            except ValidationError as error:
                self._found.add_errors(
                    one.row, error, {"group": one.name}, group=True, name="group"
                )
                continue
            before = found.get(one.name)
            if before is None:
                self.counts["new"] += 1
            else:
                same = one.parent in (None, parents[one.name]) and one.description in (
                    None,
                    before.description,
                )
                self.counts["unchanged" if same else "changed"] += 1
            if one.parent is not None and one.parent != parents.get(one.name):
                moved.add(one.name)
                parents[one.name] = one.parent
            else:
                parents.setdefault(one.name, "")
        for one in self._rows.values():
            self._check_parent(one, parents)
        self._check_tree(parents, moved)

    def _check_parent(self, one: GroupRow, parents: dict[str, str]) -> None:
        above = parents.get(one.name)
        if not above or above in parents:
            return
        if self._create:
            self.new.add(above)
        else:
            message = _("There is no group named “%(name)s”.") % {"name": above}
            self._found.add_problem(one.row, "parent", message, one.parent, group=True)

    def _check_tree(self, parents: dict[str, str], moved: set[str]) -> None:
        """Look at the whole tree; what is wrong with it is a problem of the row that moves it.

        A row can move groups that no row names: those that lie in its own.
        """
        wrong: dict[str, ValidationError] = {}
        for path, error in misplaced(parents):
            for name in [*(one for one in path if one in moved), *path]:
                if name in self._rows:
                    wrong.setdefault(name, error)
                    break
        for name, error in wrong.items():
            one = self._rows[name]
            self._found.add_errors(one.row, error, {"parent": one.parent}, group=True)

    def _check_missing(self) -> None:
        """Note the groups to create, or a problem where neither registry nor file has them."""
        for name, rows in self._missing.items():
            if name in self._rows:
                continue
            if self._create:
                self.new.add(name)
                continue
            for row in rows:
                message = _("There is no group named “%(name)s”.") % {"name": name}
                self._found.add_problem(row, "groups", message)

    def write(self) -> None:
        """Save the groups that are new or changed; raises ValidationError where they cannot be."""
        if not (self._rows or self.new):
            return
        take_turn(DeviceGroup._meta.db_table)  # a move that is made meanwhile would be undone
        groups = {group.name: group for group in DeviceGroup.objects.select_related("parent")}
        before = {name: _said_by(group) for name, group in groups.items()}
        groups |= {name: DeviceGroup(name=name) for name in sorted(self.new)}
        for name in self._rows:
            groups.setdefault(name, DeviceGroup(name=name))
        for one in self._rows.values():
            group = groups[one.name]
            if one.parent and one.parent not in groups:
                raise ValidationError({"parent": _("The group does not exist any more.")})
            if one.parent is not None:
                group.parent = groups.get(one.parent)
            if one.description is not None:
                group.description = one.description
        DeviceGroup.save_tree(
            [
                group
                for name, group in groups.items()
                if name in self.new or _said_by(group) != before.get(name)
            ]
        )
        self.pks |= {name: group.pk for name, group in groups.items()}


def _said_by(group: DeviceGroup) -> tuple[str, str]:
    return (group.parent.name if group.parent else "", group.description)
