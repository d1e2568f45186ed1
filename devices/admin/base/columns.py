"""The columns of a list that each member of staff chooses."""

from collections.abc import Sequence
from typing import Any

from django.contrib.admin.utils import label_for_field
from django.contrib.admin.views.main import ORDER_VAR, PAGE_VAR
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict
from django.urls import reverse

from devices.admin.base.pages import OwnPagesMixin, own_page, url_name
from devices.models import ListColumns


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

    @own_page("columns/", "columns", needs="view")
    def choose_columns(self, request: HttpRequest) -> HttpResponse:
        """Keep the columns that were ticked for this account, and go back to the list."""
        if request.method == "POST":
            offered = {column_key(column) for column in self.offered_columns(request)}
            ticked = [key for key in request.POST.getlist("column") if key in offered]
            chosen = None if "usual" in request.POST else ticked
            ListColumns.objects.choose(request.user, self.opts.label_lower, chosen)
        back = QueryDict(request.POST.get("list", ""), mutable=True)
        for place in (ORDER_VAR, PAGE_VAR):  # they count columns and pages of the list as it was
            back.pop(place, None)
        listed = reverse(url_name(self.opts, "changelist"))
        return HttpResponseRedirect(f"{listed}?{back.urlencode()}")
