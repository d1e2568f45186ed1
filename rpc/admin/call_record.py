"""Staff's view of the journal of calls: a list to look through, fast whatever its length."""

from datetime import UTC, timedelta
from typing import Any

from django.conf import settings
from django.contrib import admin, messages
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import ValidationError
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _, gettext_lazy

from devices.admin.base.changelist import check_choices
from devices.admin.base.filters import LabelledFilter, parameters_besides
from devices.admin.base.history import EXPORTED, MAX_EXPORTED
from devices.admin.base.mixins import ReadOnlyMixin
from devices.admin.base.pages import OwnPagesMixin, download, is_key, may_view, own_page
from devices.admin.base.rendering import NOTHING, moment_column
from devices.models import Device, DeviceGroup
from devices.transfer.formats import Format
from devices.values.moments import parse_moment
from rpc.admin.panels import MAX_MEMBERS, answer_badge, calls_made_by
from rpc.exporting import export_calls
from rpc.models import ALLOWING, CallRecord, reasons

MAX_CALLERS = 50  # choices
MAX_LOOKED_AT = 5_000  # refused rows, the newest ones, whose reasons are choices
DAY = timedelta(days=1)
FIRST = moment_column("first", gettext_lazy("first"))
LAST = moment_column("last", gettext_lazy("Last"))
HOUR = moment_column("bucket", gettext_lazy("hour"))


class PeriodFilter(admin.SimpleListFilter):
    """Rows by when they count: the last hours or days, or between two moments in UTC.

    The last 24 hours unless something else is asked for, an hour itself included.
    """

    title = gettext_lazy("time")
    parameter_name = "period"
    template = "admin/rpc/period_filter.html"
    ends = ("from", "until")
    spans = {"1h": DAY / 24, "24h": DAY, "7d": 7 * DAY, "30d": 30 * DAY}
    usual = "24h"

    def __init__(self, request: HttpRequest, params: dict[str, Any], *args: Any) -> None:
        typed = {end: params.pop(end, [""])[-1] for end in self.ends}
        super().__init__(request, params, *args)
        self.typed = typed
        self.moments = {end: parse_moment(text, zone=UTC) for end, text in typed.items()}
        self.unreadable = [
            f"{end}: {text}" for end, text in typed.items() if text and self.moments[end] is None
        ]
        hours = any(name.startswith("bucket") for name in request.GET)
        self.chosen = self.value() or ("all" if hours or any(self.moments.values()) else self.usual)
        self.kept: list[tuple[str, str]] = []

    def expected_parameters(self) -> list[str | None]:
        return [self.parameter_name, *self.ends]

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [
            ("1h", _("Last hour")),
            ("24h", _("Last 24 hours")),
            ("7d", _("Last 7 days")),
            ("30d", _("Last 30 days")),
            ("all", _("Any time")),
        ]

    def choices(self, changelist: Any) -> Any:
        """Yield the choices; one of them is always made, if not by the moments that were typed."""
        between = any(self.moments.values())
        self.kept = parameters_besides(changelist, *self.expected_parameters())
        for value, label in self.lookup_choices:
            yield {
                "selected": self.chosen == value and not between,
                "query_string": changelist.get_query_string(
                    {str(self.parameter_name): value}, list(self.ends)
                ),
                "display": label,
            }

    def queryset(self, request: HttpRequest, queryset: Any) -> QuerySet[CallRecord]:
        span = self.spans.get(self.chosen)
        begin = self.moments["from"] or (timezone.now() - span if span else None)
        until = self.moments["until"]
        if begin is not None:
            queryset = queryset.since(begin).filter(last__gte=begin)
        if until is not None:
            queryset = queryset.filter(bucket__lte=until, first__lte=until)
        return queryset


class ReasonFilter(LabelledFilter):
    """Rows by reason; the choices are those of answers given of late."""

    title = gettext_lazy("reason")
    parameter_name = "reason"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        newest = CallRecord.objects.refused().order_by("-bucket", "-pk")
        seen = set(newest.values_list("reason", flat=True)[:MAX_LOOKED_AT])
        seen |= {*ALLOWING, self.value() or ""}
        return [(value, label) for value, label in reasons().items() if value in seen]

    def keep(self, queryset: Any, value: str) -> QuerySet[CallRecord]:
        """Return the rows of a choice; what it says of the outcome lets an index find them."""
        rows = queryset.allowed() if value in ALLOWING else queryset.refused()
        return rows.filter(reason=value)


class CallerFilter(LabelledFilter):
    """Rows by a caller that was let in; any other can be named in the address."""

    title = gettext_lazy("caller")
    parameter_name = "caller"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        names = [row.caller for row in CallRecord.objects.callers()[:MAX_CALLERS]]
        chosen = self.value()
        return [(name, name) for name in sorted({*names, *([chosen] if chosen else [])})]

    def keep(self, queryset: Any, value: str) -> QuerySet[CallRecord]:
        """Return the rows of a caller; of none, where no address was certain, for an empty one."""
        return queryset.filter(caller=value)


class GroupFilter(admin.SimpleListFilter):
    """Rows about devices of the group that a link names; without one there is no such filter."""

    title = gettext_lazy("group of the subject")
    parameter_name = "group"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        asked = self.value() or ""
        is_known = is_key(asked) and may_view(request, DeviceGroup)
        self.group = DeviceGroup.objects.filter(pk=asked).first() if is_known else None
        return [(asked, self.group)] if self.group else []

    def has_output(self) -> bool:
        """Show what a link has chosen, though it be gone."""
        return self.value() is not None

    def queryset(self, request: HttpRequest, queryset: Any) -> QuerySet[CallRecord]:
        """Keep the rows about the group's devices, as many as its page looks at."""
        if self.group is None:
            return queryset.none()
        return queryset.about_group(self.group, MAX_MEMBERS)


class CallChangeList(ChangeList):
    """Knows which of the identifiers on its page are registered, with one statement."""

    row_names = (gettext_lazy("row of the journal"), gettext_lazy("rows of the journal"))

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        self.result_list = list(self.result_list)
        name_devices(self.result_list)


def name_devices(rows: list[CallRecord]) -> None:
    """Note, in each row, the registered devices that it names."""
    named = {name for row in rows for name in (row.subject, row.destination, row.caller) if name}
    found = dict(Device.objects.filter(identifier__in=named).values_list("identifier", "pk"))
    for row in rows:
        row.devices = found


def device_link(row: CallRecord, identifier: str) -> SafeString | str:
    """Return an identifier, as a link to its device where there is one."""
    pk = row.devices.get(identifier)
    if pk is None:
        return identifier or NOTHING
    url = reverse("admin:devices_device_change", args=[pk])
    return format_html('<a href="{}">{}</a>', url, identifier)


@admin.register(CallRecord)
class CallRecordAdmin(OwnPagesMixin, ReadOnlyMixin):
    list_display = [LAST, "answer", "why", "subject_link", "asked", "count", "caller_link"]
    list_display_links = [LAST]
    linked_lookups = ("bucket__exact", "bucket__gte", "bucket__lt")
    list_filter = [
        PeriodFilter,
        "outcome",
        ReasonFilter,
        "endpoint",
        "question",
        CallerFilter,
        GroupFilter,
        "others",
    ]
    sortable_by = ()  # any other order would sort the whole journal
    list_per_page = 50
    show_facets = admin.ShowFacets.NEVER
    search_fields = ["subject", "destination", "command"]
    purpose = gettext_lazy(
        "The journal counts what machines asked and what they were answered, hour by hour. It "
        "fills by itself once a backend calls."
    )
    search_help_text = gettext_lazy(
        "Search by how a device's identifier begins, or a command: /v1/Config.Get. Only the time "
        "chosen beside is searched."
    )
    actions = None
    fieldsets = [
        (None, {"fields": ["answer", "why", "rule_link", "count", FIRST, LAST, HOUR]}),
        (
            gettext_lazy("What was asked"),
            {"fields": ["question", "subject_link", "command", "destination_link"]},
        ),
        (gettext_lazy("By whom"), {"fields": ["caller_link", "endpoint", "request"]}),
    ]

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return CallChangeList

    def get_object(self, *args: Any, **kwargs: Any) -> CallRecord | None:
        row: CallRecord | None = super().get_object(*args, **kwargs)
        if row is not None:
            name_devices([row])
        return row

    def get_search_results(
        self, request: HttpRequest, queryset: Any, search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Find rows by an index: the words of a search are no words within a text here."""
        term = search_term.strip()
        if term.startswith("/") and not term.startswith("//"):
            return queryset.filter(Q(command__startswith=term)), False
        return queryset.about_prefix(term) if term else queryset, False

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Say what the list does not show: calls without a row of their own, calls not counted.

        The calls of one caller are drawn by hour above it.
        """
        others = CallRecord.objects.filter(others=True).since(timezone.now() - DAY)
        caller = request.GET.get(CallerFilter.parameter_name)
        extra = {
            "shown": calls_made_by(caller) if caller else {},
            "title": _("Journal of calls"),
            "others_total": others.total(),
            "query": request.GET.urlencode(),
            "formats": EXPORTED,
            "journal_is_off": not settings.JOURNAL,
        }
        return super().changelist_view(request, extra | (extra_context or {}))

    @own_page("export/", needs="view")
    def export_calls(self, request: HttpRequest) -> HttpResponseBase:
        """Return the calls of the list, as filtered and searched, as a file."""
        query = request.GET.copy()
        wanted = query.pop("format", [""])[-1]
        kind = Format(wanted) if wanted in EXPORTED else Format.CSV
        request.GET = query  # type: ignore[assignment]
        back = f"{reverse('admin:rpc_callrecord_changelist')}?{query.urlencode()}"
        try:
            listed: Any = self.get_changelist_instance(request)
            check_choices(listed)
            export = export_calls(listed.queryset, kind, most=MAX_EXPORTED)
        except IncorrectLookupParameters:
            messages.error(request, _("Nothing was exported: the list cannot be narrowed so."))
            return HttpResponseRedirect(reverse("admin:rpc_callrecord_changelist"))
        except ValidationError as error:
            messages.error(request, " ".join(error.messages))
            return HttpResponseRedirect(back)
        return download(export.file, f"calls-{timezone.now():%Y%m%d-%H%M%S}.{kind}", kind)

    @admin.display(description=gettext_lazy("Answer"))
    def answer(self, row: CallRecord) -> SafeString:
        return answer_badge(row)

    @admin.display(description=gettext_lazy("Reason"))
    def why(self, row: CallRecord) -> str:
        return row.why

    @admin.display(description=gettext_lazy("Subject"))
    def subject_link(self, row: CallRecord) -> SafeString | str:
        return device_link(row, row.subject)

    @admin.display(description=gettext_lazy("Command"))
    def asked(self, row: CallRecord) -> SafeString | str:
        if not row.destination:
            return row.command or NOTHING
        return format_html("{} → {}", row.command, device_link(row, row.destination))

    @admin.display(description=gettext_lazy("Receiver"))
    def destination_link(self, row: CallRecord) -> SafeString | str:
        return device_link(row, row.destination)

    @admin.display(description=gettext_lazy("Caller"))
    def caller_link(self, row: CallRecord) -> SafeString | str:
        return device_link(row, row.caller)

    @admin.display(description=gettext_lazy("Rule"))
    def rule_link(self, row: CallRecord) -> SafeString | str:
        """Return the rule that decided last; it may be gone by now."""
        if row.rule is None:
            return NOTHING
        url = reverse("admin:acl_commandpermission_change", args=[row.rule])
        return format_html('<a href="{}">#{}</a>', url, str(row.rule))
