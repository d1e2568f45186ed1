"""The views and their paths."""

from typing import Any

from django.contrib.auth.hashers import check_password
from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.utils import timezone
from rest_framework import serializers
from rest_framework.parsers import JSONParser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from benchmarks.competitors.stock.models import Device, Key


class AnyJsonParser(JSONParser):
    """JSON whatever the header says: RTIO sends none."""

    media_type = "*/*"


class Question(serializers.Serializer[Any]):
    """RTIO's request."""

    id = serializers.IntegerField(min_value=0, max_value=2**32 - 1)
    method = serializers.ChoiceField(choices=["verify"])
    deviceid = serializers.CharField(min_length=30, max_length=40)
    devicesecret = serializers.CharField(min_length=3, max_length=128, trim_whitespace=False)


class Verifier(APIView):
    """RTIO's question about each device that connects."""

    parser_classes = [AnyJsonParser]

    def post(self, request: Request) -> Response:
        """Answer `{"id":…,"code":…}`."""
        question = Question(data=request.data)
        if not question.is_valid():
            return Response({"id": 0, "code": "BAD_REQUEST"})
        asked = question.validated_data
        return Response({"id": asked["id"], "code": self.code_for(asked)})

    def code_for(self, asked: dict[str, Any]) -> str:
        """Return the code that a valid question is answered with."""
        device = Device.objects.filter(identifier=asked["deviceid"]).first()
        if device is None:
            return "NOT_FOUND"
        now = timezone.now()
        usable = Key.objects.filter(
            Q(not_before=None) | Q(not_before__lte=now),
            Q(not_after=None) | Q(not_after__gt=now),
            device=device,
            revoked_at=None,
        )
        matches = any(check_password(asked["devicesecret"], key.password) for key in usable)
        return "OK" if device.enabled and matches else "VERIFICATION_FAILED"


class Empty(APIView):
    """REST framework, and nothing in it."""

    def post(self, request: Request) -> Response:
        """Answer what is always the same."""
        return Response({"id": 0, "code": "OK"}, headers={"Content-Length": "20"})


def empty(_request: HttpRequest) -> HttpResponse:
    """Answer what is always the same."""
    return HttpResponse(b'{"id":0,"code":"OK"}', headers={"Content-Length": "20"})


urlpatterns = [
    path("deviceverifier", Verifier.as_view()),
    path("empty", empty),
    path("empty-api", Empty.as_view()),
]
