"""The tree of device groups in memory, for questions about many rules at once."""

from collections import defaultdict
from functools import cached_property

from django.db.models import Exists, OuterRef

from devices.models import Device, DeviceGroup


class GroupTree:
    """Which group lies in which; a statement when it is made, and one for those with members."""

    def __init__(self) -> None:
        self._parents = dict(DeviceGroup.objects.values_list("pk", "parent_id"))
        self._children: dict[int, list[int]] = defaultdict(list)
        for pk, parent in self._parents.items():
            if parent is not None:
                self._children[parent].append(pk)

    @cached_property
    def with_members(self) -> set[int]:
        """The groups that hold a device, or lie above one that does."""
        members = Device.groups.through.objects.filter(devicegroup=OuterRef("pk"))
        # Each group is asked for a member: there are few of them, and a million memberships.
        asked = DeviceGroup.objects.order_by().values_list("pk", Exists(members))
        return {pk for group, is_held in asked if is_held for pk in self.above(group)}

    def above(self, group: int) -> set[int]:
        """Return the group and those that it lies in."""
        found: set[int] = set()
        current: int | None = group
        while current is not None and current not in found:
            found.add(current)
            current = self._parents.get(current)
        return found

    def below(self, *groups: int) -> set[int]:
        """Return the groups, as far as they exist, and those that lie in them."""
        found: set[int] = set()
        level = [group for group in groups if group in self._parents]
        while level:
            found.update(level)
            level = [child for pk in level for child in self._children[pk] if child not in found]
        return found
