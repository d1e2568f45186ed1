from operator import attrgetter
from typing import Any

from django.core.management.base import CommandError, CommandParser

from acl.models import CommandPermission
from devices.management.base import ChangeCommand, number


class Command(ChangeCommand):
    help = "Delete rules by their numbers, as list_rules and permit print them."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("rules", nargs="+", type=number, metavar="rule", help="a rule's number")

    def handle(self, *args: Any, **options: Any) -> None:
        rules = CommandPermission.objects.in_bulk(options["rules"])
        for wanted in options["rules"]:
            if wanted not in rules:
                raise CommandError(f"there is no rule #{wanted}", returncode=1)
        told = [f"Deleted #{number} {rule.notation}" for number, rule in rules.items()]
        with self.change(options):
            for rule in sorted(rules.values(), key=attrgetter("pk")):
                rule.hold()
                rule.delete()
        self.answer("\n".join(told), {"rules": sorted(set(options["rules"]))})
