"""The sections of a device's or a group's page below its form."""

from typing import Any

from django.db.models import F, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.text import capfirst

from devices.admin.rendering import expiry, moment, state_badge
from devices.extension_points import GROUP_PANELS, PANELS, Panel
from devices.models import Device, DeviceGroup

MAX_CREDENTIALS = 20  # of each kind, on a device's page


def credential_panels(request: HttpRequest, device: Device) -> list[Panel]:
    """Return the sections with a device's newest keys and certificates, revoked ones last."""
    return [
        _credential_panel(device, rows)
        for rows in (device.keys.all(), device.certificates.with_list_state().defer("pem"))
        if request.user.has_perm(f"devices.view_{rows.model._meta.model_name}")
    ]


def _credential_panel(device: Device, rows: QuerySet[Any]) -> Panel:
    now, meta = timezone.now(), rows.model._meta
    newest = list(
        rows.order_by(F("revoked_at").desc(nulls_first=True), "-pk")[: MAX_CREDENTIALS + 1]
    )
    shown = [
        {
            "row": row,
            "address": reverse(f"admin:devices_{meta.model_name}_change", args=[row.pk]),
            "state": state_badge(row.state_at(now)),
            "ends": moment(row.not_after) if row.revoked_at else expiry(row.not_after, now),
        }
        for row in newest[:MAX_CREDENTIALS]
    ]
    listed = reverse(f"admin:devices_{meta.model_name}_changelist")
    has_more = len(newest) > MAX_CREDENTIALS
    return Panel(
        title=capfirst(str(meta.verbose_name_plural)),
        template="admin/devices/device/credentials.html",
        context={
            "rows": shown,
            "all": f"{listed}?device__id__exact={device.pk}" if has_more else "",
        },
    )


def panels_of(request: HttpRequest, row: Device | DeviceGroup) -> list[Panel]:
    """Return the sections of a device's or a group's page."""
    if isinstance(row, Device):
        made = [make(request, row) for make in PANELS]
    else:
        made = [make(request, row) for make in GROUP_PANELS]
    return [panel for panel in made if panel is not None]
