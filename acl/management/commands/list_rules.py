from typing import Any

from django.core.management.base import CommandParser
from django.db.models import Q

from acl.models import CommandPermission
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
        lines = [
            f"#{rule.pk} {rule.notation}" + ("" if rule.enabled else "  (switched off)")
            for rule in found
        ]
        self.answer(options, "\n".join(lines) or "No rule.", {"rules": documents})
