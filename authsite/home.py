"""What the start page shows: figures, each of which leads to the list that it counts."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.core.cache import cache
from django.db.models import Count, Q
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from acl.models import CommandPermission
from authsite.charts import hourly_bars
from authsite.lists import list_url, may_add, may_see
from devices.admin_pages import SOON
from devices.history import Kind, Origin, all_histories
from devices.models import Certificate, Device, PreSharedKey
from devices.rendering import Tone
from rpc.models import CallRecord

DAY = timedelta(hours=24)
HOUR = timedelta(hours=1)
SLOW = 0.2  # seconds; what takes longer to count is kept
KEPT = 60  # seconds
KEY = "authsite.home.counts"
MOST_CALLERS = 8
MOST_REASONS = 5
MOST_CHANGES = 10
NAMES = ("identifier", "name", "label", "pattern")  # what a changed row is known by


@dataclass(frozen=True, slots=True)
class Figure:
    """A number, what it counts, and the list of just these rows."""

    label: str
    value: int
    url: str
    tone: str = ""  # of a badge, where the number is not 0


@dataclass(frozen=True)
class Counts:
    """What was counted, and when; `kept` says that it may be up to a minute old."""

    at: datetime
    of: Mapping[str, int]
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


@dataclass(frozen=True)
class RecentChange:
    """What was done to a row, by whom, from where; `url` is empty where the row is gone."""

    moment: datetime
    kind: str
    what: str
    name: str
    of: str  # the identifier of the device that a credential belongs to
    url: str
    by: str
    origin: str


def counts() -> Counts:
    """Return what was counted of the whole registry: now, or within the last minute if it is slow.

    Only figures for people are kept, never anything that decides.
    """
    kept: Counts | None = cache.get(KEY)
    if kept is not None:
        return kept
    started = time.monotonic()
    now = timezone.now()
    devices = Device.objects.aggregate(
        devices=Count("pk"),
        disabled=Count("pk", filter=Q(enabled=False)),
        never_seen=Count("pk", filter=Q(last_seen=None)),
        seen_lately=Count("pk", filter=Q(last_seen__gte=now - DAY)),
    )
    soon = now + SOON
    counted = Counts(
        at=now,
        of={
            **devices,
            "enabled": devices["devices"] - devices["disabled"],
            "no_credential": Device.objects.without_usable_credential(now).count(),
            "keys_ending": PreSharedKey.objects.ending_before(soon, now=now).count(),
            "certificates_ending": Certificate.objects.ending_before(soon, now=now).count(),
        },
    )
    if time.monotonic() - started > SLOW:
        cache.set(KEY, Counts(counted.at, counted.of, kept=True), KEPT)
    return counted


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
    return figures


def calls(now: datetime) -> Calls:
    """Return what the journal says of the last 24 hours, the current one included."""
    first = now.replace(minute=0, second=0, microsecond=0) - DAY + HOUR
    refused = CallRecord.objects.refused().since(first)
    by_hour = dict(refused.per_bucket())
    hours = [(hour, by_hour.get(hour, 0)) for hour in (first + n * HOUR for n in range(24))]
    total = sum(by_hour.values())
    since = {"outcome__exact": "refused", "bucket__gte": first.isoformat()}
    labels = dict(CallRecord._meta.get_field("reason").flatchoices)
    return Calls(
        refused=total,
        rows=refused.count(),
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
            (
                hour,
                count,
                list_url(CallRecord, outcome__exact="refused", bucket__exact=hour.isoformat()),
            )
            for hour, count in hours
            if count
        ],
        reasons=[
            (str(labels.get(reason, reason)), count, list_url(CallRecord, reason=reason, **since))
            for reason, count in refused.per_reason()[:MOST_REASONS]
        ],
        callers=[
            (newest, list_url(CallRecord, caller=newest.caller, period="all"))
            for newest in _latest_first(CallRecord.objects.callers())
        ],
    )


def _latest_first(callers: Sequence[CallRecord]) -> list[CallRecord]:
    return sorted(callers, key=lambda newest: newest.last, reverse=True)[:MOST_CALLERS]


def recent_changes(request: HttpRequest) -> list[RecentChange]:
    """Return the newest changes of rows that this user may look at, newest first."""
    newest: list[Any] = []
    for historical in all_histories():
        if may_see(request, historical.instance_type):
            ordered = historical.objects.order_by("-history_date", "-history_id")
            newest += ordered[:MOST_CHANGES]
    newest.sort(key=lambda change: change.history_date, reverse=True)
    shown = newest[:MOST_CHANGES]
    owners = {key for change in shown if (key := getattr(change, "device_id", None))}
    identifiers = dict(Device.objects.filter(pk__in=owners).values_list("pk", "identifier"))
    return [_recent(change, identifiers) for change in shown]


def _recent(change: Any, identifiers: Mapping[int, str]) -> RecentChange:
    meta = change.instance_type._meta
    key = getattr(change, meta.pk.attname)
    name = next((text for field in NAMES if (text := getattr(change, field, ""))), "")
    gone = change.history_type == Kind.DELETED
    return RecentChange(
        moment=change.history_date,
        kind=str(Kind(change.history_type).label),
        what=str(meta.verbose_name),
        name=name or f"#{key}",
        of=identifiers.get(getattr(change, "device_id", 0), ""),
        url="" if gone else reverse(f"admin:{meta.app_label}_{meta.model_name}_change", args=[key]),
        by=change.history_user_id,
        origin=str(Origin(change.origin).label),
    )


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
        seen["calls"] = calls(timezone.now())
        seen["verifier_url"] = request.build_absolute_uri("/deviceverifier")
        seen["frames_url"] = request.build_absolute_uri("/")
    seen["changes"] = recent_changes(request)
    return seen
