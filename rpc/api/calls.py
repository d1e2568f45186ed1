"""The journal of calls over the API: what was asked, by whom, and why it was answered so."""

from typing import Any

from django.db.models import QuerySet
from django_filters import ChoiceFilter
from django_filters.rest_framework import FilterSet
from drf_spectacular.utils import extend_schema
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from devices.api.base.exporting import ExportMixin
from devices.api.base.filters import CharFilter, MomentFilter
from devices.api.base.serializers import ModelSerializer
from devices.api.base.views import ReadMixin, RegistryViewSet
from rpc.models import CallOutcome, CallRecord


class CallSerializer(ModelSerializer):
    """How often the same was asked by the same caller, and answered alike, within an hour."""

    class Meta:
        model = CallRecord
        fields = [
            "id", "bucket", "endpoint", "question", "caller", "subject", "destination", "command",
            "outcome", "reason", "others", "rule", "count", "first", "last", "request",
        ]  # fmt: skip
        read_only_fields = fields


class CallFilters(FilterSet):
    """What calls are looked up by; `since` and `until` count whole hours."""

    caller = CharFilter()
    subject = CharFilter()
    destination = CharFilter()
    outcome = ChoiceFilter(choices=CallOutcome.choices)
    since = MomentFilter(method=lambda calls, _name, moment: calls.since(moment))
    until = MomentFilter(method=lambda calls, _name, moment: calls.before(moment))

    def filter_queryset(self, queryset: "QuerySet[Any]") -> "QuerySet[Any]":
        """Leave out the rows that no index of receivers has, where one is asked for."""
        found = super().filter_queryset(queryset)
        return found.exclude(destination="") if self.data.get("destination") else found


class CallViewSet(ReadMixin, ExportMixin, RegistryViewSet):
    """Calls: what machines asked, counted by the hour; the latest rows first."""

    queryset = CallRecord.objects.order_by()
    serializer_class = CallSerializer
    filterset_class = CallFilters
    ordering = "-pk"
    permissions = {"callers": ("rpc.view_callrecord",)}

    @extend_schema(responses=CallSerializer(many=True), filters=False)
    @action(detail=False, pagination_class=None)
    def callers(self, _request: Request, **_kwargs: Any) -> Response:
        """List the callers that were ever let in, each with its latest call."""
        return Response(self.get_serializer(CallRecord.objects.callers(), many=True).data)
