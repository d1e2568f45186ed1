"""Staff's view of RTIO servers, device service routes, and the sessions that were ended."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _, gettext_lazy, ngettext_lazy

from devices.admin.base.actions import BulkActionsMixin, BulkChange
from devices.admin.base.filters import LabelledFilter
from devices.admin.base.history import HistoryMixin, RecordedAdmin
from devices.admin.base.mixins import CountsDeletedMixin, NoDeletingMixin, ReadOnlyMixin
from devices.admin.base.pages import may_view, own_page
from devices.admin.base.rendering import NOTHING, Tone, badge, enabled_badge, moment_column
from devices.models import Device
from rpc.admin.panels import ending_badge
from rpc.rtio.models import Cause, DeviceServiceRoute, RtioServer, SessionEnding
from rpc.rtio.models.route import MAX_CONFIG_LENGTH, REFUSING_URL
from rpc.rtio.models.session_ending import can_be_ended
from rpc.rtio.session_ending import request_endings

REQUESTED = moment_column("requested_at", gettext_lazy("Requested"))


@admin.register(RtioServer)
class RtioServerAdmin(CountsDeletedMixin, RecordedAdmin):
    list_display = ["name", "address", "tls", "backend", "state"]
    list_select_related = ["backend"]
    list_filter = ["enabled", "tls"]
    search_fields = ["name", "host", "backend__identifier"]
    purpose = gettext_lazy(
        "An RTIO server is told here, so that the sessions of a device that loses its access "
        "can be ended on it."
    )
    search_help_text = gettext_lazy("Search by name, host or the backend that it calls as.")
    autocomplete_fields = ["backend"]
    fieldsets = [
        (None, {"fields": ["name", "enabled"]}),
        (gettext_lazy("Its device port"), {"fields": ["host", "port", "tls", "certificate"]}),
        (gettext_lazy("Who it is"), {"fields": ["backend"]}),
    ]

    @admin.display(description=gettext_lazy("Device port"), ordering="host")
    def address(self, server: RtioServer) -> str:
        return server.address

    @admin.display(description=gettext_lazy("State"), ordering="enabled")
    def state(self, server: RtioServer) -> SafeString:
        return enabled_badge(server.enabled)


class Refuse(BulkChange):
    """Has RTIO refuse what devices send to routes, within seconds."""

    name = "refuse"
    description = gettext_lazy("Point selected routes at an address that refuses")
    title = gettext_lazy("Let routes refuse")
    title_of_one = gettext_lazy("Let the route refuse")
    text = gettext_lazy(
        "RTIO servers will ask an address where nothing answers: devices are told of an internal "
        "error within seconds. The routes themselves stay."
    )
    button = gettext_lazy("Let it refuse")
    done = ngettext_lazy("%(n)d route refuses now.", "%(n)d routes refuse now.", "n")
    is_destructive = True

    def affected(self, rows: Any, given: dict[str, Any]) -> QuerySet[DeviceServiceRoute]:
        return rows.exclude(enabled=True, url=REFUSING_URL)

    def change(self, rows: Any, given: dict[str, Any], request: HttpRequest) -> int:
        routes = list(rows)
        with transaction.atomic():
            for route in routes:
                route.refuse()
        return len(routes)

    def text_of_one(self, row: DeviceServiceRoute) -> str:
        return _(
            "RTIO servers will ask %(url)s for “%(uri)s”, where nothing answers: devices are "
            "told of an internal error within seconds. The route itself stays."
        ) % {"url": REFUSING_URL, "uri": row.uri}


@admin.register(DeviceServiceRoute)
class DeviceServiceRouteAdmin(NoDeletingMixin, BulkActionsMixin, RecordedAdmin):
    """Routes of device services, as `/hubconfiger` tells them to every RTIO server.

    Each is deleted by itself, which says what RTIO goes on doing.
    """

    list_display = ["uri", "url", "state", "note"]
    list_filter = ["enabled"]
    search_fields = ["uri", "url", "note"]
    purpose = gettext_lazy(
        "A route says which web service answers a URI that devices ask RTIO for."
    )
    search_help_text = gettext_lazy("Search by any part of a URI, a URL or a note.")
    readonly_fields = ["room_left"]
    fieldsets = [(None, {"fields": ["uri", "url", "enabled", "note", "room_left"]})]
    changes = (Refuse(),)
    actions = [change.action() for change in changes]

    @admin.display(description=gettext_lazy("State"), ordering="enabled")
    def state(self, route: DeviceServiceRoute) -> SafeString:
        if route.enabled and route.url == REFUSING_URL:
            return badge(Tone.OFF, _("refuses"))
        return enabled_badge(route.enabled)

    @admin.display(description=gettext_lazy("Room left"))
    def room_left(self, route: DeviceServiceRoute) -> str:
        left = DeviceServiceRoute.objects.all().room_left()
        return _("%(left)d of %(most)d characters, for the URIs and URLs of all routes") % {
            "left": left,
            "most": MAX_CONFIG_LENGTH,
        }

    def save_model(self, request: HttpRequest, obj: Any, form: forms.Form, change: bool) -> None:
        """Save, and say what RTIO goes on doing where it is not told a route any more."""
        super().save_model(request, obj, form, change)
        was = form.initial.get("uri")
        if change and "uri" in form.changed_data and was:
            self._warn(request, str(was))
        elif change and "enabled" in form.changed_data and not obj.enabled:
            self._warn(request, obj.uri)

    def delete_model(self, request: HttpRequest, obj: DeviceServiceRoute) -> None:
        super().delete_model(request, obj)
        self._warn(request, obj.uri)

    def _warn(self, request: HttpRequest, uri: str) -> None:
        text = _(
            "RTIO servers that know the route “%(uri)s” keep it until they restart. To stop it "
            "before, let the route stand and point it at an address that refuses."
        )
        messages.warning(request, text % {"uri": uri})


class AttentionFilter(LabelledFilter):
    title = gettext_lazy("attention")
    parameter_name = "attention"
    labels = {"open": gettext_lazy("Could not be ended, or a secret was used by others")}

    def keep(self, queryset: Any, value: str) -> QuerySet[SessionEnding]:
        return queryset.unresolved_at(timezone.now())


@admin.register(SessionEnding)
class SessionEndingAdmin(HistoryMixin, ReadOnlyMixin):
    list_display = [REQUESTED, "device_link", "server", "receipt", "cause", "attempts", "by"]
    list_display_links = [REQUESTED]
    list_select_related = ["server", "device"]
    list_filter = [AttentionFilter, "state", "cause", "server"]
    search_fields = ["identifier__startswith"]
    purpose = gettext_lazy(
        "When a device loses its access, its session on RTIO is ended; this list says whether "
        "that worked."
    )
    search_help_text = gettext_lazy("Search by how a device's identifier begins.")
    actions = None
    fieldsets = [
        (None, {"fields": ["device_link", "server", "receipt", "cause", REQUESTED, "by"]}),
        (
            gettext_lazy("Evidence"),
            {"fields": ["attempts", "detail", "ended_after", "intercepted", "admitted_here"]},
        ),
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[SessionEnding]:
        """Join the device also for the page of one row: only so may the device be gone."""
        return super().get_queryset(request).select_related(*self.list_select_related)

    def has_end_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("rpc.end_session") and may_view(request, Device)

    @own_page("end/<int:device_id>/", "end", needs="end")
    def end_now(self, request: HttpRequest, device_id: int) -> HttpResponse:
        """End the session of one device, after a confirmation; a device that may comes back."""
        device = get_object_or_404(Device, pk=device_id, kind=Device.Kind.DEVICE)
        if not can_be_ended(device.identifier):
            raise PermissionDenied
        page = reverse("admin:devices_device_change", args=[device.pk])
        if request.method == "POST":
            request_endings([device], Cause.ASKED)
            text = _("The session is being ended. What becomes of it is shown on this page.")
            messages.success(request, text)
            return HttpResponseRedirect(page)
        return self.form_page(
            request,
            forms.Form(),
            device,
            title=_("End the device's session"),
            text=_(
                "RTIO closes the connection of “%(identifier)s” at once. The device is not "
                "disabled: with a usable key it comes back within seconds."
            )
            % {"identifier": device.identifier},
            button=_("End its session now"),
            asks_why=False,
            is_destructive=True,
            opts=Device._meta,
        )

    @admin.display(description=gettext_lazy("Device"))
    def device_link(self, ending: SessionEnding) -> SafeString | str:
        """Return the device, as a link to its page; of a deleted one, to its history."""
        if ending.device_id is None:
            return ending.identifier
        page = "change" if ending.device else "history"
        url = reverse(f"admin:devices_device_{page}", args=[ending.device_id])
        return format_html('<a href="{}">{}</a>', url, ending.identifier)

    @admin.display(description=gettext_lazy("State"), ordering="state")
    def receipt(self, ending: SessionEnding) -> SafeString:
        return ending_badge(ending)

    @admin.display(description=gettext_lazy("By"), ordering="requested_by")
    def by(self, ending: SessionEnding) -> str:
        return ending.requested_by or NOTHING
