"""Lists as streams: one JSON object a line, and a last line that says that it is the last."""

import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from django.http import StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.decorators import action
from rest_framework.request import Request

from devices.api.base.views import Renderer

MEDIA_TYPE = "application/x-ndjson"
BATCH = 1000
PIECE = 200  # lines

log = logging.getLogger(__name__)


class LinesRenderer(Renderer):
    """What a client may ask for by name; faults are told as problems."""

    media_type = MEDIA_TYPE
    format = "ndjson"


class ExportMixin:
    """Adds the stream of all rows that are asked for."""

    @extend_schema(responses={(200, MEDIA_TYPE): OpenApiTypes.STR})
    @action(detail=False, methods=["get"], renderer_classes=[LinesRenderer, Renderer])
    def export(self: Any, request: Request, **_kwargs: Any) -> StreamingHttpResponse:
        """Return all rows that the filters leave, an object a line.

        The last line is `{"complete": true, "rows": N}`: without it the stream was cut off.
        """
        rows = self.filter_queryset(self.get_queryset())
        return StreamingHttpResponse(
            lines(self.exported(rows), self.request.get_full_path()), content_type=MEDIA_TYPE
        )

    def exported(self: Any, rows: Any) -> Iterator[Mapping[str, Any]]:
        """Return the rows as lists show them, in constant memory, a statement a batch.

        What is wrong with the request is told before the first row.
        """
        serializer = self.get_serializer_class()
        context = self.get_serializer_context()

        def shown() -> Iterator[Mapping[str, Any]]:
            last = 0
            while batch := list(rows.filter(pk__gt=last).order_by("pk")[:BATCH]):
                yield from serializer(batch, many=True, context=context).data
                last = batch[-1].pk

        return shown()


def lines(rows: Iterable[Mapping[str, Any]], address: str) -> Iterator[bytes]:
    """Yield the stream; where it fails it ends without its last line, and the log says why."""
    renderer, count = Renderer(), 0
    waiting: list[bytes] = []  # a server sends a few large pieces faster than many small ones
    try:
        for row in rows:
            waiting.append(renderer.render(row) + b"\n")
            count += 1
            if len(waiting) >= PIECE:
                yield b"".join(waiting)
                waiting.clear()
    except Exception:
        log.exception("an export was cut off after %d rows: %s", count, address)
        yield b"".join(waiting)
        raise
    waiting.append(renderer.render({"complete": True, "rows": count}) + b"\n")
    yield b"".join(waiting)
