"""Devices over the API."""

from typing import Any

from django_filters import ChoiceFilter
from django_filters.rest_framework import CharFilter, FilterSet
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from devices.api.filters import KeyFilter
from devices.api.serializers import CharField, ModelSerializer, Serializer
from devices.api.views import ChangeMixin, CreateMixin, DeleteMixin, ReadMixin, RegistryViewSet
from devices.history.context import MAX_REASON_LENGTH
from devices.models import Device


class DeviceSerializer(ModelSerializer):
    """A device; `groups` are the keys of those that it is in."""

    class Meta:
        model = Device
        fields = [
            "id",
            "identifier",
            "kind",
            "name",
            "description",
            "groups",
            "enabled",
            "attributes",
            "created",
            "updated",
            "last_seen",
        ]
        read_only_fields = ["created", "updated", "last_seen"]
        create_only = ["identifier"]
        versioned_with = ["groups"]


class DeviceFilters(FilterSet):
    """What devices are looked up by."""

    identifier = CharFilter()
    identifier_prefix = CharFilter(field_name="identifier", lookup_expr="startswith")
    name_prefix = CharFilter(field_name="name", lookup_expr="istartswith")
    kind = ChoiceFilter(choices=Device.Kind.choices)
    group = KeyFilter(field_name="groups")


class ReasonSerializer(Serializer):
    """Why something is done; the history keeps it."""

    reason = CharField(required=False, default="", allow_blank=True, max_length=MAX_REASON_LENGTH)


class DeviceViewSet(ReadMixin, CreateMixin, ChangeMixin, DeleteMixin, RegistryViewSet):
    """Devices: what connects, and the backends that ask."""

    queryset = Device.objects.prefetch_related("groups")
    serializer_class = DeviceSerializer
    filterset_class = DeviceFilters
    permissions = {"enable": ("devices.change_device",), "disable": ("devices.change_device",)}

    @action(detail=True, methods=["post"])
    def enable(self, request: Request, **_kwargs: Any) -> Response:
        """Let a device connect again, with the credentials that it has."""
        return self._set_enabled(enabled=True)

    @action(detail=True, methods=["post"])
    def disable(self, request: Request, **_kwargs: Any) -> Response:
        """Refuse a device from its next request on; nothing is lost."""
        return self._set_enabled(enabled=False)

    def _set_enabled(self, *, enabled: bool) -> Response:
        device = self.get_object()
        asked = ReasonSerializer(data=self.request.data)
        asked.is_valid(raise_exception=True)
        with self.because(asked.validated_data["reason"]):
            Device.objects.filter(pk=device.pk).set_enabled(enabled=enabled)
        return self.row_response(device)
