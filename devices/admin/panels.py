"""The sections of a device's or a group's page."""

from datetime import datetime
from operator import attrgetter
from typing import Any

from django.db.models import F, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.safestring import SafeString

from devices.admin.base.pages import url_name
from devices.admin.base.rendering import expiry, moment, state_badge
from devices.extension_points import FACTS, GROUP_PANELS, PANELS, Fact, Panel, Place
from devices.history.models import permission_to
from devices.models import Device, DeviceGroup
from devices.values.text import capitalized

MAX_CREDENTIALS = 20  # of each kind, on a device's page


def credential_panels(request: HttpRequest, device: Device) -> list[Panel]:
    """Return the sections with a device's newest keys and certificates, revoked ones last.

    `device` has its `next_expiry`.
    """
    return [
        _credential_panel(request, device, rows)
        for rows in (device.keys.all(), device.certificates.with_list_state().defer("pem"))
        if request.user.has_perm(permission_to("view", rows.model))
    ]


def _credential_panel(request: HttpRequest, device: Device, rows: QuerySet[Any]) -> Panel:
    now, meta = timezone.now(), rows.model._meta
    may_revoke = request.user.has_perm(permission_to("change", rows.model))
    newest = list(
        rows.order_by(F("revoked_at").desc(nulls_first=True), "-pk")[: MAX_CREDENTIALS + 1]
    )
    shown = [
        {
            "row": row,
            "address": reverse(url_name(meta, "change"), args=[row.pk]),
            "revoke": reverse(url_name(meta, "revoke"), args=[row.pk])
            if may_revoke and row.revoked_at is None
            else "",
            "state": state_badge(row.state_at(now)),
            "ends": _end(device, row, now),
        }
        for row in newest[:MAX_CREDENTIALS]
    ]
    listed = reverse(url_name(meta, "changelist"))
    has_more = len(newest) > MAX_CREDENTIALS
    return Panel(
        title=capitalized(str(meta.verbose_name_plural)),
        template="admin/devices/device/credentials.html",
        context={
            "rows": shown,
            "has_actions": any(one["revoke"] for one in shown),
            "all": f"{listed}?device__id__exact={device.pk}" if has_more else "",
        },
        place=Place.CREDENTIALS,
    )


def _end(device: Any, row: Any, now: datetime) -> SafeString | str:
    """Return when a credential ends; with a badge where its end will lock the device out."""
    ends: datetime | None = row.not_after
    if row.revoked_at or ends is None or ends <= now or ends != device.next_expiry:
        return moment(ends)
    return expiry(ends, now)


def panels_of(request: HttpRequest, row: Device | DeviceGroup, *own: Panel) -> list[Panel]:
    """Return the sections of a device's or a group's page, in their order."""
    makers: Any = PANELS if isinstance(row, Device) else GROUP_PANELS
    made = filter(None, (make(request, row) for make in makers))
    return sorted([*own, *made], key=attrgetter("place"))


def facts_of(request: HttpRequest, device: Device) -> list[Fact]:
    return list(filter(None, (make(request, device) for make in FACTS)))
