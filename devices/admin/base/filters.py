"""Filters of lists that count what each of their choices would leave."""

from collections.abc import Iterable, Mapping
from typing import Any

from django.contrib import admin
from django.core.exceptions import EmptyResultSet
from django.db import connection
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext_lazy

from devices.admin.base.rendering import SOON
from devices.values.text import count_text

MAX_COUNTED = 10_000  # rows that a filter counts for one choice


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


def bounded_count_text(count: int) -> str:
    return count_text(min(count, MAX_COUNTED), is_cut=count > MAX_COUNTED)


def parameters_besides(changelist: Any, *names: str | None) -> list[tuple[str, str]]:
    """Return what else than these parameters narrows a list, as fields of a form keep it."""
    return [
        (name, value)
        for name, values in changelist.filter_params.items()
        for value in values
        if name not in names
    ]


class LabelledFilter(admin.SimpleListFilter):
    """Choices; where they are always the same, `labels` has what each is called, by its value.

    A subclass says which rows are those of a choice (`condition`, or else `keep`).
    """

    labels: Mapping[str, Any] = {}

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [*self.labels.items()]

    def condition(self, value: str) -> Q:
        return Q((str(self.parameter_name), value))

    def keep(self, queryset: Any, value: str) -> QuerySet[Any]:
        """Return the rows of a choice; none where it is no choice."""
        is_choice = value in {str(choice) for choice, _label in self.lookup_choices}
        return queryset.filter(self.condition(value)) if is_choice else queryset.none()

    def queryset(self, request: HttpRequest, queryset: Any) -> QuerySet[Any]:
        value = self.value()
        return queryset if value is None else self.keep(queryset, str(value))


class CountedFilter(LabelledFilter):
    """Choices with the number of rows that each would leave, counted in one statement."""

    is_deferred = False  # whether the list applies the filter, by `narrowed`

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
        return {f"{n}__c": bounded_count_text(count) for n, count in enumerate(found)}


class CredentialStateFilter(LabelledFilter):
    """Credentials by whether they admit their device; their QuerySet has `live_at`."""

    title = gettext_lazy("state")
    parameter_name = "state"
    labels = {
        "live": gettext_lazy("Live"),
        "expiring": gettext_lazy("Expires within 30 days"),
        "expired": gettext_lazy("Expired"),
        "revoked": gettext_lazy("Revoked"),
    }

    def keep(self, queryset: Any, value: str) -> QuerySet[Any]:
        now = timezone.now()
        live = queryset.live_at(now)
        choices = {
            "live": live,
            "expiring": live.filter(not_after__lte=now + SOON),
            "expired": queryset.expired_at(now),
            "revoked": queryset.revoked(),
        }
        return choices.get(value, queryset.none())
