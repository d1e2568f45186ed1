"""RTIO over the API: its servers, the routes of device services, sessions to end."""

from http import HTTPStatus
from typing import Any

from django.utils.translation import gettext as _
from drf_spectacular.utils import extend_schema
from rest_framework import exceptions
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from devices.api.base.serializers import (
    CharField,
    IntegerField,
    ModelSerializer,
    NothingSerializer,
    RowField,
    Serializer,
)
from devices.api.base.views import ReadMixin, RegistryViewSet, RowsViewSet
from devices.models import Device
from rpc.rtio.models import Cause, DeviceServiceRoute, RtioServer, SessionEnding
from rpc.rtio.models.session_ending import can_be_ended
from rpc.rtio.session_ending import request_endings


class ServerSerializer(ModelSerializer):
    """An RTIO server: where its device port is, and as which backend it calls."""

    class Meta:
        model = RtioServer
        fields = ["id", "name", "host", "port", "tls", "certificate", "backend", "enabled"]


class ServerViewSet(RowsViewSet):
    """RTIO servers: where sessions of devices are ended."""

    queryset = RtioServer.objects.order_by()
    serializer_class = ServerSerializer
    filterset_fields = ["name"]
    asks_guards = False  # no decision about commands depends on it


class RouteSerializer(ModelSerializer):
    """A URI that devices send to, and the URL of the service that RTIO asks for it."""

    class Meta:
        model = DeviceServiceRoute
        fields = ["id", "uri", "url", "enabled", "note"]


class RouteViewSet(RowsViewSet):
    """Routes of device services, as RTIO servers are told of them.

    RTIO only ever sets routes: one that is disabled or deleted works until RTIO restarts.
    """

    queryset = DeviceServiceRoute.objects.order_by()
    serializer_class = RouteSerializer
    filterset_fields = ["uri", "enabled"]
    asks_guards = False
    permissions = {"refuse": ("rpc.change_deviceserviceroute",)}

    @extend_schema(request=None)
    @action(detail=True, methods=["post"])
    def refuse(self, _request: Request, **_kwargs: Any) -> Response:
        """Point a route at an address that refuses, which RTIO learns within seconds."""
        self.asked(NothingSerializer)
        route = self.get_object()
        route.refuse()
        return self.row_response(route)


class EndingSerializer(ModelSerializer):
    """The session of a device that is to be ended at a server; once done, the receipt."""

    receipt = CharField(read_only=True, help_text="What became of it, in words.")

    class Meta:
        model = SessionEnding
        fields = [
            "id", "identifier", "device", "server", "cause", "requested_at", "requested_by",
            "state", "detail", "attempts", "intercepted", "ended_after", "receipt",
        ]  # fmt: skip
        read_only_fields = fields


class SessionSerializer(Serializer):
    """The device whose sessions are to be ended."""

    device = RowField(queryset=Device.objects.all())


class AskedSerializer(Serializer):
    """How many sessions are to be ended now that were not before: one for each server."""

    asked = IntegerField()


class SessionViewSet(ReadMixin, RegistryViewSet):
    """Sessions at RTIO servers that are ended, or were; the latest first."""

    queryset = SessionEnding.objects.select_related("server").order_by()
    serializer_class = EndingSerializer
    filterset_fields = ["identifier", "server", "state"]
    ordering = "-pk"
    asks_guards = False
    permissions = {"end": ("rpc.end_session",)}

    @extend_schema(request=SessionSerializer, responses={202: AskedSerializer})
    @action(detail=False, methods=["post"])
    def end(self, _request: Request, **_kwargs: Any) -> Response:
        """End the sessions of a device, which stays as it is: with a usable key it comes back.

        What becomes of it, its receipts say.
        """
        device = self.asked(SessionSerializer)["device"]
        if device.kind != Device.Kind.DEVICE or not can_be_ended(device.identifier):
            text = _("RTIO has no session under this ID: it takes devices with IDs of 36 bytes.")
            raise exceptions.ValidationError({"device": [text]})
        self.count_use([device])
        rows = request_endings([device], Cause.ASKED)
        return Response({"asked": len(rows)}, status=HTTPStatus.ACCEPTED)
