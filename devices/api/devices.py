"""Devices over the API."""

from collections.abc import Iterator
from datetime import timedelta
from http import HTTPStatus
from typing import Any

from django import forms
from django.urls import reverse
from django.utils.translation import gettext as _
from django_filters import ChoiceFilter, Filter
from django_filters.rest_framework import FilterSet
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.exceptions import Throttled
from rest_framework.request import Request
from rest_framework.response import Response

from devices.api import bulk
from devices.api.base.exporting import ExportMixin
from devices.api.base.filters import CharFilter, KeyFilter, TruthFilter
from devices.api.base.permissions import demand
from devices.api.base.problems import faults_of, within
from devices.api.base.serializers import (
    CharField,
    IntegerField,
    ListField,
    ModelSerializer,
    ReasonSerializer,
    Serializer,
)
from devices.api.base.views import RowsViewSet
from devices.api.credentials import (
    CertificateSerializer,
    IssuedKeySerializer,
    KeySerializer,
    NewKeySerializer,
    RotationSerializer,
    TrySerializer,
    VerdictSerializer,
    make_key,
)
from devices.credentials import throttle, x509
from devices.models import AttributeDefinition, Certificate, Device, PreSharedKey
from devices.models.credentials.state import revoke_credentials
from devices.transfer.exporting import streamed, values_of
from devices.trying import PERMISSION, try_credentials
from devices.values import attributes


class AttributesField(serializers.JSONField):
    """A JSON object that both databases store and give back."""

    def to_internal_value(self, data: Any) -> Any:
        return super().to_internal_value(attributes.check(data))


class DeviceSerializer(ModelSerializer):
    """A device; `groups` are the keys of those that it is in."""

    attributes = AttributesField(required=False)

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


class NewDeviceSerializer(DeviceSerializer):
    """A device to provision: with its groups, and with a key, a certificate or both."""

    key = NewKeySerializer(required=False)
    certificate = CharField(required=False, max_length=x509.MAX_TEXT_LENGTH)

    class Meta(DeviceSerializer.Meta):
        fields = [*DeviceSerializer.Meta.fields, "key", "certificate"]


class ChangedDeviceSerializer(DeviceSerializer):
    """What is changed of a device among many: it is named by `id`, and known by `if_match`."""

    id = IntegerField(min_value=1, max_value=2**63 - 1)
    if_match = CharField(write_only=True, help_text="The `etag` of the device that was read.")

    class Meta(DeviceSerializer.Meta):
        fields = ["id", "if_match", *DeviceSerializer.Meta.fields[2:]]


class ProvisionedSerializer(DeviceSerializer):
    """A device that was just created, with what was made for it."""

    key = IssuedKeySerializer(required=False)
    certificate = CertificateSerializer(required=False)
    warnings = ListField(child=CharField())

    class Meta(DeviceSerializer.Meta):
        fields = [*DeviceSerializer.Meta.fields, "key", "certificate", "warnings"]


class BulkKeySerializer(Serializer):
    """A key that was made for a device; a generated secret is here, and never again."""

    id = IntegerField()
    label = CharField()  # type: ignore[assignment] # a declared field is no attribute
    secret = CharField(required=False)


class BulkCreatedDeviceSerializer(DeviceSerializer):
    """A device that was created among others."""

    key = BulkKeySerializer(required=False)

    class Meta(DeviceSerializer.Meta):
        fields = [*DeviceSerializer.Meta.fields, "key"]


class NewDevicesSerializer(Serializer):
    """Up to 1,000 devices to create."""

    devices = NewDeviceSerializer(many=True)


class BulkCreatedSerializer(Serializer):
    """The devices that were created, in the order of the request."""

    devices = BulkCreatedDeviceSerializer(many=True)


class ChangedDevicesSerializer(Serializer):
    """Up to 1,000 devices to change."""

    devices = ChangedDeviceSerializer(many=True)


class DevicesSerializer(Serializer):
    """Devices, in the order of the request."""

    devices = DeviceSerializer(many=True)


class NamedDevicesSerializer(Serializer):
    """Up to 1,000 devices, each as the client knows it."""

    devices = bulk.NamedDeviceSerializer(many=True)


class RevokedSerializer(Serializer):
    """How many keys and certificates were revoked."""

    keys = IntegerField()
    certificates = IntegerField()


class AttributesFormField(forms.CharField):
    """Attributes that have a type, as a JSON object."""

    def to_python(self, value: Any) -> Any:
        """Return each definition with the value; raises ValidationError where one has no type."""
        text = super().to_python(value)
        found: dict[AttributeDefinition, Any] = {}
        if not text:
            return found
        with AttributeDefinition.objects.read_once():
            for name, said in attributes.parse(text).items():
                definition = AttributeDefinition.objects.named(name)
                definition.check_value(said)
                found[definition] = said
        return found


@extend_schema_field(OpenApiTypes.STR)
class AttributesFilter(Filter):
    field_class = AttributesFormField


class DeviceFilters(FilterSet):
    identifier = CharFilter()
    identifier_prefix = CharFilter(field_name="identifier", lookup_expr="startswith")
    name_prefix = CharFilter(field_name="name", lookup_expr="istartswith")
    kind = ChoiceFilter(choices=Device.Kind.choices)
    enabled = TruthFilter()
    group = KeyFilter(field_name="groups", help_text="Devices in this group itself.")
    group_or_below = KeyFilter(
        method=lambda devices, _name, key: devices.in_group_or_below(key),
        help_text="Devices in this group or in one that lies in it, at any depth.",
    )

    attributes = AttributesFilter(
        method="with_attributes",
        help_text='Their attributes have these values: a JSON object such as {"line": 7}, of '
        "attributes that have a type.",
    )

    def with_attributes(self, devices: Any, _name: str, wanted: dict[Any, Any]) -> Any:
        for definition, value in wanted.items():
            devices = definition.holding(devices, value)
        return devices


class DeviceViewSet(ExportMixin, RowsViewSet):
    """Devices: what connects, and the backends that ask."""

    queryset = Device.objects.prefetch_related("groups")
    serializer_class = DeviceSerializer
    filterset_class = DeviceFilters
    unnamed_fields = frozenset({"export"})  # its lines are those of the import's files
    recorded = frozenset({"try_credential"})  # what it says, it says once, and the history keeps it
    permissions = {
        "enable": ("devices.change_device",),
        "disable": ("devices.change_device",),
        "rotate_keys": ("devices.add_presharedkey", "devices.change_presharedkey"),
        "revoke_credentials": ("devices.change_presharedkey", "devices.change_certificate"),
        "try_credential": (PERMISSION,),
        "provision": ("devices.add_device",),
        "bulk_create": ("devices.add_device",),
        "bulk_change": ("devices.change_device",),
        "bulk_delete": ("devices.delete_device",),
    }

    @extend_schema(request=ReasonSerializer, responses=DeviceSerializer)
    @action(detail=True, methods=["post"])
    def enable(self, request: Request, **_kwargs: Any) -> Response:
        """Let a device connect again, with the credentials that it has."""
        return self._set_enabled(enabled=True)

    @extend_schema(request=ReasonSerializer, responses=DeviceSerializer)
    @action(detail=True, methods=["post"])
    def disable(self, request: Request, **_kwargs: Any) -> Response:
        """Refuse a device from its next request on; nothing is lost."""
        return self._set_enabled(enabled=False)

    @extend_schema(request=RotationSerializer, responses={201: IssuedKeySerializer})
    @action(detail=True, methods=["post"], url_path="rotate-keys")
    def rotate_keys(self, request: Request, **_kwargs: Any) -> Response:
        """Issue a new key and let the live ones end, or be revoked; the new secret is here only."""
        device, asked = self.get_object(), self.asked(RotationSerializer)
        overlap = timedelta(seconds=asked["overlap_seconds"])
        key, secret = PreSharedKey.objects.rotate(
            device=device, overlap=overlap, label=asked["label"]
        )
        shown = {**KeySerializer(key).data, "secret": secret, "warnings": []}
        address = reverse("presharedkey-detail", args=[key.pk])
        return Response(shown, status=HTTPStatus.CREATED, headers={"Location": address})

    @extend_schema(request=ReasonSerializer, responses=RevokedSerializer)
    @action(detail=True, methods=["post"], url_path="revoke-credentials")
    def revoke_credentials(self, request: Request, **_kwargs: Any) -> Response:
        """Revoke every key and every certificate of a device, for good."""
        device, reason = self.get_object(), self.asked(ReasonSerializer)["reason"]
        with self.because(reason, field="reason"):
            keys, certificates = revoke_credentials(
                Device.objects.filter(pk=device.pk), by=self.get_username(), reason=reason
            )
        return Response({"keys": keys, "certificates": certificates})

    @extend_schema(request=TrySerializer, responses=VerdictSerializer)
    @action(detail=False, methods=["post"], url_path="try-credential")
    def try_credential(self, request: Request, **_kwargs: Any) -> Response:
        """Say whether a device would be let in with a secret or a certificate, and why not.

        It leaves no evidence of use. Ten tries of an account may fail in a quarter of an hour.
        """
        asked = self.asked(TrySerializer)
        reached: Any = self.get_queryset()
        with within("device"):
            device = reached.at(asked.pop("device"))
        self.count_use([device])
        verdict = try_credentials(getattr(request.user, "pk", None), device, **asked)
        if verdict is None:
            raise Throttled(
                throttle.WINDOW, _("Too many of your tries have failed; try again later.")
            )
        return Response(VerdictSerializer(verdict).data)

    @extend_schema(request=NewDeviceSerializer, responses={201: ProvisionedSerializer})
    @action(detail=False, methods=["post"])
    def provision(self, request: Request, **_kwargs: Any) -> Response:
        """Create a device with its groups and its first credentials in one step.

        A generated secret is in this answer only.
        """
        asked = NewDeviceSerializer(data=request.data, context=self.get_serializer_context())
        asked.is_valid(raise_exception=True)
        said = dict(asked.validated_data)
        wanted, presented = said.pop("key", None), said.pop("certificate", None)
        for name, one in (("presharedkey", wanted), ("certificate", presented)):
            if one is not None:
                demand(request, f"devices.add_{name}")
        device = asked.create(said)
        self.check_reached(Device, [device.pk])
        self.count_use([device])
        more: dict[str, Any] = {}
        if wanted is not None:
            with within("key"):
                key, besides = make_key(device, dict(wanted))
            self.count_use([key], "devices.add_presharedkey")
            more["key"] = {**KeySerializer(key).data, **besides}
        if presented is not None:
            with faults_of("certificate"):
                row = Certificate.objects.register(device=device, presented=presented)
            self.count_use([row], "devices.add_certificate")
            more["certificate"] = CertificateSerializer(row).data
        return self.created(device, **more, warnings=device.registration_warnings())

    @extend_schema(request=NewDevicesSerializer, responses={201: BulkCreatedSerializer})
    @action(detail=False, methods=["post"], url_path="bulk-create")
    def bulk_create(self, request: Request, **_kwargs: Any) -> Response:
        """Create up to 1,000 devices with their groups and first credentials: all or none."""
        return bulk.create(self, NewDeviceSerializer)

    @extend_schema(request=ChangedDevicesSerializer, responses=DevicesSerializer)
    @action(detail=False, methods=["post"], url_path="bulk-change")
    def bulk_change(self, request: Request, **_kwargs: Any) -> Response:
        """Change up to 1,000 devices, each only as the client knows it: all or none."""
        return bulk.change(self, ChangedDeviceSerializer)

    @extend_schema(request=NamedDevicesSerializer, responses=bulk.DeletedSerializer)
    @action(detail=False, methods=["post"], url_path="bulk-delete")
    def bulk_delete(self, request: Request, **_kwargs: Any) -> Response:
        """Delete up to 1,000 devices, each only as the client knows it: all or none."""
        return bulk.delete(self)

    def exported(self, rows: Any) -> Iterator[Any]:
        """Yield devices as the import of files reads them."""
        return map(values_of, streamed(rows.prefetch_related(None)))

    def _set_enabled(self, *, enabled: bool) -> Response:
        device = self.get_object()
        with self.because(self.asked(ReasonSerializer)["reason"], field="reason"):
            Device.objects.filter(pk=device.pk).set_enabled(enabled=enabled)
        return self.row_response(device)
