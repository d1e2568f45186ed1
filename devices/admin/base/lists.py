"""What members of staff keep of a list: the columns that they chose, filters that they name."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qsl, urlencode

from django import forms
from django.contrib import messages
from django.contrib.admin.utils import label_for_field
from django.contrib.admin.views.main import ORDER_VAR, PAGE_VAR, SEARCH_VAR
from django.core.exceptions import ValidationError
from django.db.models import Q
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict
from django.urls import reverse
from django.utils.translation import gettext as _

from devices.admin.base.forms import ATTRIBUTE_PREFIX
from devices.admin.base.pages import OwnPagesMixin, is_key, own_page, url_name
from devices.models import ListColumns, SavedFilter
from devices.values.text import isolated, joined


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
            own: dict[str, Any] = {"user_id": request.user.pk, "listed": listed}
            rows = ListColumns.objects.filter(**own)
            kept[listed] = rows.values_list("columns", flat=True).first()
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
            own: Any = {"user_id": request.user.pk, "listed": self.opts.label_lower}
            if "usual" in request.POST:
                ListColumns.objects.filter(**own).delete()
            else:
                ListColumns.objects.update_or_create(**own, defaults={"columns": ticked})
        back = QueryDict(request.POST.get("list", ""), mutable=True)
        for place in (ORDER_VAR, PAGE_VAR):  # they count columns and pages of the list as it was
            back.pop(place, None)
        listed = reverse(url_name(self.opts, "changelist"))
        return HttpResponseRedirect(f"{listed}?{back.urlencode()}")


class SavedFilterForm(forms.ModelForm):
    class Meta:
        model = SavedFilter
        fields = ["name", "is_shared", "query"]

    def clean(self) -> None:
        """Refuse a second filter of this name; Django leaves out what has no field."""
        super().clean()
        self.instance.name = self.cleaned_data.get("name", "")
        self.instance.validate_constraints()


class SavedFiltersMixin(OwnPagesMixin):
    """Links above a list to what members of staff narrowed it to and named, private or shared."""

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> Any:
        """List rows; show the filters that are named, and which of them cannot be used any more."""
        own: Any = self  # the site gives every admin AddressParametersMixin
        known = own.offered_lookups(request) | own.related_lookups(request)
        known |= {SEARCH_VAR, ORDER_VAR, PAGE_VAR, "all", "_facets"}
        narrowing = request.GET.copy()
        for name in (PAGE_VAR, "all", "_facets", "e"):
            narrowing.pop(name, None)
        current = narrowing.urlencode()
        filters = []
        usable = Q(owner_id=request.user.pk) | Q(is_shared=True)
        for one in SavedFilter.objects.filter(usable, listed=self.opts.label_lower):
            # However many parts there are: a QueryDict would refuse the page to all who see it.
            asked = parse_qsl(one.query, keep_blank_values=True)
            gone = [name for name, _value in asked if name not in known]
            kept = [part for part in asked if part[0] in known]
            filters.append(
                {
                    "filter": one,
                    "query": urlencode(kept),
                    "gone": joined(dict.fromkeys(map(_name_of, gone))),
                    "is_own": one.owner_id == request.user.pk,
                    "is_current": one.query == current,
                }
            )
        context = {"saved_filters": filters, "narrowed_to": current, **(extra_context or {})}
        return super().changelist_view(request, context)

    @own_page("filters/", "filters", needs="view")
    def keep_filter(self, request: HttpRequest) -> HttpResponse:
        """Name what the list is narrowed to, or forget one's own filter; go back to the list."""
        listed = reverse(url_name(self.opts, "changelist"))
        back = f"{listed}?{request.POST.get('query', '')}"
        if request.method != "POST":
            return HttpResponseRedirect(listed)
        forgotten = request.POST.get("forget", "")
        if is_key(forgotten):
            SavedFilter.objects.filter(pk=forgotten, owner_id=request.user.pk).delete()
            return HttpResponseRedirect(back)
        user: Any = request.user
        form = SavedFilterForm(
            request.POST, instance=SavedFilter(owner=user, listed=self.opts.label_lower)
        )
        if form.is_valid():
            kept = form.save()
            text = _("The filter “%(name)s” is saved.") % {"name": isolated(kept.name)}
            messages.success(request, text)
        else:
            errors = [error for found in form.errors.as_data().values() for error in found]
            messages.error(request, " ".join(ValidationError(errors).messages))
        return HttpResponseRedirect(back)


def _name_of(parameter: str) -> str:
    """Return what a parameter, which the list does not read any more, filtered by, in words."""
    return _("a removed attribute") if parameter.startswith(ATTRIBUTE_PREFIX) else f"“{parameter}”"
