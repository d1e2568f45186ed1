"""The tree of groups in memory: above, below, and that it ends."""

from typing import Any

from acl.engine.group_tree import GroupTree
from devices.models import DeviceGroup


def test_above_and_below_are_with_the_group_itself(make_group: Any) -> None:
    site = make_group("site")
    room, other = make_group("room", parent=site), make_group("other", parent=site)
    shelf = make_group("shelf", parent=room)
    tree = GroupTree()
    assert tree.above(shelf.pk) == {shelf.pk, room.pk, site.pk}
    assert tree.below(room.pk) == {room.pk, shelf.pk}
    assert tree.below(shelf.pk, other.pk) == {shelf.pk, other.pk}
    assert tree.below(10**9, shelf.pk) == {shelf.pk}, "one that is gone"


def test_a_tree_with_a_cycle_ends(make_group: Any) -> None:
    one = make_group("one")
    two = make_group("two", parent=one)
    DeviceGroup.objects.filter(pk=one.pk).update(parent=two)  # which nothing here lets happen
    tree = GroupTree()
    assert tree.above(one.pk) == tree.below(two.pk) == {one.pk, two.pk}


def test_a_group_has_members_by_those_below_it(make_group: Any, make_device: Any) -> None:
    site = make_group("site")
    room = make_group("room", parent=site)
    make_group("empty", parent=site)
    make_device(groups=[room])
    assert GroupTree().with_members == {site.pk, room.pk}
