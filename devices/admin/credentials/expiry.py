"""The expiry calendar: what will lock devices out, week by week, and the lists behind each week."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import partial
from typing import Any, NamedTuple

from django.contrib.admin import AdminSite
from django.core.exceptions import PermissionDenied
from django.db.models import Count, QuerySet
from django.db.models.functions import TruncWeek
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _, gettext_lazy

from devices.admin.base.charts import Week, week_calendar
from devices.admin.base.figures import Figures, kept_if_slow
from devices.admin.base.filters import LabelledFilter
from devices.admin.base.pages import site_page, url_name
from devices.models import Certificate, CertificateAuthority, PreSharedKey
from devices.models.credentials.authority import CRLPolicy
from devices.models.credentials.state import locking_out

WEEK = timedelta(days=7)
WEEKS = 53  # the last one holds this day of next year
MAX_LOOKED_AT = 200_000  # credentials of a kind: those that end first
KEPT = 300  # seconds that figures are
SPANS = {"7d": timedelta(days=7), "30d": timedelta(days=30)}


def monday(moment: datetime) -> date:
    """Return the day, in UTC, on which the week of a moment began."""
    day = moment.astimezone(UTC).date()
    return day - timedelta(days=day.weekday())


def midnight(day: date) -> datetime:
    """Return the beginning of a day in UTC."""
    return datetime.combine(day, time.min, UTC)


def period(text: str, now: datetime) -> tuple[datetime, datetime] | None:
    """Return the time that an address means: days from now, or the week from a day on."""
    if text in SPANS:
        return now, now + SPANS[text]
    try:
        begin = midnight(date.fromisoformat(text))
        return max(begin, now), begin + WEEK
    except (ValueError, OverflowError):
        return None


class EndsFilter(LabelledFilter):
    """Rows that will admit nobody from some moment on, and with which devices lose their access."""

    title = gettext_lazy("locks devices out")
    parameter_name = "ends"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        choices = [("7d", _("Within 7 days")), ("30d", _("Within 30 days"))]
        asked = self.value()
        if asked is None or asked in SPANS:
            return choices
        return [*choices, (asked, _("In the week from %(day)s") % {"day": asked})]

    def keep(self, queryset: Any, value: str) -> QuerySet[Any]:
        found = period(value, timezone.now())
        if found is None:
            return queryset.none()
        if queryset.model is CertificateAuthority:
            return queryset.ending(*found)
        return locking_out(queryset, *found)


@dataclass(frozen=True)
class Counted(Figures):
    """How many rows lock devices out in each week.

    `until` says how far, where there were too many to look at all.
    """

    weeks: Mapping[date, int]
    until: datetime | None = None


class Section(NamedTuple):
    """The calendar of one kind of rows: what it is, its picture, and its weeks that have any."""

    title: str
    note: str
    chart: SafeString
    weeks: list[Week]
    total: int
    counted: Counted


def _credentials(model: Any, now: datetime, until: datetime) -> Counted:
    """Return how many keys or certificates lock a device out in each week."""
    candidates = model.objects.ending_before(until, now=now).order_by("not_after")
    cut = candidates.values_list("not_after", flat=True)[MAX_LOOKED_AT : MAX_LOOKED_AT + 1].first()
    locking = locking_out(model.objects.order_by(), now, cut or until)
    week = TruncWeek("not_after", tzinfo=UTC)
    weeks = locking.annotate(week=week).values_list("week").annotate(rows=Count("pk"))
    return Counted(now, {monday(begins): count for begins, count in weeks}, cut)


def _anchors(now: datetime, until: datetime) -> Counted:
    """Return how many trust anchors refuse from some moment of each week on."""
    counted: Counter[date] = Counter()
    rows = CertificateAuthority.objects.order_by().ending(now, until)
    for ends, lapses, policy in rows.values_list(
        "not_after", "revocation_list__next_update", "crl_policy"
    ):
        moments = [ends, lapses if policy != CRLPolicy.WARN else None]
        counted.update({monday(one) for one in moments if one is not None and now <= one < until})
    return Counted(now, counted)


def sections(request: HttpRequest, now: datetime) -> list[Section]:
    """Return a calendar of each kind of rows that this user may see."""
    first = monday(now)
    until = midnight(first + WEEKS * WEEK)
    kinds: list[tuple[Any, str, str]] = [
        (PreSharedKey, _("Keys"), _("The last credential of a device is a key that ends.")),
        (
            Certificate,
            _("Certificates"),
            _("The last credential of a device is a certificate that ends."),
        ),
        (
            CertificateAuthority,
            _("Trust anchors"),
            _("The anchor ends, or its revocation list lapses and it then refuses everyone."),
        ),
    ]
    found = []
    for model, title, note in kinds:
        name = model._meta.model_name
        if not request.user.has_perm(f"devices.view_{name}"):
            continue
        if model is CertificateAuthority:
            counted = _anchors(now, until)
        else:
            key = f"{__name__}.{name}.{until:%Y-%m-%d}"
            counted = kept_if_slow(key, KEPT, partial(_credentials, model, now, until))
        listed = reverse(url_name(model._meta, "changelist"))
        weeks = []
        for number in range(WEEKS):
            begins = first + number * WEEK
            known = counted.until is None or midnight(begins + WEEK) <= counted.until
            count = counted.weeks.get(begins, 0) if known else None
            weeks.append(Week(begins, count, f"{listed}?ends={begins}"))
        total = sum(week.total or 0 for week in weeks)
        chart = week_calendar(weeks, name=str(name), title=title, description=note)
        shown = [week for week in weeks if week.total]
        found.append(Section(title, note, chart, shown, total, counted))
    return found


def calendar_page(site: AdminSite, request: HttpRequest) -> HttpResponse:
    """Draw what locks devices out within a year; PermissionDenied where its reader may see none."""
    now = timezone.now()
    found = sections(request, now)
    if not found:
        raise PermissionDenied
    return site_page(
        site, request, "admin/devices/expiry.html", title=_("Expiry calendar"), sections=found
    )
