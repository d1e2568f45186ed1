"""Lists: what narrows them, bounded counts, filters that count, columns computed for one page."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, timedelta
from functools import cached_property
from typing import Any, cast

from django.contrib import admin
from django.contrib.admin.utils import label_for_field
from django.contrib.admin.views.main import ORDER_VAR, PAGE_VAR, ChangeList
from django.core.exceptions import EmptyResultSet, FieldDoesNotExist, PermissionDenied
from django.core.paginator import Paginator
from django.db import connection
from django.db.models import Exists, Model, OuterRef, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict
from django.template.loader import get_template
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import number_format
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext as _, gettext_lazy

from devices.admin.base.pages import OwnPagesMixin, own_page
from devices.admin.base.rendering import SOON
from devices.models import Device, DeviceGroup, ListColumns, Membership
from devices.models.credential_state import (
    credential_state,
    has_credential_ending_before,
    has_expired_credentials_only,
    has_usable_credential,
    holds_one_of,
    is_locked_out_before,
    lacks_credential,
    lacks_live_credential,
    lacks_usable_credential,
    next_expiry,
)
from devices.moments import parse_moment

MAX_LISTED = 10_000  # rows that the pages of a list reach; a search or a filter reaches the rest
MAX_COUNTED = 10_000  # rows that a filter counts for one choice
MAX_UNASKED = 200  # rows of a search, of a long list, among which filters count without being asked
MAX_NAMED = 1_000  # rows that are found and then named by their keys, not looked for again
MAX_SCANNED = 50_000  # rows in which a search looks for a text anywhere unless told to
MAX_GROUPS = 15  # that are choices of a filter
ANYWHERE = "*"  # at the beginning of a search: look everywhere, not at beginnings only


@dataclass(frozen=True, slots=True)
class Chip:
    """One thing that narrows a list, and the address of the list without it."""

    title: str
    value: str
    without: str


@dataclass(frozen=True, slots=True)
class Narrowed:
    """What a list could be narrowed by, as drawn, and what it is narrowed by now."""

    filters: list[SafeString]
    chips: list[Chip]


def narrowed(cl: Any) -> Narrowed:
    """Return the filters of a list, each as its own template draws it, and those in use."""
    filters, chips, known = [], [], set()
    for spec in cl.filter_specs:
        choices = list(spec.choices(cl))
        drawn = {"title": spec.title, "choices": choices, "spec": spec}
        filters.append(mark_safe(get_template(spec.template).render(drawn)))  # noqa: S308 (escaped)
        parameters = [name for name in spec.expected_parameters() if name in cl.filter_params]
        known |= set(parameters)
        if parameters:
            chosen = ", ".join(str(one["display"]) for one in choices if one["selected"])
            without = cl.get_query_string(remove=parameters)
            chips.append(Chip(str(spec.title), chosen or "…", without))
    for name, values in cl.get_filters_params().items():
        if name not in known and values:
            chips.append(_linked(cl, name, values))
    return Narrowed(filters, chips)


def _linked(cl: Any, name: str, values: list[str]) -> Chip:
    """Return what a link from another page narrows a list by."""
    try:
        field = cl.opts.get_field(name.partition("__")[0])
    except FieldDoesNotExist:
        return Chip(name, ", ".join(values), cl.get_query_string(remove=[name]))
    value = ", ".join(values)
    if field.is_relation and value.isdecimal():
        row = field.related_model._default_manager.filter(pk=value).first()
        value = value if row is None else str(row)
    if (found := parse_moment(value)) is not None:
        text = _("before %(moment)s") if name.endswith("__lt") else _("since %(moment)s")
        value = text % {"moment": f"{found.astimezone(UTC):%Y-%m-%d %H:%M} UTC"}
    title = getattr(field, "verbose_name", name)
    return Chip(str(title), value, cl.get_query_string(remove=[name]))


def hits(cl: Any) -> str:
    """Return how many rows a list has: exactly, or in words that say that it is not exact."""
    count = cl.result_count
    names = {"one": cl.opts.verbose_name, "many": cl.opts.verbose_name_plural}
    shown = number_format(count, force_grouping=True)
    if getattr(cl.paginator, "is_capped", False):
        about = _estimate(cl)
        if about > count:
            return _("About %(n)s %(many)s") % {
                **names,
                "n": number_format(about, force_grouping=True),
            }
        return _("More than %(n)s %(many)s") % {**names, "n": shown}
    return f"{shown} {names['one'] if count == 1 else names['many']}"


def _estimate(cl: Any) -> int:
    """Return what PostgreSQL believes that the whole table has; 0 where only some are listed."""
    if connection.vendor != "postgresql" or cl.query or cl.get_filters_params():
        return 0
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT reltuples::bigint FROM pg_class WHERE oid = %s::regclass",
            [cl.opts.db_table],
        )
        row: tuple[int] = cursor.fetchone()
    digits = max(len(str(row[0])) - 3, 0)  # what is estimated is not shown to the last digit
    return round(row[0], -digits)


class BoundedPaginator(Paginator):
    """Pages of the first MAX_LISTED rows: counting a million takes longer than showing fifty."""

    @property
    def found(self) -> int:
        """How many rows there are, up to one more than are listed; counted once a list."""
        listed: Any = self.object_list
        kept = vars(listed)
        if "found" not in kept:
            rows: QuerySet[Any] = kept.get("counted_as", listed)
            kept["found"] = rows.order_by()[: MAX_LISTED + 1].count()
        found: int = kept["found"]
        return found

    @property
    def is_capped(self) -> bool:
        """Whether there are more rows than the pages reach."""
        return self.found > MAX_LISTED

    @cached_property
    def count(self) -> int:
        """How many rows the pages reach."""
        return min(self.found, MAX_LISTED)


def keys_of(rows: QuerySet[Any]) -> list[Any]:
    """Return the primary keys of rows, up to one more than are listed."""
    return list(rows.order_by().values_list("pk", flat=True)[: MAX_LISTED + 1])


def is_large(model: type[Model]) -> bool:
    """Whether a table has more rows than a search looks through at once."""
    return model._default_manager.order_by()[: MAX_SCANNED + 1].count() > MAX_SCANNED


class OrderedChangeList(ChangeList):
    """Sorts what its pages reach by any column, and more rows only by what an index sorts.

    What narrows the list is looked for once, not once for the count and once for the page.
    """

    found_keys: Sequence[Any] = ()  # of the rows that are found, one more than are listed at most

    def get_results(self, request: HttpRequest) -> None:
        """Leave an order aside that would sort more rows than the pages reach."""
        if self.query or self.get_filters_params():
            rows = vars(self.queryset).get("counted_as", self.queryset)
            self.found_keys = keys_of(rows)
            if len(self.found_keys) <= MAX_NAMED:
                self.queryset = self.queryset.filter(pk__in=self.found_keys)
            vars(self.queryset)["found"] = len(self.found_keys)
        paginator: Any = self.model_admin.get_paginator(request, self.queryset, self.list_per_page)
        if getattr(paginator, "is_capped", False) or self.counts_many():
            self.sortable_by = [name for name in self._sortable() if self._is_quick(name)]
            asked = self.queryset.query.order_by
            if ORDER_VAR in self.params and not all(map(self._has_index, asked)):
                del self.params[ORDER_VAR]
                usual = self.get_ordering(request, self.root_queryset.order_by())
                found = paginator.found
                self.queryset = self.queryset.order_by(*usual)
                vars(self.queryset)["found"] = found
        super().get_results(request)

    def counts_many(self) -> bool:
        """Whether a column sorts by what takes long to count, however few rows there are."""
        return False

    def _sortable(self) -> Sequence[Any]:
        shown = map(column_key, self.list_display)
        return [name for name in shown if self.sortable_by is None or name in self.sortable_by]

    def _is_quick(self, name: str) -> bool:
        field = self.get_ordering_field(name)
        return field is not None and self._has_index(field)

    def _has_index(self, order: Any) -> bool:
        """Whether an order is that of an index over the whole table."""
        name = str(order).removeprefix("-")
        if name == "pk":
            return True
        try:
            field = self.lookup_opts.get_field(name)
        except FieldDoesNotExist:
            return False
        if field.is_relation:
            return False  # it is sorted by what the related row is called
        indexes = self.lookup_opts.indexes
        leading = [one.fields[0] for one in indexes if one.fields and one.condition is None]
        unique = [one.fields[0] for one in self.lookup_opts.total_unique_constraints]
        whole = getattr(field, "unique", False) or getattr(field, "db_index", False)
        return whole or name in {one.removeprefix("-") for one in (*leading, *unique)}


class BoundedListMixin(admin.ModelAdmin):
    """Keeps a list quick however many rows it has; the site gives it to every admin."""

    paginator = BoundedPaginator
    show_full_result_count = False

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        """Return the list of the admin, or in place of Django's one that sorts within bounds."""
        found: type[ChangeList] = super().get_changelist(request, **kwargs)
        return OrderedChangeList if found is ChangeList else found


class BoundedChangeList(OrderedChangeList):
    """Counts what each filter leaves where few rows are found, and offers to where many are."""

    request: HttpRequest

    def get_filters(self, request: HttpRequest) -> Any:
        """Leave it to `get_queryset` what filters with counts keep."""
        found: Any = super().get_filters(request)
        for one in found[0]:
            if isinstance(one, CountedFilter):
                one.is_deferred = True
        return found

    def get_queryset(self, request: HttpRequest, exclude_parameters: Any = None) -> QuerySet[Any]:
        """Return the rows that are found, and note how they are counted.

        A page is found quickest by walking the index of identifiers, a count by beginning with the
        few rows that can match at all.
        """
        found: QuerySet[Any] = super().get_queryset(request, exclude_parameters)
        counted = found
        for one in self.filter_specs:
            if isinstance(one, CountedFilter):
                found, counted = one.narrowed(found), one.narrowed(counted, to_count=True)
        vars(found)["counted_as"] = counted
        return found

    def get_results(self, request: HttpRequest) -> None:
        """Find the rows of the page; decide whether to count."""
        super().get_results(request)
        self.request = request
        is_few = bool(self.query) and len(self.searched_keys) <= MAX_UNASKED
        is_small = is_few or self.root_queryset.order_by()[: MAX_COUNTED + 1].count() <= MAX_COUNTED
        self.add_facets = self.add_facets or is_small
        self.is_facets_optional = self.is_facets_optional and not is_small

    @cached_property
    def searched(self) -> QuerySet[Any]:
        """What the search finds, before any filter."""
        if self.searched_few:
            return self.root_queryset.filter(pk__in=self.searched_keys)
        return self._searched_all()

    def _searched_all(self) -> QuerySet[Any]:
        found, _duplicates = self.model_admin.get_search_results(
            self.request, self.root_queryset, self.query
        )
        return found

    @cached_property
    def searched_keys(self) -> Sequence[Any]:
        """The keys of what the search finds, before any filter."""
        return keys_of(self._searched_all()) if self.get_filters_params() else self.found_keys

    @property
    def searched_few(self) -> bool:
        """Whether there is a search that finds few rows: they are counted without another."""
        return bool(self.query) and len(self.searched_keys) <= MAX_NAMED

    def left_by_others(self, filter_: admin.ListFilter) -> QuerySet[Any]:
        """Return the rows that the search and all other filters leave."""
        rows = self.searched
        for other in self.filter_specs:
            if other is not filter_:
                rows = cast(CountedFilter, other).narrowed(rows, to_count=True)
        return rows


class DeviceChangeList(BoundedChangeList):
    """Finds the rows of a page by their plain columns, then computes the others for these rows."""

    def get_results(self, request: HttpRequest) -> None:
        """Describe the devices of the page."""
        super().get_results(request)
        found = list(self.result_list.values_list("pk", flat=True))
        now = timezone.now()
        rows = (
            Device.objects.annotate(
                credential_state=credential_state(now), next_expiry=next_expiry(now)
            )
            .prefetch_related("groups")
            .in_bulk(found)
        )
        self.result_list = [rows[pk] for pk in found if pk in rows]


def column_key(column: Any) -> str:
    """Return what a column of a list is stored under."""
    return column if isinstance(column, str) else str(column.__name__)


class ChosenColumnsMixin(OwnPagesMixin):
    """Shows each member of staff the columns that were chosen for a list; the first always stays.

    `list_display` are those of whoever chose none; `more_columns` are offered beside them. An admin
    with columns that depend on the registry adds to `offered_columns`.
    """

    more_columns: Sequence[Any] = ()

    def offered_columns(self, request: HttpRequest) -> list[Any]:
        """Return every column that the list can show, in the order of the list."""
        return [*self.list_display, *self.more_columns]

    def get_list_display(self, request: HttpRequest) -> list[Any]:
        """Return the columns that this account chose, or the usual ones."""
        usual = [*super().get_list_display(request)]
        chosen = self._chosen(request)
        if chosen is None:
            return usual
        first, *others = self.offered_columns(request)
        return [first, *(column for column in others if column_key(column) in chosen)]

    def _chosen(self, request: HttpRequest) -> list[str] | None:
        kept = vars(request).setdefault("chosen_columns", {})
        listed = self.opts.label_lower
        if listed not in kept:
            kept[listed] = ListColumns.objects.of(request.user, listed)
        found: list[str] | None = kept[listed]
        return found

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> Any:
        """List rows; say which columns there are to choose from."""
        shown = {column_key(column) for column in self.get_list_display(request)}
        columns = [
            {
                "key": column_key(column),
                "label": label_for_field(column, self.model, self),
                "shown": column_key(column) in shown,
            }
            for column in self.offered_columns(request)[1:]
        ]
        return super().changelist_view(request, {"columns": columns, **(extra_context or {})})

    @own_page("columns/", "columns")
    def choose_columns(self, request: HttpRequest) -> HttpResponse:
        """Keep the columns that were ticked for this account, and go back to the list."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        if request.method == "POST":
            offered = {column_key(column) for column in self.offered_columns(request)}
            ticked = [key for key in request.POST.getlist("column") if key in offered]
            chosen = None if "usual" in request.POST else ticked
            ListColumns.objects.choose(request.user, self.opts.label_lower, chosen)
        back = QueryDict(request.POST.get("list", ""), mutable=True)
        for place in (ORDER_VAR, PAGE_VAR):  # they count columns and pages of the list as it was
            back.pop(place, None)
        name = f"admin:{self.opts.app_label}_{self.opts.model_name}_changelist"
        return HttpResponseRedirect(f"{reverse(name)}?{back.urlencode()}")


def counts(querysets: Iterable[QuerySet[Any]]) -> list[int]:
    """Count each, up to one more than MAX_COUNTED, in one statement."""
    columns: list[str] = []
    parameters: list[Any] = []
    for queryset in querysets:
        rows = queryset.order_by().values("pk")[: MAX_COUNTED + 1]
        try:
            # Not documented: test_filters_count_what_they_would_leave fails where it goes.
            sql, given = rows.query.sql_with_params()
        except EmptyResultSet:
            columns.append("0")
            continue
        columns.append(f"(SELECT COUNT(*) FROM ({sql}) rows)")  # noqa: S608 (the ORM's own)
        parameters += given
    if not columns:
        return []
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {', '.join(columns)}", parameters)
        row: tuple[int, ...] = cursor.fetchone()
    return list(row)


def count_text(count: int) -> str:
    """Return a count as a filter shows it."""
    return f"{MAX_COUNTED:,}+" if count > MAX_COUNTED else f"{count:,}"


class CountedFilter(admin.SimpleListFilter):
    """Choices with the number of rows that each would leave, counted in one statement."""

    is_deferred = False  # whether the list keeps the rows of the choice that was made

    def keep(self, queryset: Any, value: str) -> QuerySet[Any]:
        """Return the rows of a choice."""
        raise NotImplementedError

    def keep_to_count(self, queryset: Any, value: str) -> QuerySet[Any]:
        """Return the same rows, so that they are counted quickest."""
        return self.keep(queryset, value)

    def narrowed(self, queryset: QuerySet[Any], *, to_count: bool = False) -> QuerySet[Any]:
        """Return the rows of the choice that was made; all where none was."""
        value = self.value()
        if value is None:
            return queryset
        return (self.keep_to_count if to_count else self.keep)(queryset, value)

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Keep the rows of the choice that was made, where the list does not do it itself."""
        return queryset if self.is_deferred else self.narrowed(queryset)

    def get_facet_queryset(self, changelist: Any) -> dict[str, Any]:
        """Count the rows of each choice among those that the other filters leave."""
        rows = changelist.left_by_others(self)
        kept = (self.keep_to_count(rows, str(value)) for value, _label in self.lookup_choices)
        found = counts(kept)
        return {f"{n}__c": count_text(count) for n, count in enumerate(found)}


class StateFilter(CountedFilter):
    """Devices by whether they may connect at all."""

    title = gettext_lazy("state")
    parameter_name = "enabled__exact"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        """Return the choices."""
        return [("1", _("Enabled")), ("0", _("Disabled"))]

    def keep(self, queryset: Any, value: str) -> QuerySet[Device]:
        """Return the devices of a choice."""
        return queryset.enabled() if value == "1" else queryset.disabled()


class KindFilter(CountedFilter):
    """Devices by kind."""

    title = gettext_lazy("kind")
    parameter_name = "kind__exact"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        """Return the choices."""
        return [*Device.Kind.choices]

    def keep(self, queryset: Any, value: str) -> QuerySet[Device]:
        """Return the devices of a choice."""
        return queryset.filter(kind=value)


class CredentialsFilter(CountedFilter):
    """Devices by what they can show."""

    title = gettext_lazy("credentials")
    parameter_name = "credentials"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        """Return the choices."""
        return [
            ("usable", _("A usable one")),
            ("ending", _("One ends within 30 days")),
            ("locking", _("The last one ends within 30 days")),
            ("unusable", _("No usable one")),
            ("expired", _("Only expired ones")),
            ("none", _("None on record")),
        ]

    def keep(self, queryset: Any, value: str) -> QuerySet[Device]:
        """Return the devices of a choice."""
        now = timezone.now()
        if value == "usable":
            return queryset.filter(has_usable_credential(now))
        if value == "ending":
            return queryset.filter(has_credential_ending_before(now + SOON, now=now))
        if value == "locking":
            return queryset.filter(is_locked_out_before(now + SOON, now=now))
        if value == "unusable":
            return queryset.filter(lacks_usable_credential(now))
        if value == "expired":
            return queryset.filter(has_expired_credentials_only(now))
        return queryset.filter(lacks_credential()) if value == "none" else queryset.none()

    def keep_to_count(self, queryset: Any, value: str) -> QuerySet[Device]:
        """Begin with the holders of the few credentials that end soon, or have ended."""
        now = timezone.now()
        if value in {"ending", "locking"}:
            rows = queryset.filter(holds_one_of("ending_before", now + SOON, now=now))
            return rows.filter(lacks_live_credential(now + SOON)) if value == "locking" else rows
        if value == "expired":
            rows = queryset.filter(holds_one_of("expired_at", now))
            return rows.filter(lacks_live_credential(now))
        return self.keep(queryset, value)


class SeenFilter(CountedFilter):
    """Devices by when a credential last admitted them."""

    title = gettext_lazy("last seen")
    parameter_name = "seen"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        """Return the choices."""
        return [
            ("24h", _("Within 24 hours")),
            ("7d", _("Within 7 days")),
            ("before-30d", _("Over 30 days ago")),
            ("never", _("Never")),
        ]

    def keep(self, queryset: Any, value: str) -> QuerySet[Device]:
        """Return the devices of a choice."""
        now = timezone.now()
        if value == "24h":
            return queryset.seen_since(now - timedelta(hours=24))
        if value == "7d":
            return queryset.seen_since(now - timedelta(days=7))
        if value == "before-30d":
            return queryset.not_seen_since(now - timedelta(days=30))
        return queryset.never_seen() if value == "never" else queryset.none()


class GroupFilter(CountedFilter):
    """Devices by a group that they are in; the list of groups leads to those left out here."""

    title = gettext_lazy("group")
    parameter_name = "group"
    more = False

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        """Return the first groups by name, and the one that was chosen."""
        first = list(DeviceGroup.objects.values_list("pk", "name")[: MAX_GROUPS + 1])
        self.more = len(first) > MAX_GROUPS
        choices = [(str(pk), name) for pk, name in first[:MAX_GROUPS]]
        chosen = self.value() or ""
        if chosen.isdecimal() and chosen not in dict(choices):
            rows = DeviceGroup.objects.filter(pk=chosen).values_list("pk", "name")
            choices = [(str(pk), name) for pk, name in rows] + choices
        return [*choices, ("none", _("In no group"))] if choices else []

    def keep(self, queryset: Any, value: str) -> QuerySet[Device]:
        """Return the devices of a choice."""
        if value == "none":
            return queryset.filter(~Exists(Membership.objects.filter(device=OuterRef("pk"))))
        return queryset.filter(groups=value) if value.isdecimal() else queryset.none()

    def choices(self, changelist: Any) -> Any:
        """Lead to the list of groups where there are more of them."""
        yield from super().choices(changelist)
        if self.more:
            yield {
                "selected": False,
                "query_string": reverse("admin:devices_devicegroup_changelist"),
                "display": _("More groups…"),
            }


class CredentialStateFilter(admin.SimpleListFilter):
    """Credentials by whether they admit their device; their QuerySet has `live_at`."""

    title = gettext_lazy("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        """Return the choices."""
        return [
            ("live", _("Live")),
            ("expiring", _("Expires within 30 days")),
            ("expired", _("Expired")),
            ("revoked", _("Revoked")),
        ]

    def queryset(self, request: HttpRequest, queryset: Any) -> QuerySet[Any]:
        """Keep the credentials of the choice."""
        now = timezone.now()
        live = queryset.live_at(now)
        choices: dict[str | None, QuerySet[Any]] = {
            "live": live,
            "expiring": live.filter(not_after__lte=now + SOON),
            "expired": queryset.expired_at(now),
            "revoked": queryset.revoked(),
        }
        return choices.get(self.value(), queryset)
