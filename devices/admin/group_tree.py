"""The tree of groups as a picture: which lies in which, and how many devices each holds."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from devices.admin.base.charts import member_bar, member_scale, scale
from devices.admin.base.pages import OwnPagesMixin, is_key, own_page
from devices.models import DeviceGroup

MAX_DRAWN = 500  # groups


@dataclass
class Branch:
    """A group, the groups in it, and the bar that says how many devices there are.

    A device that is in several of them counts once in each.
    """

    group: Any  # a DeviceGroup of `DeviceGroup.tree`
    below: "list[Branch]" = field(default_factory=list)
    bar: SafeString | None = None

    @property
    def hidden(self) -> int:
        """How many groups in it are not drawn, since there are too many."""
        return self.group.groups_in_it - len(self.below)

    @property
    def members_below(self) -> int:
        """How many devices there are in the groups in it that are drawn."""
        return sum(one.group.members + one.members_below for one in self.below)

    def all(self) -> "Iterator[Branch]":
        yield self
        for one in self.below:
            yield from one.all()


def branches(groups: list[DeviceGroup]) -> list[Branch]:
    """Return groups, as `DeviceGroup.tree` has them, as trees."""
    found = {group.pk: Branch(group) for group in groups}
    tops: list[Branch] = []
    for branch in found.values():
        above = found.get(branch.group.parent_id)
        (tops if above is None else above.below).append(branch)
    return tops


class GroupTreeMixin(OwnPagesMixin):
    """Draws the tree of groups."""

    @own_page("tree/")
    def tree(self, request: HttpRequest) -> HttpResponse:
        """Show which group lies in which: all of them, or one and those in it."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        asked = request.GET.get("top", "")
        top = get_object_or_404(DeviceGroup, pk=asked) if is_key(asked) else None
        groups = DeviceGroup.tree(MAX_DRAWN, top)
        tops = branches(groups)
        marks = scale(max((one.group.members + one.members_below for one in tops), default=0))
        for one in (branch for each in tops for branch in each.all()):
            one.bar = member_bar(one.group.members, one.members_below, marks[-1])
        return self.page(
            request,
            "admin/devices/devicegroup/tree.html",
            title=_("Tree of groups"),
            original=top,
            branches=tops,
            scale=member_scale(marks),
            drawn=len(groups),
            total=DeviceGroup.objects.count() if len(groups) == MAX_DRAWN else len(groups),
        )
