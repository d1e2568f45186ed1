"""Lists that stay quick with a million rows: what narrows them, how far they go and sort."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple, cast

from django.contrib import admin
from django.contrib.admin.views.main import ORDER_VAR, ChangeList
from django.core.exceptions import BadRequest, FieldDoesNotExist, ValidationError
from django.core.paginator import Paginator
from django.db import connection
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.template.loader import get_template
from django.utils.formats import number_format
from django.utils.safestring import mark_safe
from django.utils.translation import gettext as _

from devices.admin.base.filters import MAX_COUNTED, CountedFilter
from devices.admin.base.lists import column_key
from devices.admin.base.pages import is_key
from devices.values.moments import in_utc, parse_moment
from devices.values.text import joined, labelled, number_of

MAX_LISTED = 10_000  # rows that the pages of a list reach; a search or a filter reaches the rest
MAX_UNASKED = 200  # rows of a search, of a long list, among which filters count without being asked
MAX_NAMED = 1_000  # rows that are found and then named by their keys, not looked for again
MAX_SCANNED = 50_000  # rows in which a search looks for a text anywhere unless told to
MAX_SEARCHED = 255  # characters of a search, as the fields for it take; a word costs a condition
ANYWHERE = "*"  # at the beginning of a search: look everywhere, not at beginnings only


class Chip(NamedTuple):
    """One thing that narrows a list, and the address of the list without it."""

    title: str
    value: str
    without: str


def narrowed(cl: Any) -> dict[str, Any]:
    """Return the `filters` of a list, as their templates draw them, and `chips` of those in use."""
    filters, chips, known = [], [], set()
    for spec in cl.filter_specs:
        choices = list(spec.choices(cl))
        drawn = {"title": spec.title, "choices": choices, "spec": spec}
        filters.append(mark_safe(get_template(spec.template).render(drawn)))  # noqa: S308 (escaped)
        parameters = [name for name in spec.expected_parameters() if name in cl.filter_params]
        known |= set(parameters)
        if parameters:
            chosen = joined(one["display"] for one in choices if one["selected"])
            without = cl.get_query_string(remove=parameters)
            chips.append(Chip(str(spec.title), chosen or "…", without))
    for name, values in cl.get_filters_params().items():
        if name not in known and values:
            chips.append(_linked(cl, name, values))
    return {"filters": filters, "chips": chips}


def check_choices(cl: Any) -> None:
    """Raise ValidationError where a list is narrowed by what is not there, such as a deleted group.

    The list shows that and no row; a file without rows would look like an answer.
    """
    unknown: list[str] = []
    for spec in cl.filter_specs:
        unknown += getattr(spec, "unreadable", ())
        value = spec.value() if isinstance(spec, admin.SimpleListFilter) else None
        if value is not None and value not in {str(one) for one, _label in spec.lookup_choices}:
            unknown.append(labelled(spec.title, value))
    for name, values in cl.get_filters_params().items():
        unknown += (labelled(name, value) for value in values if not _is_there(cl, name, value))
    if unknown:
        raise ValidationError(
            _("Nothing was exported: the list is narrowed by what is not there (%(names)s)."),
            params={"names": joined(unknown)},
        )


def _is_there(cl: Any, name: str, value: str) -> bool:
    """Whether a row or a choice is there that a parameter of a list names; others always are."""
    name, _separator, lookup = name.partition("__")
    try:
        field = cl.opts.get_field(name)
    except FieldDoesNotExist:
        return True
    if field.is_relation and is_key(value):
        return bool(field.related_model._default_manager.filter(pk=value).exists())
    choices = dict(getattr(field, "flatchoices", ()))
    return not choices or lookup not in {"", "exact"} or value in choices


def _linked(cl: Any, name: str, values: list[str]) -> Chip:
    """Return what a link from another page narrows a list by."""
    try:
        field = cl.opts.get_field(name.partition("__")[0])
    except FieldDoesNotExist:
        return Chip(name, joined(values), cl.get_query_string(remove=[name]))
    value = joined(values)
    if field.is_relation and is_key(value):
        row = field.related_model._default_manager.filter(pk=value).first()
        value = value if row is None else str(row)
    if (found := parse_moment(value)) is not None:
        text = _("before %(moment)s") if name.endswith("__lt") else _("since %(moment)s")
        value = text % {"moment": in_utc(found)}
    title = getattr(field, "verbose_name", name)
    return Chip(str(title), value, cl.get_query_string(remove=[name]))


def hits(cl: Any) -> str:
    """Return how many rows a list has: exactly, or in words that say that it is not exact."""
    count = cl.result_count
    one, many = getattr(cl, "row_names", (cl.opts.verbose_name, cl.opts.verbose_name_plural))
    shown = number_format(count, force_grouping=True)
    if getattr(cl.paginator, "is_capped", False):
        about = _estimate(cl)
        if about > count:
            return _("About %(n)s %(many)s") % {
                "many": many,
                "n": number_format(about, force_grouping=True),
            }
        return _("More than %(n)s %(many)s") % {"many": many, "n": shown}
    return number_of(shown, one if count == 1 else many)


def _estimate(cl: Any) -> int:
    """Return what PostgreSQL believes that the whole table has; 0 where only some are listed."""
    if connection.vendor != "postgresql" or cl.query or cl.get_filters_params():
        return 0
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT reltuples::bigint FROM pg_class WHERE oid = %s::regclass", [cl.opts.db_table]
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
        """Ignore an order that would sort more rows than the pages reach."""
        if self.query or self.get_filters_params():
            rows = vars(self.queryset).get("counted_as", self.queryset)
            self.found_keys = keys_of(rows)
            if len(self.found_keys) <= MAX_NAMED:
                self.queryset = self.queryset.filter(pk__in=self.found_keys)
            vars(self.queryset)["found"] = len(self.found_keys)
        paginator: Any = self.model_admin.get_paginator(request, self.queryset, self.list_per_page)
        if getattr(paginator, "is_capped", False) or self.counts_many():
            shown = map(column_key, self.list_display)
            usual = [one for one in shown if self.sortable_by is None or one in self.sortable_by]
            self.sortable_by = [
                one for one in usual if self._has_index(self.get_ordering_field(one))
            ]
            asked = self.queryset.query.order_by
            if ORDER_VAR in self.params and not all(map(self._has_index, asked)):
                del self.params[ORDER_VAR]
                ordering = self.get_ordering(request, self.root_queryset.order_by())
                found = paginator.found
                self.queryset = self.queryset.order_by(*ordering)
                vars(self.queryset)["found"] = found
        super().get_results(request)
        if note := getattr(self.model_admin, "note_in_rows", None):
            self.result_list = list(self.result_list)
            note(self.result_list)

    def counts_many(self) -> bool:
        """Whether a column sorts by what takes long to count, however few rows there are."""
        return False

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
    """Keeps a list quick however many rows it has; the site gives it to every admin.

    An admin's `note_in_rows` is called with the rows of a page, to ask for what these show at once.
    """

    paginator = BoundedPaginator
    show_full_result_count = False

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        """Return the list of the admin, or in place of Django's one that sorts within bounds."""
        found: type[ChangeList] = super().get_changelist(request, **kwargs)
        return OrderedChangeList if found is ChangeList else found

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Keep what a text finds; raises BadRequest for one that no field for it can send."""
        if len(search_term) > MAX_SEARCHED:
            raise BadRequest("the search is too long")
        return super().get_search_results(request, queryset, search_term)


class BoundedChangeList(OrderedChangeList):
    """Counts what each filter leaves where few rows are found, and offers to where many are."""

    request: HttpRequest

    def get_filters(self, request: HttpRequest) -> Any:
        """Let `get_queryset` apply the filters that count."""
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
        if self.query and len(self.searched_keys) <= MAX_NAMED:  # counted without another search
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

    def left_by_others(self, filter_: admin.ListFilter) -> QuerySet[Any]:
        """Return the rows that the search and all other filters leave."""
        rows = self.searched
        for other in self.filter_specs:
            if other is not filter_:
                rows = cast(CountedFilter, other).narrowed(rows, to_count=True)
        return rows
