"""Devices over the API."""

from http import HTTPStatus
from typing import Any

from django.utils.translation import gettext as _
from django_filters import ChoiceFilter
from django_filters.rest_framework import CharFilter, FilterSet
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.exceptions import PermissionDenied
from rest_framework.request import Request
from rest_framework.response import Response

from devices.admin.actions import dependants, not_deletable
from devices.api.credentials import (
    CertificateSerializer,
    KeySerializer,
    MadeKeySerializer,
    NewKeySerializer,
    ReasonSerializer,
    RotationSerializer,
    TrySerializer,
    VerdictSerializer,
    faults_of,
    make_key,
    rotate,
    tried,
    within,
)
from devices.api.filters import KeyFilter
from devices.api.permissions import may
from devices.api.serializers import CharField, IntegerField, ModelSerializer, Serializer
from devices.api.views import (
    ChangeMixin,
    CreateMixin,
    DeleteMixin,
    ReadMixin,
    RegistryViewSet,
    user_name,
)
from devices.credentials import x509
from devices.models import Certificate, Device
from devices.models.credential_state import revoke_credentials
from devices.trying import PERMISSION


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


class NewDeviceSerializer(DeviceSerializer):
    """A device to provision: with its groups, and with a key, a certificate or both."""

    key = NewKeySerializer(required=False)
    certificate = CharField(required=False, max_length=x509.MAX_TEXT_LENGTH)

    class Meta(DeviceSerializer.Meta):
        fields = [*DeviceSerializer.Meta.fields, "key", "certificate"]


class ProvisionedSerializer(DeviceSerializer):
    """A device that was provisioned, and the credentials that were made for it."""

    key = MadeKeySerializer(read_only=True)
    certificate = CertificateSerializer(read_only=True)
    warnings = serializers.ListField(child=CharField(), read_only=True)

    class Meta(DeviceSerializer.Meta):
        fields = [*DeviceSerializer.Meta.fields, "key", "certificate", "warnings"]


class RevokedSerializer(Serializer):
    """How many credentials were revoked."""

    keys = IntegerField()
    certificates = IntegerField()


class Holder:
    """What a request may do, where an account is asked otherwise."""

    def __init__(self, request: Request) -> None:
        self._request = request

    def has_perm(self, permission: str) -> bool:
        """Whether the account has a permission and the token grants it."""
        return may(self._request, permission)


class DeviceViewSet(ReadMixin, CreateMixin, ChangeMixin, DeleteMixin, RegistryViewSet):
    """Devices: what connects, and the backends that ask."""

    queryset = Device.objects.prefetch_related("groups")
    serializer_class = DeviceSerializer
    filterset_class = DeviceFilters
    permissions = {
        "enable": ("devices.change_device",),
        "disable": ("devices.change_device",),
        "rotate_keys": ("devices.add_presharedkey", "devices.change_presharedkey"),
        "revoke_credentials": ("devices.change_presharedkey", "devices.change_certificate"),
        "try_credential": (PERMISSION,),
        "provision": ("devices.add_device",),
    }

    @extend_schema(request=ReasonSerializer)
    @action(detail=True, methods=["post"])
    def enable(self, request: Request, **_kwargs: Any) -> Response:
        """Let a device connect again, with the credentials that it has."""
        return self._set_enabled(enabled=True)

    @extend_schema(request=ReasonSerializer)
    @action(detail=True, methods=["post"])
    def disable(self, request: Request, **_kwargs: Any) -> Response:
        """Refuse a device from its next request on; nothing is lost."""
        return self._set_enabled(enabled=False)

    @extend_schema(request=RotationSerializer, responses={201: MadeKeySerializer})
    @action(detail=True, methods=["post"], url_path="rotate-keys")
    def rotate_keys(self, request: Request, **_kwargs: Any) -> Response:
        """Issue a new key and let the live ones end; the new secret is in this answer only."""
        device = self.get_object()
        asked = RotationSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        key, secret = rotate(device, asked.validated_data)
        return Response(
            {**KeySerializer(key).data, "secret": secret, "warnings": []},
            status=HTTPStatus.CREATED,
        )

    @extend_schema(request=ReasonSerializer, responses=RevokedSerializer)
    @action(detail=True, methods=["post"], url_path="revoke-credentials")
    def revoke_credentials(self, request: Request, **_kwargs: Any) -> Response:
        """Revoke every key and every certificate of a device, for good."""
        device = self.get_object()
        asked = ReasonSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        reason = asked.validated_data["reason"]
        with self.because(reason):
            keys, certificates = revoke_credentials(
                Device.objects.filter(pk=device.pk), by=user_name(request), reason=reason
            )
        return Response({"keys": keys, "certificates": certificates})

    @extend_schema(request=TrySerializer, responses=VerdictSerializer)
    @action(detail=False, methods=["post"], url_path="try-credential")
    def try_credential(self, request: Request, **_kwargs: Any) -> Response:
        """Say whether a device would be let in with a secret or a certificate, and why not.

        It leaves no evidence of use. Ten tries of an account may fail in a quarter of an hour.
        """
        asked = TrySerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        return tried(self, request, dict(asked.validated_data))

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
            if one is not None and not may(request, f"devices.add_{name}"):
                raise PermissionDenied
        device = asked.create(said)
        self.reach(Device, [device.pk])
        self.spend([device])
        more: dict[str, Any] = {}
        if wanted is not None:
            with within("key"):
                key, besides = make_key(device, dict(wanted))
            self.spend([key], "devices.add_presharedkey")
            more["key"] = {**KeySerializer(key).data, **besides}
        if presented is not None:
            with faults_of("certificate"):
                row = Certificate.objects.register(device=device, presented=presented)
            self.spend([row], "devices.add_certificate")
            more["certificate"] = CertificateSerializer(row).data
        return self.created(device, **more, warnings=device.identifier_warnings())

    def perform_destroy(self, row: Any) -> None:
        """Delete a device, unless something goes with it that the request may not delete."""
        found = dependants(Device.objects.filter(pk=row.pk))
        lacking = not_deletable(found, Holder(self.request))
        if lacking:
            text = _("Something goes with it that you may not delete: %(names)s.")
            raise PermissionDenied(text % {"names": ", ".join(lacking)})
        row.delete()

    def _set_enabled(self, *, enabled: bool) -> Response:
        device = self.get_object()
        asked = ReasonSerializer(data=self.request.data)
        asked.is_valid(raise_exception=True)
        with self.because(asked.validated_data["reason"]):
            Device.objects.filter(pk=device.pk).set_enabled(enabled=enabled)
        return self.row_response(device)
