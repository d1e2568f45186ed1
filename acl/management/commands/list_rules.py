from typing import Any

from django.core.management.base import CommandParser
from django.db.models import Q
from django.utils import timezone

from acl.models import CommandPermission
from acl.models.command_permission import RuleState
from devices.management.base import RegistryCommand, fields_of, named


class Command(RegistryCommand):
    help = (
        "List rules with their numbers. export_permissions writes them to a file, explain says\n"
        "which of them decide about a command."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--device", type=named, metavar="ID", help="only rules that name this device"
        )
        parser.add_argument(
            "--group", type=named, metavar="NAME", help="only rules that name this group"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        rules = CommandPermission.objects.named().order_by("pk")
        if options["device"]:
            device = self.device(options["device"])
            rules = rules.filter(Q(source_device=device) | Q(destination_device=device))
        if options["group"]:
            group = self.group(options["group"])
            rules = rules.filter(Q(source_group=group) | Q(destination_group=group))
        found = list(rules)
        documents = [
            {
                "rule": rule.pk,
                "effect": rule.effect,
                "source": rule.source_text,
                "destination": rule.destination_text,
                "command": rule.command_text,
                **fields_of(rule, "enabled", "valid_from", "valid_until", "note"),
            }
            for rule in found
        ]
        now = timezone.now()
        states = [rule.state_at(now) for rule in found]
        for document, state in zip(documents, states, strict=True):
            document["state"] = state
        lines = [
            f"#{rule.pk} {rule.notation}"
            + ("" if state is RuleState.IN_FORCE else f"  ({state.label.lower()})")
            for rule, state in zip(found, states, strict=True)
        ]
        self.answer("\n".join(lines) or "No rule.", {"rules": documents})
