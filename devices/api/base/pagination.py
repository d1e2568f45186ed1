"""Pages of a list by a cursor: the next one costs as much as the first, however many there are."""

import re
from typing import Any

from django.db.models import BigIntegerField
from django.utils.translation import gettext as _
from rest_framework.pagination import CursorPagination
from rest_framework.request import Request

from devices.api.base.problems import ParameterError

POSITION = re.compile(r"[0-9]{1,19}\Z")
USUAL_SIZE, MAX_SIZE = 100, 1000  # rows on a page
PAGE_SIZE = {"type": "integer", "minimum": 1, "maximum": MAX_SIZE, "default": USUAL_SIZE}


def whole_number(request: Request, name: str, usual: int, *, least: int, most: int) -> int:
    """Return what a parameter of the address says, or `usual`; raises ParameterError."""
    text = request.query_params.get(name, str(usual))
    if not (POSITION.match(text) and least <= int(text) <= most):
        wanted = _("Write a whole number from %(least)d to %(most)d.")
        raise ParameterError(name, wanted % {"least": least, "most": most})
    return int(text)


def limit_of(request: Request) -> int:
    """Return how many rows the address wants on a page; raises ParameterError."""
    return whole_number(request, "limit", USUAL_SIZE, least=1, most=MAX_SIZE)


class KeyPagination(CursorPagination):
    """Pages in the order of primary keys, which do not move while one reads."""

    page_size_query_param = "limit"
    ordering = "pk"

    def get_page_size(self, request: Request) -> int:
        return limit_of(request)

    def decode_cursor(self, request: Request) -> Any:
        """Return what the cursor says; raises ParameterError for one that is made by hand."""
        if request.query_params.get(self.cursor_query_param) == "":
            raise self._unreadable()
        try:
            cursor = super().decode_cursor(request)
        except Exception:  # noqa: BLE001 - NotFound, and what its decoding raises besides
            raise self._unreadable() from None
        if cursor is not None:  # all that we hand out have a position: keys differ
            position = str(cursor.position)
            if not POSITION.match(position) or int(position) > BigIntegerField.MAX_BIGINT:
                raise self._unreadable()
        return cursor

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        """Describe a page in the words of OpenAPI 3.1, which has no `nullable`."""
        address = {"type": ["string", "null"], "format": "uri"}
        return {
            "type": "object",
            "required": ["next", "previous", "results"],
            "properties": {"next": address, "previous": address, "results": schema},
        }

    @staticmethod
    def _unreadable() -> ParameterError:
        return ParameterError("cursor", _("Take a cursor from the answer before."))

    def get_ordering(self, request: Request, queryset: Any, view: Any) -> tuple[str, ...]:
        """Return the order of the view's rows: by key, or by key from the latest on."""
        return (getattr(view, "ordering", self.ordering),)
