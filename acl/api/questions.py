"""Questions about the rules over the API: decisions, why they are so, what a change would turn."""

from collections.abc import Callable
from typing import Any

from django.db.models import TextChoices
from django.utils.translation import gettext as _
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import exceptions, serializers
from rest_framework.request import Request as HttpRequest
from rest_framework.response import Response

from acl.analysis import what_if
from acl.analysis.lint import MAX_EXAMINED, Fault, report
from acl.api.assertions import BrokenSerializer
from acl.api.rules import FindingSerializer, RuleSerializer
from acl.engine.decisions import MAX_REQUESTS, Reason, Request, decide_many
from acl.engine.explanations import Standing, explain
from acl.models import CommandPermission
from devices.api.base.permissions import demand, may_all
from devices.api.base.problems import ParameterError, within
from devices.api.base.serializers import (
    BooleanField,
    CharField,
    ChoiceField,
    DateTimeField,
    IntegerField,
    ListField,
    RowField,
    Serializer,
)
from devices.api.base.views import ApiView
from devices.models import Device
from devices.values.addresses import AddressError

VIEW = "acl.view_commandpermission"
MAX_ADDRESS = 1000  # characters, percent signs included
AT = "The moment that is asked about, by the rules and devices as they are; now unless given."


class AddressField(CharField):
    """The address of a device, or its ID; it is reduced to the ID."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(max_length=MAX_ADDRESS, **kwargs)

    def to_internal_value(self, data: Any) -> str:
        try:
            return Device.objects.id_of(super().to_internal_value(data))
        except AddressError as error:
            raise exceptions.ValidationError(str(error)) from None


class QuestionSerializer(Serializer):
    """May this sender send this command to this receiver?"""

    source = AddressField(  # type: ignore[assignment] # a declared field is no attribute
        help_text="The sender, such as //example.com/device_1."
    )
    destination = AddressField(help_text="The receiver.")
    command = CharField(max_length=MAX_ADDRESS, help_text="Such as /v1/Config.Get.")


class QuestionsSerializer(Serializer):
    """Questions, answered in their order."""

    requests = ListField(child=QuestionSerializer(), max_length=MAX_REQUESTS)
    at = DateTimeField(required=False, help_text=AT)


class AskedSerializer(Serializer):
    """What was asked, by IDs."""

    source = CharField()  # type: ignore[assignment] # a declared field is no attribute
    destination = CharField()
    command = CharField()


class DecisionSerializer(AskedSerializer):
    """Whether a command may pass, why, and the key of the rule that decided, if one did."""

    allowed = BooleanField()
    reason = ChoiceField(choices=Reason.choices)
    text = CharField(help_text="The reason in words.")
    rule = IntegerField(allow_null=True)


class DecisionsSerializer(Serializer):
    """Decisions, in the order of the questions."""

    results = DecisionSerializer(many=True)


class QuestionView(ApiView):
    """A question about the rules; nothing is changed."""

    asks_guards = False


class DecideView(QuestionView):
    """Decide."""

    permissions = {"post": (VIEW,)}

    @extend_schema(
        operation_id="decide", request=QuestionsSerializer, responses=DecisionsSerializer
    )
    def post(self, request: HttpRequest) -> Response:
        """Decide whether commands may pass, as the machine endpoints would now, or at a moment.

        Up to 1,000 questions in a request; nothing is written into the journal.
        """
        said = self.asked(QuestionsSerializer)
        asked = [Request(**one) for one in said["requests"]]
        decided = zip(asked, decide_many(asked, now=said.get("at")), strict=True)
        return Response({"results": [one.answered(decision) for one, decision in decided]})


class PartSerializer(Serializer):
    """A rule, and what it had to do with a decision."""

    rule = IntegerField()
    text = CharField()
    standing = ChoiceField(choices=Standing.choices)


class MomentOfAddressField(DateTimeField):
    """A moment in an address, where a `+` that is not escaped means a space."""

    def to_internal_value(self, value: Any) -> Any:
        return super().to_internal_value(value.replace(" ", "+"))


class QuestionAtSerializer(QuestionSerializer):
    """A question, and the moment that it is about."""

    at = MomentOfAddressField(required=False, help_text=AT)


class ExplanationSerializer(DecisionSerializer):
    """A decision with its reasons: the rule that decided is first, near misses are last.

    `at` is the moment that was asked about, or null: it was now. The groups are null to whoever may
    not see groups.
    """

    at = DateTimeField(allow_null=True)
    source_groups = ListField(child=CharField(), allow_null=True)
    destination_groups = ListField(child=CharField(), allow_null=True)
    rules = PartSerializer(many=True)


class ExplainView(QuestionView):
    """Explain."""

    permissions = {"get": (VIEW,)}
    parameters = {"get": ("source", "destination", "command", "at")}

    @extend_schema(
        operation_id="explain",
        parameters=[QuestionAtSerializer],
        responses=ExplanationSerializer,
    )
    def get(self, request: HttpRequest) -> Response:
        """Explain why a command may pass or not.

        Names the rules that took part, and those that would match but for one thing.
        """
        question = QuestionAtSerializer(data=request.query_params.dict())
        if not question.is_valid():
            name, errors = next(iter(question.errors.items()))
            raise ParameterError(str(name), errors[0])
        asked = dict(question.validated_data)
        document = explain(now=asked.pop("at", None), **asked).as_document()
        if not may_all(request, "devices.view_devicegroup"):
            document |= {"source_groups": None, "destination_groups": None}
        return Response(document)


class Change(TextChoices):
    """What is tried with a rule."""

    CREATE = "create"
    CHANGE = "change"
    DELETE = "delete"


class ChangeSerializer(Serializer):
    """A change of a rule, and the requests that it is tried with."""

    change = ChoiceField(choices=Change.choices)
    id = RowField(
        queryset=CommandPermission.objects.named(),
        required=False,
        help_text="The rule to change or to delete.",
    )
    rule = serializers.JSONField(
        required=False, help_text="The fields of the rule, or those that would change."
    )
    requests = ListField(
        child=QuestionSerializer(),
        required=False,
        max_length=MAX_REQUESTS,
        help_text="Without any: what was asked of late, and what the assertions are about.",
    )
    at = DateTimeField(required=False, help_text=AT)


class TurnedSerializer(AskedSerializer):
    """A request that would be answered otherwise; `asked` is how often it was made of late.

    `begins` is when, if the rule begins later; null: at once.
    """

    allowed_before = BooleanField()
    allowed = BooleanField()
    asked = IntegerField()
    begins = DateTimeField(allow_null=True)


class ConsequencesSerializer(Serializer):
    """What a change would turn: of many decisions the first hundred."""

    tried = IntegerField()
    changed_decisions_total = IntegerField()
    changed_decisions = TurnedSerializer(many=True)
    broken_assertions = BrokenSerializer(many=True)


class WhatIfView(QuestionView):
    """What if."""

    permissions = {"post": (VIEW,)}

    @extend_schema(
        operation_id="what_if", request=ChangeSerializer, responses=ConsequencesSerializer
    )
    def post(self, request: HttpRequest) -> Response:
        """Try a change of a rule: which decisions would be others, which assertions would break.

        Needs the permission for the change itself, too. Nothing is changed.
        """
        said = self.asked(ChangeSerializer)
        requests = {Request(**one): 0 for one in said["requests"]} if "requests" in said else None
        change = self._tried(request, said)
        found = what_if.consequences_of(change, requests, now=said.get("at"))
        return Response(found.as_json())

    def _tried(self, request: HttpRequest, said: dict[str, Any]) -> Callable[[], object]:
        kind = Change(said["change"])
        verb = "add" if kind is Change.CREATE else kind.value
        demand(request, f"acl.{verb}_commandpermission")
        is_new = kind is Change.CREATE
        if is_new is ("id" in said):
            text = _("A new rule has no key.") if is_new else _("Name the rule that is meant.")
            raise exceptions.ValidationError({"id": [text]})
        if kind is Change.DELETE and "rule" in said:
            text = _("Leave this out: the rule would be deleted as it is.")
            raise exceptions.ValidationError({"rule": [text]})
        row: CommandPermission | None = said.get("id")
        if row is not None and kind is Change.DELETE:
            return what_if.removing(row)
        context = {"view": self, "request": request}
        rule = RuleSerializer(
            row, data=said.get("rule", {}), partial=row is not None, context=context
        )
        with within("rule"):
            rule.is_valid(raise_exception=True)
        return rule.save


class ReportSerializer(Serializer):
    """What is wrong with rules; `is_partial` where there was more to look at or to tell."""

    examined_at_most = IntegerField()
    is_partial = BooleanField()
    findings = FindingSerializer(many=True)


class LintView(QuestionView):
    """Lint."""

    permissions = {"get": (VIEW,)}
    parameters = {"get": ("fault",)}

    @extend_schema(
        operation_id="lint",
        parameters=[OpenApiParameter("fault", enum=Fault.values, description="Only such.")],
        responses=ReportSerializer,
    )
    def get(self, request: HttpRequest) -> Response:
        """List rules that decide nothing, or open everything, among the oldest 2,000."""
        wanted = request.query_params.get("fault")
        if wanted is not None and wanted not in Fault.values:
            text = _("Write one of these: %(names)s.") % {"names": ", ".join(Fault.values)}
            raise ParameterError("fault", text)
        found = report(Fault(wanted) if wanted else None)
        return Response(
            {
                "examined_at_most": MAX_EXAMINED,
                "is_partial": found.is_partial or found.is_cut,
                "findings": [one.as_document() for one in found.findings],
            }
        )
