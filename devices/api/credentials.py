"""Keys and certificates over the API, and trying them."""

from typing import Any

from django.utils import timezone
from django.utils.translation import gettext as _
from django_filters.rest_framework import FilterSet
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from devices.api.base.exporting import ExportMixin
from devices.api.base.filters import CharFilter, KeyFilter, MomentFilter
from devices.api.base.problems import Conflict, faults_of
from devices.api.base.serializers import (
    BooleanField,
    CharField,
    ChoiceField,
    DateTimeField,
    IntegerField,
    ListField,
    ModelSerializer,
    ReasonSerializer,
    RowField,
    Serializer,
)
from devices.api.base.views import ChangeMixin, DeleteMixin, ReadMixin, RegistryViewSet
from devices.credentials import hashing, x509
from devices.models import Certificate, Device, PreSharedKey
from devices.models.credentials.pre_shared_key import check_end
from devices.verdicts import Outcome

MAX_OVERLAP = 366 * 24 * 60 * 60  # seconds
MAX_ADDRESS = 1000  # characters, percent signs included


class RevocationSerializer(ReasonSerializer):
    """Why a certificate is revoked, and whether its key goes along."""

    key_too = BooleanField(required=False, default=False)


class StateField(serializers.ChoiceField):
    """What a credential is worth now; only `verified` admits its device."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(choices=Outcome.choices, source="*", read_only=True, **kwargs)

    def to_representation(self, value: Any) -> str:
        return str(value.state_at(timezone.now()).value)


REVOCATION = ["revoked_at", "revoked_by", "revoked_reason"]


class KeySerializer(ModelSerializer):
    """A pre-shared key; its secret is in the answer to its making, and nowhere else."""

    state = StateField()

    class Meta:
        model = PreSharedKey
        fields = [
            "id",
            "device",
            "label",
            "state",
            "scheme",
            "hint",
            "not_before",
            "not_after",
            *REVOCATION,
            "created",
            "last_used",
        ]
        read_only_fields = ["scheme", "hint", *REVOCATION, "created", "last_used"]
        create_only = ["device"]


class NewKeySerializer(Serializer):
    """A key to make: with a generated secret, or with one that the device has already."""

    label = CharField(  # type: ignore[assignment] # a declared field is no attribute
        required=False, default="", allow_blank=True, max_length=100
    )
    not_before = DateTimeField(required=False, default=None, allow_null=True)
    not_after = DateTimeField(required=False, default=None, allow_null=True)
    secret = CharField(required=False, max_length=hashing.MAX_LENGTH, write_only=True)
    random = BooleanField(
        required=False,
        default=False,
        help_text="Whether a machine made the secret, with at least 128 bits.",
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        begins, ends = attrs["not_before"], attrs["not_after"]
        if begins is not None and ends is not None and begins >= ends:
            text = _("“Valid until” must lie after “valid from”.")
            raise serializers.ValidationError({"not_after": text})
        check_end(ends)
        return attrs


class IssueKeySerializer(NewKeySerializer):
    """A key to make for a device."""

    device = RowField(queryset=Device.objects.all())


class IssuedKeySerializer(KeySerializer):
    """A key that was just made; a generated secret is here, and never again."""

    secret = CharField(required=False, help_text="Missing where the secret was known already.")
    warnings = ListField(child=CharField())

    class Meta(KeySerializer.Meta):
        fields = [*KeySerializer.Meta.fields, "secret", "warnings"]


class RotationSerializer(Serializer):
    """When the old keys end, and what the new one is called."""

    overlap_seconds = IntegerField(
        required=False,
        default=0,
        min_value=0,
        max_value=MAX_OVERLAP,
        help_text="How long the old keys are still good for; 0 revokes them at once. Those that "
        "would only begin after it are revoked, too.",
    )
    label = CharField(  # type: ignore[assignment] # a declared field is no attribute
        required=False, default="", allow_blank=True, max_length=100
    )


def make_key(device: Device, asked: dict[str, Any]) -> tuple[PreSharedKey, dict[str, Any]]:
    """Issue or register a key; return it, and what its answer says besides: the secret, once."""
    known = asked.pop("secret", None)
    random = asked.pop("random")
    if known is None:
        key, secret = PreSharedKey.objects.issue(device=device, **asked)
        return key, {"secret": secret, "warnings": []}
    with faults_of("secret", ("label", "not_before", "not_after")):
        key = PreSharedKey.objects.register(device=device, secret=known, random=random, **asked)
    weakness = None if random else hashing.weakness(known, identifier=device.identifier)
    return key, {"warnings": [str(weakness)] if weakness else []}


class CredentialFilters(FilterSet):
    device = KeyFilter()
    device_identifier = CharFilter(field_name="device__identifier")
    ends_before = MomentFilter(
        method=lambda rows, _name, moment: rows.ending_before(moment, now=timezone.now())
    )


class CredentialViewSet(ExportMixin, ReadMixin, ChangeMixin, DeleteMixin, RegistryViewSet):
    """Keys or certificates; one that was revoked stays so, and is not deleted."""

    filterset_class = CredentialFilters
    asks_guards = False

    def perform_destroy(self: Any, row: Any) -> None:
        if row.revoked_at is not None:
            raise Conflict(
                _("It is revoked, and stays on record: nothing may bring it back."), code="revoked"
            )
        row.delete()


class KeyViewSet(CredentialViewSet):
    """Pre-shared keys: secrets that a device and the registry both know."""

    queryset = PreSharedKey.objects.select_related("device")
    serializer_class = KeySerializer
    permissions = {"revoke": ("devices.change_presharedkey",)}

    @extend_schema(request=IssueKeySerializer, responses={201: IssuedKeySerializer})
    def create(self, request: Request, **_kwargs: Any) -> Response:
        """Issue a key whose secret is generated, or register one that is known already.

        A generated secret is in this answer only.
        """
        fields = self.asked(IssueKeySerializer)
        key, said = make_key(fields.pop("device"), fields)
        self.check_reached(PreSharedKey, [key.pk])
        self.count_use([key])
        return self.created(key, **said)

    @extend_schema(request=ReasonSerializer, responses=KeySerializer)
    @action(detail=True, methods=["post"])
    def revoke(self, request: Request, **_kwargs: Any) -> Response:
        """Revoke a key from its next use on; one that is revoked stays as it is."""
        return self.revoke_row()


class CertificateSerializer(ModelSerializer):
    """A certificate that is pinned to a device, or revoked for ever."""

    state = StateField()
    certificate = CharField(write_only=True, max_length=x509.MAX_TEXT_LENGTH)

    class Meta:
        model = Certificate
        read_only_fields = [
            "subject",
            "issuer",
            "serial",
            "fingerprint",
            "public_key_fingerprint",
            "not_before",
            "not_after",
            *REVOCATION,
            "created",
            "last_used",
            "pem",
        ]
        fields = ["id", "device", "label", "pin", "certificate", "state", *read_only_fields]
        create_only = ["device", "pin", "certificate"]
        extra_kwargs = {"device": {"allow_null": False}}

    def create(self, validated_data: dict[str, Any]) -> Certificate:
        presented = validated_data.pop("certificate")
        with faults_of("certificate", ("device", "label", "pin")):
            return Certificate.objects.register(presented=presented, **validated_data)


class PresentedSerializer(RevocationSerializer):
    """A certificate of a device that is refused from now on, whoever vouches for it."""

    device = RowField(queryset=Device.objects.all())
    certificate = CharField(max_length=x509.MAX_TEXT_LENGTH)


class CertificateFilters(CredentialFilters):
    fingerprint_prefix = CharFilter(field_name="fingerprint", lookup_expr="startswith")


class CertificateViewSet(CredentialViewSet):
    """Certificates that staff pinned to devices, or revoked."""

    queryset = Certificate.objects.with_list_state().select_related("device")
    serializer_class = CertificateSerializer
    filterset_class = CertificateFilters
    permissions = {
        "revoke": ("devices.change_certificate",),
        "revoke_presented": ("devices.add_certificate", "devices.change_certificate"),
    }

    @extend_schema(responses={201: CertificateSerializer})
    def create(self, request: Request, **_kwargs: Any) -> Response:
        """Pin a certificate (PEM), or its public key, to a device."""
        return self.create_row(request)

    @extend_schema(request=RevocationSerializer, responses=CertificateSerializer)
    @action(detail=True, methods=["post"])
    def revoke(self, request: Request, **_kwargs: Any) -> Response:
        """Revoke a certificate from its next use on; with `key_too` every other one of its key."""
        return self.revoke_row(RevocationSerializer)

    @extend_schema(request=PresentedSerializer, responses=CertificateSerializer)
    @action(detail=False, methods=["post"], url_path="revoke-presented")
    def revoke_presented(self, request: Request, **_kwargs: Any) -> Response:
        """Revoke a certificate of a device that need not have been registered before."""
        asked = self.asked(PresentedSerializer)
        presented = asked.pop("certificate")
        with self.because(asked["reason"], field="reason"), faults_of("certificate"):
            row = Certificate.objects.revoke_presented(
                presented=presented, by=self.get_username(), **asked
            )
        self.check_reached(Certificate, [row.pk])
        self.count_use([row])
        return self.row_response(row)


class TrySerializer(Serializer):
    """A device, by the address or the ID that it is known by, and what it would present."""

    device = CharField(max_length=MAX_ADDRESS)
    secret = CharField(required=False, max_length=hashing.MAX_LENGTH, write_only=True)
    certificate = CharField(required=False, max_length=x509.MAX_TEXT_LENGTH, write_only=True)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if not attrs.keys() & {"secret", "certificate"}:
            raise serializers.ValidationError(_("Fill in a secret, a certificate, or both."))
        return attrs


class VerdictSerializer(Serializer):
    """Whether the device is let in, and why not."""

    verified = BooleanField()
    outcome = ChoiceField(choices=Outcome.choices)
    reason = CharField()
    device = IntegerField(allow_null=True)
    key = IntegerField(allow_null=True)
    certificate = IntegerField(allow_null=True)
