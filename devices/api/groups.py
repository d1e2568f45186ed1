"""Groups of devices over the API, and who is in them."""

from typing import Any

from django.db.models import QuerySet
from django_filters.rest_framework import FilterSet
from drf_spectacular.utils import extend_schema
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from devices.api.base.exporting import ExportMixin
from devices.api.base.filters import CharFilter, KeyFilter, TruthFilter
from devices.api.base.serializers import IntegerField, ModelSerializer, RowField, Serializer
from devices.api.base.views import RowsViewSet
from devices.models import Device, DeviceGroup


class GroupSerializer(ModelSerializer):
    """A group; `parent` is the key of the one that it lies in."""

    class Meta:
        model = DeviceGroup
        fields = ["id", "name", "parent", "description"]


class GroupFilters(FilterSet):
    name = CharFilter()
    parent = KeyFilter()
    top = TruthFilter(field_name="parent", lookup_expr="isnull")


class MembersSerializer(Serializer):
    """The keys of devices, at most 1,000."""

    devices = RowField(queryset=Device.objects.all(), many=True, allow_empty=False)


class ChangedSerializer(Serializer):
    """How many of the rows that were named were changed; the others were in that state already."""

    changed = IntegerField()


class GroupViewSet(ExportMixin, RowsViewSet):
    """Groups: a rule on a group covers the groups below it."""

    queryset = DeviceGroup.objects.all()
    serializer_class = GroupSerializer
    filterset_class = GroupFilters
    permissions = {
        "add_members": ("devices.change_device", "devices.view_devicegroup"),
        "remove_members": ("devices.change_device", "devices.view_devicegroup"),
    }

    @extend_schema(request=MembersSerializer, responses=ChangedSerializer)
    @action(detail=True, methods=["post"], url_path="members")
    def add_members(self, request: Request, **_kwargs: Any) -> Response:
        """Put devices into a group."""
        group, devices = self._named()
        return Response({"changed": devices.add_to_group(group)})

    @extend_schema(request=MembersSerializer, responses=ChangedSerializer)
    @action(detail=True, methods=["post"], url_path="members/remove")
    def remove_members(self, request: Request, **_kwargs: Any) -> Response:
        """Take devices out of a group."""
        group, devices = self._named()
        changed = devices.remove_from_group(group)
        self.check_reached(Device, devices.values_list("pk", flat=True))
        return Response({"changed": changed})

    def _named(self) -> tuple[DeviceGroup, Any]:
        group = self.held(changes=False)  # it is the devices that are changed, and counted
        named = self.asked(MembersSerializer)["devices"]
        self.count_use(named)
        rows: QuerySet[Device] = Device.objects.filter(pk__in=[device.pk for device in named])
        return group, rows
