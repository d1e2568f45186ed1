"""What the start page shows: figures, each of which leads to the list that it counts."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.core.cache import cache
from django.db.models import Count, Q, Sum
from django.http import HttpRequest
from django.utils import timezone
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from acl.models import CommandPermission
from authsite.admin.charts import hourly_bars
from authsite.admin.links import list_url, may_add, may_see
from devices.admin.history import shown
from devices.admin.rendering import SOON, Tone
from devices.history import timeline
from devices.models import Certificate, Device, PreSharedKey
from devices.models.credential_state import lacks_usable_credential
from rpc.models import CallOutcome, CallRecord, SessionEnding, reasons

DAY = timedelta(hours=24)
HOUR = timedelta(hours=1)
SLOW = 0.2  # seconds; what takes longer to count is kept
KEPT = 60  # seconds
KEY = "authsite.admin.home.counts"
MAX_CALLERS = 8
MAX_REASONS = 5
MAX_CHANGES = 10


@dataclass(frozen=True, slots=True)
class Figure:
    """A number, what it counts, and the list of just these rows."""

    label: str
    value: int
    url: str
    tone: str = ""  # of a badge, where the number is not 0


class Refusals(NamedTuple):
    """What was refused in an hour for one reason: calls, and the rows that count them."""

    hour: datetime
    reason: str
    calls: int
    rows: int


@dataclass(frozen=True)
class Counts:
    """What was counted, and when. What takes long is kept for a minute, and is `kept` then.

    Only figures for people are, never anything that decides.
    """

    at: datetime
    of: Mapping[str, int]
    refused: Sequence[Refusals]
    kept: bool = False


@dataclass(frozen=True)
class Calls:
    """The refused calls of the last 24 hours, and who called."""

    refused: int
    rows: int  # of the journal, each of which counts many calls
    url: str
    chart: SafeString
    hours: list[tuple[datetime, int, str]]
    reasons: list[tuple[str, int, str]]
    callers: list[tuple[CallRecord, str]] = field(default_factory=list)


def counts() -> Counts:
    """Return what there is of devices and credentials, and what was refused of late."""
    kept: Counts | None = cache.get(KEY)
    if kept is not None:
        return kept
    started = time.monotonic()
    now = timezone.now()
    counted = Counts(now, _registry_at(now), _refusals_at(now))
    if time.monotonic() - started > SLOW:
        cache.set(KEY, replace(counted, kept=True), KEPT)
    return counted


def _registry_at(now: datetime) -> dict[str, int]:
    """Return how many devices and credentials are in which state, each table read once."""
    devices: dict[str, int] = Device.objects.aggregate(
        devices=Count("pk"),
        disabled=Count("pk", filter=Q(enabled=False)),
        never_seen=Count("pk", filter=Q(last_seen=None)),
        seen_lately=Count("pk", filter=Q(last_seen__gte=now - DAY)),
    )
    soon = now + SOON
    return {
        **devices,
        "enabled": devices["devices"] - devices["disabled"],
        "no_credential": Device.objects.filter(lacks_usable_credential(now)).count(),
        "keys_ending": PreSharedKey.objects.ending_before(soon, now=now).count(),
        "certificates_ending": Certificate.objects.ending_before(soon, now=now).count(),
        "sessions_unresolved": SessionEnding.objects.all().unresolved_at(now).count(),
    }


def _refusals_at(now: datetime) -> list[Refusals]:
    """Return what was refused in the last 24 hours, the one that `now` is in included."""
    first = first_hour(now)
    by_hour = CallRecord.objects.refused().since(first).order_by().values_list("bucket", "reason")
    totals = by_hour.annotate(calls=Sum("count"), rows=Count("pk"))
    return [Refusals(*row) for row in totals]


def first_hour(now: datetime) -> datetime:
    """Return when the first of the last 24 hours began."""
    return now.replace(minute=0, second=0, microsecond=0) - DAY + HOUR


def device_figures(counted: Counts) -> list[Figure]:
    """Return how many devices are in which state."""
    of = counted.of
    return [
        Figure(_("Devices"), of["devices"], list_url(Device)),
        Figure(_("Enabled"), of["enabled"], list_url(Device, enabled__exact=1)),
        Figure(_("Disabled"), of["disabled"], list_url(Device, enabled__exact=0), Tone.OFF),
        Figure(
            _("Seen in the last 24 hours"),
            of["seen_lately"],
            list_url(Device, seen="24h"),
        ),
        Figure(_("Never seen"), of["never_seen"], list_url(Device, seen="never"), Tone.OFF),
    ]


def credential_figures(request: HttpRequest, counted: Counts) -> list[Figure]:
    """Return what staff must look after before devices are refused."""
    of = counted.of
    figures = []
    if may_see(request, Device):
        figures.append(
            Figure(
                _("Devices without a usable credential"),
                of["no_credential"],
                list_url(Device, credentials="unusable"),
                Tone.BAD,
            )
        )
    if may_see(request, PreSharedKey):
        figures.append(
            Figure(
                _("Keys that end within 30 days"),
                of["keys_ending"],
                list_url(PreSharedKey, state="expiring"),
                Tone.SOON,
            )
        )
    if may_see(request, Certificate):
        figures.append(
            Figure(
                _("Certificates that end within 30 days"),
                of["certificates_ending"],
                list_url(Certificate, state="expiring"),
                Tone.SOON,
            )
        )
    if may_see(request, SessionEnding) and of["sessions_unresolved"]:
        figures.append(
            Figure(
                _("Sessions that could not be ended, or whose secret others used"),
                of["sessions_unresolved"],
                list_url(SessionEnding, attention="open"),
                Tone.BAD,
            )
        )
    return figures


def calls(counted: Counts) -> Calls:
    """Return what the journal says of the last 24 hours."""
    first = first_hour(counted.at)
    by_hour, by_reason = Counter[datetime](), Counter[str]()
    for refusals in counted.refused:
        by_hour[refusals.hour] += refusals.calls
        by_reason[refusals.reason] += refusals.calls
    hours = [(hour, by_hour[hour]) for hour in (first + n * HOUR for n in range(24))]
    total = by_hour.total()
    refused = {"outcome__exact": CallOutcome.REFUSED.value}
    since = {**refused, "bucket__gte": first.isoformat()}
    labels = dict(reasons())
    return Calls(
        refused=total,
        rows=sum(refusals.rows for refusals in counted.refused),
        url=list_url(CallRecord, **since),
        chart=hourly_bars(
            hours,
            title=_("Refused calls in each hour"),
            description=_(
                "%(total)d calls were refused in the last 24 hours; most in one: %(most)d."
            )
            % {"total": total, "most": max(count for _hour, count in hours)},
        ),
        hours=[
            (hour, count, list_url(CallRecord, **refused, bucket__exact=hour.isoformat()))
            for hour, count in hours
            if count
        ],
        reasons=[
            (str(labels.get(reason, reason)), count, list_url(CallRecord, reason=reason, **since))
            for reason, count in by_reason.most_common(MAX_REASONS)
        ],
        callers=[
            (newest, list_url(CallRecord, caller=newest.caller, period="all"))
            for newest in _latest_first(CallRecord.objects.callers())
        ],
    )


def _latest_first(callers: Sequence[CallRecord]) -> list[CallRecord]:
    return sorted(callers, key=lambda newest: newest.last, reverse=True)[:MAX_CALLERS]


def context(request: HttpRequest) -> dict[str, Any]:
    """Return what the start page shows to this user: only what the user may see."""
    counted = counts()
    seen: dict[str, Any] = {"counted": counted}
    if may_see(request, Device):
        seen["device_figures"] = device_figures(counted)
        seen["no_devices"] = not counted.of["devices"]
        seen["may_add_device"] = may_add(request, Device)
    seen["credential_figures"] = credential_figures(request, counted)
    if may_see(request, CommandPermission):
        seen["no_rules"] = not CommandPermission.objects.exists()
        seen["may_add_rule"] = may_add(request, CommandPermission)
    if may_see(request, CallRecord):
        seen["no_calls"] = not CallRecord.objects.exists()
        seen["calls"] = calls(counted)
        seen["verifier_url"] = request.build_absolute_uri("/deviceverifier")
        seen["frames_url"] = request.build_absolute_uri("/")
    user: Any = request.user
    seen["changes"] = [shown(entry) for entry in timeline.recent(MAX_CHANGES, user)]
    return seen
