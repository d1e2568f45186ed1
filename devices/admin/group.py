"""The admin of groups of devices: their list and tree, and the page of one."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import Count, OuterRef, QuerySet, Subquery, Value
from django.db.models.functions import Coalesce
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.utils.formats import number_format
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _, gettext_lazy, ngettext

from devices.admin.base.changelist import OrderedChangeList, is_large
from devices.admin.base.charts import scale
from devices.admin.base.filters import bounded_count_text, counts
from devices.admin.base.forms import RowsField
from devices.admin.base.history import RecordedAdmin
from devices.admin.base.mixins import ChangeGuardMixin, CountsDeletedMixin
from devices.admin.base.pages import DetailPageMixin, is_key, may_view, own_page, say_done
from devices.admin.base.widgets import SuggestedRows
from devices.admin.device_list import OR_BELOW
from devices.admin.panels import panels_of
from devices.extension_points import Panel, Place
from devices.history import history_of
from devices.models import Device, DeviceGroup, Membership, PreSharedKey

MAX_MEMBERS = 20  # on a group's page
MAX_DRAWN = 500  # groups


def count_devices(groups: Sequence[DeviceGroup]) -> None:
    """Note in each group how many devices are in it, up to one more than MAX_COUNTED."""
    members = (Membership.objects.filter(devicegroup=group) for group in groups)
    for group, total in zip(groups, counts(members), strict=True):
        vars(group)["device_total"] = total


class GroupChangeList(OrderedChangeList):
    def counts_many(self) -> bool:
        """Whether there are too many members to sort groups by their number."""
        return is_large(Membership)


class MembersForm(forms.Form):
    devices = RowsField(
        label=gettext_lazy("Devices"),
        queryset=Device.objects.all(),
        error_messages={
            "required": gettext_lazy("Choose the devices that come into the group."),
            "invalid_pk_value": gettext_lazy("No device has the identifier “%(pk)s”."),
        },
        widget=SuggestedRows(PreSharedKey._meta.get_field("device"), admin.site),
    )


@dataclass
class Branch:
    """A group and the groups in it. A device that is in several of them counts once in each."""

    group: Any  # a DeviceGroup of `DeviceGroup.tree`
    below: "list[Branch]" = field(default_factory=list)

    @property
    def hidden(self) -> int:
        """How many groups in it are not drawn, since there are too many."""
        return self.group.groups_in_it - len(self.below)

    @property
    def members_below(self) -> int:
        """How many devices there are in the groups in it that are drawn."""
        return sum(one.group.members + one.members_below for one in self.below)


def branches(groups: list[DeviceGroup]) -> list[Branch]:
    """Return groups, as `DeviceGroup.tree` has them, as trees."""
    found = {group.pk: Branch(group) for group in groups}
    tops: list[Branch] = []
    for branch in found.values():
        above = found.get(branch.group.parent_id)
        (tops if above is None else above.below).append(branch)
    return tops


@admin.register(DeviceGroup)
class DeviceGroupAdmin(ChangeGuardMixin, CountsDeletedMixin, DetailPageMixin, RecordedAdmin):
    detail_template = "admin/devices/devicegroup/page.html"
    list_display = ["name", "parent", "device_count", "description"]
    list_select_related = ["parent"]
    list_filter = [("parent", admin.RelatedOnlyFieldListFilter)]
    search_fields = ["name", "description"]
    purpose = gettext_lazy(
        "A group holds devices, and may lie within another one. Rules speak of groups, so "
        "that a new device needs no rules of its own."
    )
    search_help_text = gettext_lazy("Search by name or description.")
    autocomplete_fields = ["parent"]
    fieldsets = [(None, {"fields": ["name", "parent", "description"]})]
    history_in_batches = True
    note_in_rows = staticmethod(count_devices)

    def get_queryset(self, request: HttpRequest) -> QuerySet[DeviceGroup]:
        """Name what the number of devices sorts by; it is counted only for a list that does."""
        members = Device.groups.through.objects.filter(devicegroup=OuterRef("pk")).order_by()
        counted = members.values("devicegroup").annotate(n=Count("pk")).values_list("n")  # type: ignore[misc]
        return (
            super().get_queryset(request).alias(device_total=Coalesce(Subquery(counted), Value(0)))
        )

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[GroupChangeList]:
        return GroupChangeList

    def detail_context(self, request: HttpRequest, row: DeviceGroup) -> dict[str, Any]:
        """Return the group's place in the tree, its members and the sections that apps add."""
        below = list(DeviceGroup.objects.filter(parent=row))
        count_devices([row, *below])
        above = row.ancestor_ids()
        named = DeviceGroup.objects.in_bulk(above)
        form = MembersForm() if self.has_change_members_permission(request) else None
        return {
            "history_is_hidden": not self.may_see_history(request),
            "above": [named[pk] for pk in reversed(above) if pk in named],
            "top": above[-1] if above else row.pk,
            "below": [(group, self.device_count(group)) for group in below],
            "device_count": self.device_count(row),
            "form": form,
            "media": self.media + form.media if form else self.media,
            "panels": panels_of(request, row, *self._members(request, row, below)),
        }

    def _members(
        self, request: HttpRequest, group: DeviceGroup, below: Sequence[DeviceGroup]
    ) -> list[Panel]:
        if not request.user.has_perm("devices.view_device"):
            return []
        found = list(group.devices.order_by("identifier")[: MAX_MEMBERS + 1])
        address = reverse("admin:devices_device_changelist")
        return [
            Panel(
                _("Devices in this group"),
                "admin/devices/devicegroup/members.html",
                {
                    "group": group,
                    "rows": found[:MAX_MEMBERS],
                    "all": f"{address}?group={group.pk}",
                    "all_below": f"{address}?group={group.pk}{OR_BELOW}" if below else "",
                    "is_cut": len(found) > MAX_MEMBERS,
                    "may_change": self.has_change_members_permission(request),
                },
                place=Place.CREDENTIALS,
            )
        ]

    def get_deleted_objects(
        self, objs: Any, request: HttpRequest
    ) -> tuple[list[str], dict[str, int], set[str], list[str]]:
        """Count the groups and who is in them as well; one that others lie within stays."""
        shown, counts, lacking, _protected = super().get_deleted_objects(objs, request)
        keys = [group.pk for group in objs]
        within = DeviceGroup.objects.filter(parent__in=keys).exclude(pk__in=keys)
        counts = {str(self.opts.verbose_name_plural): len(objs), **counts}
        if members := Membership.objects.filter(devicegroup__in=keys).count():
            counts[str(history_of(Membership)._meta.verbose_name_plural)] = members
        page = "admin:devices_devicegroup_change"
        links: list[str] = [
            format_html('<a href="{}">{}</a>', reverse(page, args=[one.pk]), one) for one in within
        ]
        return shown, counts, lacking, links

    def has_change_members_permission(self, request: HttpRequest) -> bool:
        needed = ["devices.change_device", "devices.view_device"]
        return request.user.has_perms(needed) and may_view(request, DeviceGroup)

    @own_page("<int:object_id>/members/", needs="change_members")
    def members(self, request: HttpRequest, object_id: int) -> HttpResponse:
        group = get_object_or_404(DeviceGroup, pk=object_id)
        if request.method == "POST":
            return self.guarded(request, self._change_members, group)
        return redirect("admin:devices_devicegroup_change", group.pk)

    def _change_members(self, request: HttpRequest, group: DeviceGroup) -> HttpResponse:
        leaving = request.POST.get("leaves", "")
        if is_key(leaving):
            left = Device.objects.filter(pk=leaving).remove_from_group(group)
            text = ngettext("%(n)d device removed.", "%(n)d devices removed.", left)
            say_done(request, text % {"n": left}, left)
        else:
            form = MembersForm(request.POST)
            if form.is_valid():
                joined = form.cleaned_data["devices"].add_to_group(group)
                text = ngettext("%(n)d device added.", "%(n)d devices added.", joined)
                say_done(request, text % {"n": joined}, joined)
            else:
                return self.form_page(
                    request,
                    form,
                    group,
                    title=_("Add devices to the group"),
                    button=_("Add to the group"),
                )
        return redirect("admin:devices_devicegroup_change", group.pk)

    @own_page("tree/", needs="view")
    def tree(self, request: HttpRequest) -> HttpResponse:
        """Show which group lies in which: all of them, or one and those in it."""
        asked = request.GET.get("top", "")
        top = get_object_or_404(DeviceGroup, pk=asked) if is_key(asked) else None
        groups = DeviceGroup.tree(MAX_DRAWN, top)
        tops = branches(groups)
        marks = scale(max((one.group.members + one.members_below for one in tops), default=0))
        return self.page(
            request,
            "admin/devices/devicegroup/tree.html",
            title=_("Tree of groups"),
            original=top,
            branches=tops,
            highest=marks[-1] or 1,
            highest_text=number_format(marks[-1], force_grouping=True),
            drawn=len(groups),
            total=DeviceGroup.objects.count() if len(groups) == MAX_DRAWN else len(groups),
        )

    @admin.display(description=gettext_lazy("Devices"), ordering="device_total")
    def device_count(self, group: DeviceGroup) -> SafeString:
        """Return how many devices are direct members, with the way to them."""
        return format_html(
            '<a href="{}?group={}">{}</a>',
            reverse("admin:devices_device_changelist"),
            group.pk,
            bounded_count_text(vars(group)["device_total"]),
        )
