"""Lists of a million rows: counted as far as a reader cares, and no further."""

from functools import cached_property
from typing import Any

from django.contrib.admin.views.main import ChangeList
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.formats import number_format
from django.utils.translation import gettext as _

MOST_COUNTED = 10_000


class MoreThan(int):
    """A count that went no further."""

    def __str__(self) -> str:
        return _("more than %(number)s") % {"number": number_format(int(self), force_grouping=True)}


def bounded_count(rows: "QuerySet[Any]") -> int:
    """Return how many rows there are; beyond MOST_COUNTED, that there are more."""
    counted = rows.order_by().values("pk")[: MOST_COUNTED + 1].count()
    return MoreThan(MOST_COUNTED) if counted > MOST_COUNTED else counted


class BoundedPaginator(Paginator):
    """Pages through the first MOST_COUNTED rows; whoever looks for others filters or searches."""

    object_list: "QuerySet[Any]"

    @cached_property
    def count(self) -> int:
        """How many rows there are to page through."""
        return bounded_count(self.object_list)


class BoundedChangeList(ChangeList):
    """Counts the choices of filters at once in a short list, and when asked to in a long one."""

    def get_results(self, request: HttpRequest) -> None:
        """Return a page of rows; decide whether to count."""
        super().get_results(request)
        if not self.add_facets and not isinstance(bounded_count(self.root_queryset), MoreThan):
            self.add_facets = True
            self.is_facets_optional = False
