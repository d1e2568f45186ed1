"""Staff's view of groups of devices."""

from typing import Any

from django.contrib import admin
from django.db.models import Count, OuterRef, QuerySet, Subquery, Value
from django.db.models.functions import Coalesce
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy

from devices.admin.forms import CurrentForm
from devices.admin.history import HistoryMixin
from devices.admin.mixins import ChangeGuardMixin, SaveChangedFieldsMixin
from devices.admin.panels import panels_of
from devices.models import Device, DeviceGroup


@admin.register(DeviceGroup)
class DeviceGroupAdmin(
    ChangeGuardMixin,
    HistoryMixin,
    SaveChangedFieldsMixin,
    admin.ModelAdmin,
):
    """Groups: which there are, where they lie, how many devices each holds."""

    form = CurrentForm
    list_display = ["name", "parent", "device_count", "description"]
    list_select_related = ["parent"]
    list_filter = [("parent", admin.RelatedOnlyFieldListFilter)]
    search_fields = ["name", "description"]
    search_help_text = gettext_lazy("Search by name or description.")
    autocomplete_fields = ["parent"]
    fieldsets = [(None, {"fields": ["name", "parent", "description"]})]
    restores = ("name", "parent", "description")

    def get_queryset(self, request: HttpRequest) -> QuerySet[DeviceGroup]:
        """Count the devices of each group that is shown, in the same statement."""
        members = Device.groups.through.objects.filter(devicegroup=OuterRef("pk")).order_by()
        counted = members.values("devicegroup").annotate(n=Count("pk")).values_list("n")  # type: ignore[misc]
        return (
            super()
            .get_queryset(request)
            .annotate(device_total=Coalesce(Subquery(counted), Value(0)))
        )

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        """Add the sections that other apps fill."""
        if (group := context.get("original")) is not None:
            context["panels"] = panels_of(request, group)
        return super().render_change_form(request, context, *args, **kwargs)

    @admin.display(description=gettext_lazy("Devices"), ordering="device_total")
    def device_count(self, group: DeviceGroup) -> SafeString:
        """Return how many devices are direct members, with the way to them."""
        return format_html(
            '<a href="{}?group={}">{}</a>',
            reverse("admin:devices_device_changelist"),
            group.pk,
            group.device_total,  # type: ignore[attr-defined]
        )
