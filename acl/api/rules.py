"""Rules and the commands that they are about, over the API."""

from typing import Any

from django.utils import timezone
from django_filters import ChoiceFilter
from django_filters.rest_framework import FilterSet
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from acl.analysis.lint import Fault, lint_saved
from acl.models import CommandPermission, CommandSet
from acl.models.command_permission import Effect, RuleState
from devices.api.base.exporting import ExportMixin
from devices.api.base.filters import CharFilter, KeyFilter, TruthFilter
from devices.api.base.problems import within
from devices.api.base.serializers import (
    CharField,
    ChoiceField,
    IntegerField,
    ListField,
    ModelSerializer,
    Serializer,
)
from devices.api.base.views import RowsViewSet

MAX_COMMANDS = 1000  # of one set


class FindingSerializer(Serializer):
    """What is wrong with a rule, and the other rule that makes it so."""

    rule = IntegerField()
    text = CharField()
    fault = ChoiceField(choices=Fault.choices)
    other = IntegerField(allow_null=True)


class RuleSerializer(ModelSerializer):
    """A rule: these senders may, or may not, send these commands to those receivers.

    A sender or receiver of kind `device` or `group` is named by its key; commands are a pattern or
    the key of a command set.
    """

    text = serializers.SerializerMethodField(
        help_text="The rule in one line, which names devices and groups: empty in the answer to "
        "whoever may neither see nor change rules."
    )
    state = serializers.SerializerMethodField(help_text="Whether it takes part in decisions now.")
    findings = serializers.SerializerMethodField(
        help_text="What is wrong with the rule; in the answer to a change of it."
    )

    class Meta:
        model = CommandPermission
        fields = [
            "id", "effect", "source_kind", "source_device", "source_group", "destination_kind",
            "destination_device", "destination_group", "pattern", "command_set", "enabled",
            "valid_from", "valid_until", "note", "text", "state", "findings", "created", "updated",
        ]  # fmt: skip
        read_only_fields = ["created", "updated"]
        only_of_changes = ["findings"]

    @extend_schema_field(ChoiceField(choices=RuleState.choices))
    def get_state(self, rule: CommandPermission) -> str:
        """Return whether the rule takes part in decisions, and why not."""
        return str(rule.state_at(timezone.now()).value)

    @extend_schema_field(FindingSerializer(many=True))
    def get_findings(self, rule: CommandPermission) -> list[dict[str, Any]]:
        """Return what is wrong with the rule, and with those that it affects, if one may see."""
        return [finding.as_document() for finding in lint_saved(rule)] if self._sees_rules else []

    def get_text(self, rule: CommandPermission) -> str:
        """Return the rule in one line, if one may see."""
        return rule.notation if self._sees_rules else ""

    @property
    def _sees_rules(self) -> bool:
        may = self.context["view"].may
        return bool(may("acl.view_commandpermission") or may("acl.change_commandpermission"))


class RuleFilters(FilterSet):
    effect = ChoiceFilter(choices=Effect.choices)
    enabled = TruthFilter()
    source_device = KeyFilter()
    source_group = KeyFilter()
    destination_device = KeyFilter()
    destination_group = KeyFilter()
    command_set = KeyFilter()
    pattern = CharFilter()
    pattern_prefix = CharFilter(field_name="pattern", lookup_expr="startswith")


class RuleViewSet(ExportMixin, RowsViewSet):
    """Rules: who may send which command to whom."""

    queryset = CommandPermission.objects.named()
    serializer_class = RuleSerializer
    filterset_class = RuleFilters


class CommandsField(ListField):
    """The patterns of a command set, as texts."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(child=CharField(), max_length=MAX_COMMANDS, **kwargs)

    def get_attribute(self, instance: Any) -> list[str]:
        return sorted(row.pattern for row in instance.patterns.all())


class CommandSetSerializer(ModelSerializer):
    """A command set; `commands` are its patterns."""

    commands = CommandsField(required=False)

    class Meta:
        model = CommandSet
        fields = ["id", "name", "description", "commands"]
        versioned_with = ["patterns"]

    def create(self, validated_data: dict[str, Any]) -> CommandSet:
        commands = validated_data.pop("commands", [])
        command_set: CommandSet = super().create(validated_data)
        self._replace(command_set, commands)
        return command_set

    def update(self, instance: CommandSet, validated_data: dict[str, Any]) -> CommandSet:
        """Save what was changed; the commands that are given replace those that are there."""
        commands = validated_data.pop("commands", None)
        command_set: CommandSet = super().update(instance, validated_data)
        if commands is not None:
            self._replace(command_set, commands)
        return command_set

    @staticmethod
    def _replace(command_set: CommandSet, commands: list[str]) -> None:
        with within("commands"):
            command_set.replace_commands(commands)


class CommandSetViewSet(RowsViewSet):
    """Command sets: commands that many rules refer to, kept in one place."""

    queryset = CommandSet.objects.prefetch_related("patterns")
    serializer_class = CommandSetSerializer
    filterset_fields = ["name"]
    permissions = {
        "create": ("acl.add_commandset", "acl.add_commandsetpattern"),
        "partial_update": (
            "acl.change_commandset",
            "acl.add_commandsetpattern",
            "acl.delete_commandsetpattern",
        ),
        "destroy": ("acl.delete_commandset", "acl.delete_commandsetpattern"),
    }
