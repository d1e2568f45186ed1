"""Add calls to the pages of devices and of groups."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.http import urlencode
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from devices.admin.base.charts import Hour, hourly_bars
from devices.admin.base.figures import Figures, kept_if_slow
from devices.admin.base.rendering import Tone, badge, moment
from devices.extension_points import Fact, Panel, Place
from devices.models import Device, DeviceGroup
from rpc.models import CallOutcome, CallQuerySet, CallRecord
from rpc.rtio.models import EndingState, RtioServer, SessionEnding
from rpc.rtio.models.session_ending import can_be_ended

MAX_ROWS = 10
MAX_ENDINGS = 5
MAX_MEMBERS = 2_000  # of a group, whose calls are looked up
KEPT = 60  # seconds: a caller may have made most of the calls there are


STATE_TONES = {
    EndingState.WAITING: Tone.SOON,
    EndingState.ENDED: Tone.GOOD,
    EndingState.NOT_CONNECTED: Tone.PLAIN,
    EndingState.CANCELLED: Tone.OFF,
    EndingState.GIVEN_UP: Tone.BAD,
}


def ending_badge(ending: SessionEnding) -> SafeString:
    return badge(STATE_TONES[EndingState(ending.state)], ending.receipt())


def answer_badge(row: CallRecord) -> SafeString:
    tone = Tone.GOOD if row.outcome == CallOutcome.ALLOWED else Tone.BAD
    return badge(tone, row.get_outcome_display())


def _connection(device: Device) -> CallRecord | None:
    """Return the newest row of a verification that a device passed, looked up once a page."""
    known = vars(device)
    if "latest_connection" not in known:
        known["latest_connection"] = CallRecord.objects.latest_connection(device.identifier)
    return known["latest_connection"]


def let_in_through(request: HttpRequest, device: Device) -> Fact | None:
    """Return through whom a device was let in last, for the head of its page."""
    if not request.user.has_perm("rpc.view_callrecord"):
        return None
    connection = _connection(device)
    if connection is None:
        return None
    server = RtioServer.objects.all().by_caller().get(connection.caller)
    through = str(server) if server is not None else connection.caller or "?"
    text = _("{time}, through {caller}")
    return Fact(_("Last verified"), format_html(text, time=moment(connection.last), caller=through))


def _hours(rows: CallQuerySet) -> list[Hour]:
    """Return how the calls of the last 24 hours were answered, in one statement."""
    first = timezone.now().replace(minute=0, second=0, microsecond=0) - timedelta(hours=23)
    counted = rows.per_hour(first)
    hours = (first + timedelta(hours=n) for n in range(24))
    return [
        Hour(
            hour,
            counted.get(hour, {}).get(CallOutcome.ALLOWED, 0),
            counted.get(hour, {}).get(CallOutcome.REFUSED, 0),
        )
        for hour in hours
    ]


@dataclass(frozen=True)
class CallsByHour(Figures):
    """How the calls of the last 24 hours were answered."""

    hours: Sequence[Hour]


def calls_made_by(caller: str) -> dict[str, Any]:
    """Return the calls that a caller made, by hour; kept for a minute where they are many."""

    def count() -> CallsByHour:
        return CallsByHour(timezone.now(), _hours(CallRecord.objects.filter(caller=caller)))

    name = hashlib.sha256(caller.encode()).hexdigest()  # it may be longer than a key of a cache
    counted = kept_if_slow(f"rpc.admin.panels.calls_made_by.{name}", KEPT, count)
    return {**_charted(counted.hours, _("Calls that it made, by hour")), "counted": counted}


def _charted(hours: Sequence[Hour], title: str) -> dict[str, Any]:
    """Return the calls by hour, as numbers and as a picture; nothing where nobody called."""
    allowed = sum(hour.allowed for hour in hours)
    refused = sum(hour.refused for hour in hours)
    if not allowed + refused:
        return {}
    text = _("In the last 24 hours %(allowed)s were allowed and %(refused)s refused.")
    described = text % {"allowed": f"{allowed:,}", "refused": f"{refused:,}"}
    return {
        "chart": hourly_bars(hours, title=title, description=described),
        "described": described,
        "hours": [hour for hour in hours if hour.allowed or hour.refused],
    }


def calls_of_group(request: HttpRequest, group: DeviceGroup) -> Panel | None:
    """Return the section of a group's page with the calls about its devices, by hour."""
    if not request.user.has_perm("rpc.view_callrecord"):
        return None
    looked_at = group.memberships(MAX_MEMBERS + 1).count()
    if not looked_at:
        return None
    rows = CallRecord.objects.about_group(group, MAX_MEMBERS)
    listed = reverse("admin:rpc_callrecord_changelist")
    return Panel(
        _("Calls about its devices"),
        "admin/rpc/calls_of_group.html",
        {
            **_charted(_hours(rows), _("Calls about its devices, by hour")),
            "cut_to": MAX_MEMBERS if looked_at > MAX_MEMBERS else 0,
            "all": f"{listed}?{urlencode({'group': group.pk})}",
        },
        place=Place.CALLS,
    )


def last_calls(request: HttpRequest, device: Device) -> Panel | None:
    """Return the section of a device's page with its last calls."""
    if not request.user.has_perm("rpc.view_callrecord"):
        return None
    rows = CallRecord.objects.latest_about(device.identifier, MAX_ROWS)
    calls, charted = device.kind == Device.Kind.BACKEND, {}
    if calls:
        charted = calls_made_by(device.identifier)
    elif rows:
        about = CallRecord.objects.filter(subject=device.identifier)
        charted = _charted(_hours(about), _("Calls about it, by hour"))
    address = reverse("admin:rpc_callrecord_changelist")
    return Panel(
        _("Last calls"),
        "admin/rpc/last_calls.html",
        {
            "rows": [(row, answer_badge(row)) for row in rows],
            "identifier": device.identifier,
            **charted,
            "connection": _connection(device),
            "all": f"{address}?{urlencode({'q': device.identifier, 'period': 'all'})}",
            "made": f"{address}?{urlencode({'caller': device.identifier})}" if calls else "",
        },
        place=Place.CALLS,
    )


def sessions(request: HttpRequest, device: Device) -> Panel | None:
    """Return the section of a device's page with its sessions at RTIO servers.

    Through which of them it was let in last is the journal's to tell, and to its readers only.
    """
    if device.kind != Device.Kind.DEVICE or not request.user.has_perm("rpc.view_sessionending"):
        return None
    servers = RtioServer.objects.all().by_caller()
    if not servers:
        return None
    endings = list(SessionEnding.objects.all().of(device)[:MAX_ENDINGS])
    reads_journal = request.user.has_perm("rpc.view_callrecord")
    connection = _connection(device) if reads_journal else None
    return Panel(
        _("Sessions at RTIO servers"),
        "admin/rpc/sessions.html",
        {
            "device": device,
            "reads_journal": reads_journal,
            "connection": connection,
            "server": servers.get(connection.caller) if connection is not None else None,
            "endings": [(row, ending_badge(row)) for row in endings],
            "can_be_ended": can_be_ended(device.identifier),
            "may_end": request.user.has_perm("rpc.end_session")
            and any(server.enabled for server in servers.values()),
            "waiting": EndingState.WAITING,
        },
        place=Place.SESSIONS,
    )
