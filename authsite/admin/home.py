"""What the start page shows: figures, each of which leads to the list that it counts."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Any, NamedTuple

from django.db.models import Count, Model, Q, Sum
from django.http import HttpRequest
from django.utils import timezone
from django.utils.formats import number_format
from django.utils.translation import gettext as _

from acl.models import CommandPermission
from authsite.admin.links import list_url, may_add, may_see
from devices.admin.base.charts import Hour, hourly_bars
from devices.admin.base.figures import Figures, kept_if_slow
from devices.admin.base.filters import bounded_count_text, counts as bounded_counts
from devices.admin.base.history import shown
from devices.admin.base.rendering import SOON, Tone
from devices.events.models import DeliveryState, WebhookState
from devices.history import timeline
from devices.models import CertificateAuthority, Device, RevocationList, Webhook
from devices.models.credentials.state import is_locked_out_before, lacks_credential
from rpc.models import CallOutcome, CallRecord, SessionEnding, reasons

DAY = timedelta(hours=24)
HOUR = timedelta(hours=1)
KEPT = 60  # seconds that figures are
MAX_CALLERS = 8
MAX_REASONS = 5
MAX_CHANGES = 10
GUESSES = 20  # wrong secrets for one device in 24 hours that staff should know of
NOTICED = 20  # refusals for one reason in 24 hours, fewer than which are no rise
RISE = 2  # times as many as in the 24 hours before
LAPSING = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Figure:
    """A number, what it counts, and the list of just these rows."""

    label: str
    value: int
    url: str

    @property
    def shown(self) -> str:
        return number_format(self.value, force_grouping=True)


@dataclass(frozen=True, slots=True)
class Attention:
    """What needs somebody: how many, what they are, why it matters, and their list, by `query`."""

    model: type[Model]
    tone: str
    value: int
    label: str
    note: str
    query: Mapping[str, Any] = field(default_factory=dict)

    @property
    def amount(self) -> str:
        """The number, as far as it was counted."""
        return bounded_count_text(self.value)

    @property
    def url(self) -> str:
        return list_url(self.model, **self.query)


class Refusals(NamedTuple):
    """What was refused in an hour for one reason: calls, and the rows that count them."""

    hour: datetime
    reason: str
    calls: int
    rows: int


@dataclass(frozen=True)
class Counts(Figures):
    """What there is of devices and credentials, and what was answered of late."""

    of: Mapping[str, int]
    refused: Sequence[Refusals]  # of the last 24 hours, and of the 24 before
    allowed: Mapping[datetime, int] = field(default_factory=dict)  # calls by hour


def counts() -> Counts:
    """Count what the start page tells of the registry and of the calls of the last 24 hours."""
    now = timezone.now()
    allowed = CallRecord.objects.allowed().since(first_hour(now)).order_by().values_list("bucket")
    return Counts(
        now, _registry_at(now), _refusals_at(now), dict(allowed.annotate(calls=Sum("count")))
    )


def _registry_at(now: datetime) -> dict[str, int]:
    """Return how many devices and credentials are in which state, each table read once."""
    devices: dict[str, int] = Device.objects.aggregate(
        devices=Count("pk"),
        disabled=Count("pk", filter=Q(enabled=False)),
        never_seen=Count("pk", filter=Q(last_seen=None)),
        seen_lately=Count("pk", filter=Q(last_seen__gte=now - DAY)),
    )
    enabled = Device.objects.enabled()
    wrong = CallRecord.objects.refused().since(first_hour(now)).filter(reason="wrong-secret")
    guessed = wrong.order_by().values("subject").annotate(calls=Sum("count"))
    failed = Q(deliveries__state=DeliveryState.FAILED, deliveries__tried_at__gte=now - DAY)
    given_up = Q(state=WebhookState.OFF) & ~Q(off_because="")
    needing = {
        "locked_out": enabled.filter(lacks_credential("usable_at", now)),
        "locking": enabled.filter(is_locked_out_before(now + SOON, now=now)),
        "lists_lapsing": RevocationList.objects.filter(next_update__lt=now + LAPSING),
        "sessions_unresolved": SessionEnding.objects.all().unresolved_at(now),
        "webhooks_failing": Webhook.objects.filter(failed | given_up).distinct(),
    }
    return {
        **devices,
        "enabled": devices["devices"] - devices["disabled"],
        "guessed": guessed.filter(calls__gte=GUESSES).count(),
        **dict(zip(needing, bounded_counts(needing.values()), strict=True)),
    }


def _refusals_at(now: datetime) -> list[Refusals]:
    """Return what was refused in the last 48 hours, the one that `now` is in included."""
    first = first_hour(now) - DAY
    by_hour = CallRecord.objects.refused().since(first).order_by().values_list("bucket", "reason")
    totals = by_hour.annotate(calls=Sum("count"), rows=Count("pk"))
    return [Refusals(*row) for row in totals]


def first_hour(now: datetime) -> datetime:
    """Return when the first of the last 24 hours began."""
    return now.replace(minute=0, second=0, microsecond=0) - DAY + HOUR


def device_figures(counted: Counts) -> list[Figure]:
    of = counted.of
    return [
        Figure(_("Devices"), of["devices"], list_url(Device)),
        Figure(_("Enabled"), of["enabled"], list_url(Device, enabled__exact=1)),
        Figure(_("Disabled"), of["disabled"], list_url(Device, enabled__exact=0)),
        Figure(_("Seen in the last 24 hours"), of["seen_lately"], list_url(Device, seen="24h")),
        Figure(_("Never seen"), of["never_seen"], list_url(Device, seen="never")),
    ]


def attention(request: HttpRequest, counted: Counts) -> list[Attention]:
    """Return what needs somebody today, among what this user may see; the worst first."""
    of, since = counted.of, first_hour(counted.at).isoformat()
    found = [
        Attention(
            Device,
            Tone.BAD,
            of["locked_out"],
            _("Devices that are locked out"),
            _("They are enabled, and have no usable credential."),
            {"credentials": "unusable", "enabled__exact": 1},
        ),
        Attention(
            SessionEnding,
            Tone.BAD,
            of["sessions_unresolved"],
            _("Sessions that could not be ended, or whose secret others used"),
            _("A device that lost its access may still be connected."),
            {"attention": "open"},
        ),
        Attention(
            CallRecord,
            Tone.BAD,
            of["guessed"],
            _("Devices whose secret somebody guesses at, or that hold a wrong one"),
            _("Each was refused for a wrong secret %(n)d times or more in 24 hours.")
            % {"n": GUESSES},
            {"reason": "wrong-secret", "bucket__gte": since},
        ),
        Attention(
            Webhook,
            Tone.BAD,
            of["webhooks_failing"],
            _("Webhooks that fail, or were switched off for failing"),
            _("What they tell others of is late or lost."),
        ),
        *_rises(counted),
        Attention(
            Device,
            Tone.SOON,
            of["locking"],
            _("Devices that will be locked out within 30 days"),
            _("The last of their credentials ends. Old keys of a rotation do not count."),
            {"credentials": "locking", "enabled__exact": 1},
        ),
        Attention(
            CertificateAuthority,
            Tone.SOON,
            of["lists_lapsing"],
            _("Revocation lists that lapse within 7 days"),
            _("Load newer ones. A trust anchor may refuse everyone once its list is old."),
            {"list": "lapsing"},
        ),
    ]
    return [one for one in found if one.value and may_see(request, one.model)]


def _rises(counted: Counts) -> Iterator[Attention]:
    """Yield the reason whose refusals rose most against the 24 hours before, where one did."""
    now, before = Counter[str](), Counter[str]()
    first = first_hour(counted.at)
    for refusals in counted.refused:
        (now if refusals.hour >= first else before)[refusals.reason] += refusals.calls
    rises = {
        reason: calls - before[reason]
        for reason, calls in now.items()
        if calls >= NOTICED and calls > RISE * before[reason]
    }
    if rises:
        reason = max(rises, key=lambda name: rises[name])
        yield Attention(
            CallRecord,
            Tone.SOON,
            now[reason],
            _("Refused calls rose: %(reason)s") % {"reason": reasons().get(reason, reason)},
            _("%(now)d in the last 24 hours, %(before)d in the 24 hours before.")
            % {"now": now[reason], "before": before[reason]},
            {"reason": reason, "bucket__gte": first.isoformat()},
        )


def calls(counted: Counts) -> dict[str, Any]:
    """Return what the journal says of the last 24 hours: refusals, their reasons, who called."""
    first = first_hour(counted.at)
    by_hour, by_reason = Counter[datetime](), Counter[str]()
    lately = [refusals for refusals in counted.refused if refusals.hour >= first]
    for refusals in lately:
        by_hour[refusals.hour] += refusals.calls
        by_reason[refusals.reason] += refusals.calls
    hours = [
        Hour(begins, counted.allowed.get(begins, 0), by_hour[begins])
        for begins in (first + n * HOUR for n in range(24))
    ]
    allowed, refused = sum(hour.allowed for hour in hours), by_hour.total()
    listed = {"outcome__exact": CallOutcome.REFUSED.value}
    since = {**listed, "bucket__gte": first.isoformat()}
    labels = reasons()
    callers = sorted(CallRecord.objects.callers(), key=attrgetter("last"), reverse=True)
    return {
        "refused": refused,
        "allowed": allowed,
        "rows": sum(refusals.rows for refusals in lately),  # of the journal: each counts many
        "url": list_url(CallRecord, **since),
        "chart": hourly_bars(
            hours,
            title=_("Calls in each hour"),
            description=_(
                "%(allowed)d calls were allowed and %(total)d refused in the last 24 hours; most "
                "refused in one: %(most)d."
            )
            % {"allowed": allowed, "total": refused, "most": max(hour.refused for hour in hours)},
        ),
        "hours": [
            (hour, list_url(CallRecord, **listed, bucket__exact=hour.begins.isoformat()))
            for hour in hours
            if hour.allowed or hour.refused
        ],
        "reasons": [
            (str(labels.get(reason, reason)), count, list_url(CallRecord, reason=reason, **since))
            for reason, count in by_reason.most_common(MAX_REASONS)
        ],
        "callers": [
            (newest, list_url(CallRecord, caller=newest.caller, period="all"))
            for newest in callers[:MAX_CALLERS]
        ],
    }


def context(request: HttpRequest) -> dict[str, Any]:
    """Return what the start page shows to this user: only what the user may see."""
    counted = kept_if_slow("authsite.admin.home.counts", KEPT, counts)
    seen: dict[str, Any] = {"counted": counted}
    if may_see(request, Device):
        seen["device_figures"] = device_figures(counted)
        seen["no_devices"] = not counted.of["devices"]
        seen["may_add_device"] = may_add(request, Device)
    seen["attention"] = attention(request, counted)
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
