"""Assertions over the API, each with whether it holds."""

from dataclasses import asdict
from typing import Any

from django.core.exceptions import ValidationError
from drf_spectacular.utils import extend_schema
from rest_framework import exceptions, serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from acl.analysis import assertions
from acl.models import Assertion
from devices.api.base.serializers import (
    CharField,
    IntegerField,
    ListField,
    ModelSerializer,
    Serializer,
)
from devices.api.base.views import RowsViewSet

MAX_CHECKED = 1000  # lines of one request


class AssertionSerializer(ModelSerializer):
    """What staff expect of the rules, in one line of words, and whether it holds."""

    holds = serializers.SerializerMethodField()
    why = serializers.SerializerMethodField(help_text="Why it does not hold; empty where it does.")

    class Meta:
        model = Assertion
        fields = ["id", "text", "note", "holds", "why"]

    def validate_text(self, text: str) -> str:
        try:
            return assertions.validated(text)
        except ValidationError as error:
            raise exceptions.ValidationError(error.messages) from None

    def get_holds(self, assertion: Assertion) -> bool:
        return assertion.text not in self._broken()

    def get_why(self, assertion: Assertion) -> str:
        return self._broken().get(assertion.text, "")

    def _broken(self) -> dict[str, str]:
        """Return why assertions of this answer do not hold; they are checked together."""
        context: Any = self.context
        if "broken" not in context:
            shown: Any = self.root.instance
            rows = shown if isinstance(shown, list) else [shown]
            found = assertions.check(row.text for row in rows)
            context["broken"] = {one.text: one.why for one in found}
        return context["broken"]


class LinesSerializer(Serializer):
    """Assertions to check, saved or not; without any, those that are saved."""

    texts = ListField(child=CharField(max_length=1000), required=False, max_length=MAX_CHECKED)


class BrokenSerializer(Serializer):
    """An assertion that does not hold, and why."""

    text = CharField()
    why = CharField()


class CheckedSerializer(Serializer):
    """How many assertions were checked, and those that do not hold."""

    checked = IntegerField()
    broken = BrokenSerializer(many=True)


class AssertionViewSet(RowsViewSet):
    """Assertions: what staff expect of the rules, whoever changes them."""

    queryset = Assertion.objects.order_by()
    serializer_class = AssertionSerializer
    permissions = {"check": ("acl.view_assertion",)}

    @extend_schema(request=LinesSerializer, responses=CheckedSerializer)
    @action(detail=False, methods=["post"])
    def check(self, _request: Request, **_kwargs: Any) -> Response:
        """Check assertions: those of the body, or all that are saved."""
        asked = self.asked(LinesSerializer)
        texts = asked["texts"] if "texts" in asked else assertions.saved()
        broken = list(map(asdict, assertions.check(texts)))
        checked = sum(map(assertions.is_statement, texts))
        return Response({"checked": checked, "broken": broken})
