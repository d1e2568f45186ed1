"""Trust anchors and their revocation lists over the API."""

from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from devices.api.base.exporting import ExportMixin
from devices.api.base.parsing import BytesParser
from devices.api.base.problems import faults_of
from devices.api.base.serializers import CharField, ModelSerializer
from devices.api.base.views import ReadMixin, RegistryViewSet, RowsViewSet
from devices.credentials import crl, x509
from devices.models import CertificateAuthority, RevocationList

READ = ["subject", "fingerprint", "public_key_fingerprint", "not_before", "not_after", "created"]


class AuthoritySerializer(ModelSerializer):
    """A trust anchor: whose signature makes a certificate a device's, and how it names devices."""

    certificate = CharField(write_only=True, max_length=x509.MAX_TEXT_LENGTH)

    class Meta:
        model = CertificateAuthority
        fields = ["id", *CertificateAuthority.written_fields, "certificate", *READ, "pem"]
        read_only_fields = [*READ, "pem"]
        create_only = ["certificate"]

    def create(self, validated_data: dict[str, Any]) -> CertificateAuthority:
        presented = validated_data.pop("certificate")
        with faults_of("certificate", CertificateAuthority.written_fields):
            return CertificateAuthority.objects.register(presented=presented, **validated_data)


class RevocationListSerializer(ModelSerializer):
    """The revocation list of a trust anchor that is in force."""

    class Meta:
        model = RevocationList
        fields = [
            "id",
            "authority",
            "number",
            "this_update",
            "next_update",
            "entries",
            "loaded_at",
            "loaded_by",
        ]
        read_only_fields = fields


class AuthorityViewSet(ExportMixin, RowsViewSet):
    """Trust anchors: authorities that vouch for devices' certificates."""

    queryset = CertificateAuthority.objects.all()
    serializer_class = AuthoritySerializer
    filterset_fields = ["name", "fingerprint"]
    asks_guards = False
    max_body = crl.MAX_LIST_BYTES
    permissions = {"load_list": ("devices.change_certificateauthority",)}

    @extend_schema(
        request={"application/pkix-crl": OpenApiTypes.BINARY}, responses=RevocationListSerializer
    )
    @action(detail=True, methods=["post"], url_path="revocation-list", parser_classes=[BytesParser])
    def load_list(self, request: Request, **_kwargs: Any) -> Response:
        """Put a revocation list in force: the body, PEM or DER; it replaces the one before."""
        authority = self.get_object()
        loaded = authority.load_list(request.data or b"", by=self.get_username())
        return Response(RevocationListSerializer(loaded).data)


class RevocationListViewSet(ReadMixin, RegistryViewSet):
    """Revocation lists in force, one for each trust anchor that has one."""

    queryset = RevocationList.objects.all()
    serializer_class = RevocationListSerializer
    filterset_fields = ["authority"]
