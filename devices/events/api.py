"""`GET /api/v1/events`: what happened after a cursor, at once or as soon as it does."""

import time
from typing import Any

from django.utils.translation import gettext as _, gettext_lazy
from drf_spectacular.helpers import forced_singular_serializer
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import ViewSetMixin

from devices.api.base import problems
from devices.api.base.filters import KEY
from devices.api.base.pagination import PAGE_SIZE, limit_of, whole_number
from devices.api.base.permissions import grant_of
from devices.api.base.serializers import CharField, Serializer
from devices.api.base.views import ApiView
from devices.database.slots import released
from devices.events import stream
from devices.events.kinds import Kind
from devices.events.stream import Page
from devices.events.waiting import TooManyError, watcher
from devices.models import DeviceGroup

MAX_WAIT = 50  # seconds; proxies give up on an answer after 60
RETRY_AFTER = 5  # seconds


class CursorGone(problems.Problem):
    """The events after a cursor are not there any more."""

    status_code = 410
    default_code = "cursor-gone"
    default_detail = stream.GONE


class TooManyWait(problems.Unavailable):
    """As many requests wait in this process as may."""

    default_detail = gettext_lazy("Too many requests wait for events. Try again, or do not wait.")
    wait = RETRY_AFTER


class EventSerializer(Serializer):
    """An event; `data` is described in docs/events.md."""

    id = CharField()
    type = serializers.ChoiceField(choices=Kind.choices)
    timestamp = serializers.DateTimeField()
    position = serializers.IntegerField()
    data = serializers.JSONField()  # type: ignore[assignment]  # a field of that name is one


class EventPageSerializer(Serializer):
    """Events in order, and the cursor after them."""

    events = EventSerializer(many=True)
    cursor = CharField()
    more = serializers.BooleanField()


class EventViewSet(ViewSetMixin, ApiView):
    """Events, in the order in which they were committed. (docs/events.md)"""

    permissions = {"list": ("devices.view_event",)}
    parameters = {"list": ("after", "wait", "limit", "kinds", "group")}

    @extend_schema(
        operation_id="events_list",
        parameters=[
            OpenApiParameter("after", str, description="A cursor; `latest` for what is to come."),
            OpenApiParameter(
                "wait",
                {"type": "integer", "minimum": 0, "maximum": MAX_WAIT, "default": 0},
                description="Seconds to wait where there is no event yet.",
            ),
            OpenApiParameter("limit", PAGE_SIZE, description="Events on a page."),
            OpenApiParameter("kinds", str, description="Kinds of events, separated by commas."),
            OpenApiParameter(
                "group", KEY, description="A device group: events of devices in it or below it."
            ),
            OpenApiParameter("cursor", exclude=True),
        ],
        responses={
            200: forced_singular_serializer(EventPageSerializer),
            (CursorGone.status_code, problems.MEDIA_TYPE): OpenApiResponse(
                {"$ref": "#/components/schemas/Problem"}, CursorGone.default_detail
            ),
        },
    )
    def list(self, request: Request) -> Response:
        """Return the events after a cursor; wait for some where there are none yet."""
        wait = whole_number(request, "wait", 0, least=0, most=MAX_WAIT)
        limit = limit_of(request)
        kinds, groups = self._kinds(), self._groups()
        deadline = time.monotonic() + wait
        stream.number()
        after = request.query_params.get("after", "")
        page = self._read(after, limit, kinds, groups)
        start = page.start
        while not page.events and (left := deadline - time.monotonic()) > 0:
            if watcher.is_stopping():
                break
            try:
                with released():  # between two reads, too: others may wait for the slot
                    if not page.more and not watcher.wait(page.head, left):
                        break
            except TooManyError:
                if page.position > start:  # the client goes on after what was looked at
                    break
                raise TooManyWait from None
            if after == stream.LATEST or page.position > start:
                after = page.cursor
            page = self._read(after, limit, kinds, groups)
        return Response(
            {
                "events": [event.document() for event in page.events],
                "cursor": page.cursor,
                "more": page.more,
            }
        )

    @staticmethod
    def _read(after: str, limit: int, kinds: set[str], groups: frozenset[int] | None) -> Page:
        try:
            return stream.read(after, limit, kinds=kinds, groups=groups)
        except stream.CursorError as error:
            raise problems.ParameterError("after", error) from None
        except stream.CursorGoneError as error:
            raise CursorGone(str(error)) from None

    def _kinds(self) -> set[str]:
        text = self.request.query_params.get("kinds")
        if text is None:
            return set()
        kinds = set(text.split(","))
        if unknown := kinds - set(Kind.values):
            raise problems.ParameterError(
                "kinds", _("There is no kind “%(name)s”.") % {"name": min(unknown)[:100]}
            )
        return kinds

    def _groups(self) -> frozenset[int] | None:
        """Return the groups whose events are asked for and may be seen; None: of any, or none."""
        groups: frozenset[int] | None = None
        grant: Any = grant_of(self.request)
        if grant is not None:
            for permission in ("devices.view_event", "devices.view_device"):
                reached = grant.reached_groups(permission)
                if reached is not None:
                    groups = reached if groups is None else groups & reached
        if "group" in self.request.query_params:
            group = whole_number(self.request, "group", 0, least=1, most=KEY["maximum"])
            is_beyond = groups is not None and group not in groups  # as though there were none
            if is_beyond or not DeviceGroup.objects.filter(pk=group).exists():
                raise problems.ParameterError("group", _("There is no such group."))
            below = stream.groups_below(group)
            groups = below if groups is None else groups & below
        return groups
