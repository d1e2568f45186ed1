from typing import Any

from django.core.management.base import CommandError, CommandParser

from acl.analysis.lint import lint_saved
from acl.models import CommandPermission
from devices.database.turns import hold
from devices.management.base import NONE, ChangeCommand, moment_or_none, number, trimmed


class Command(ChangeCommand):
    help = (
        "Switch rules on or off, or change when they decide, by their numbers, as list_rules and\n"
        "permit print them: all of them, or none. Whom a rule is about is changed in the admin\n"
        "or with import_permissions; or delete it, and permit another."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("rules", nargs="+", type=number, metavar="rule", help="a rule's number")
        switch = parser.add_mutually_exclusive_group()
        switch.add_argument("--enable", action="store_true", help="let them decide")
        switch.add_argument(
            "--disable", action="store_true", help="they decide nothing from the next request on"
        )
        for end, what in (("from", "decide from then on"), ("until", "decide until then")):
            parser.add_argument(
                f"--valid-{end}",
                type=moment_or_none,
                default=...,
                metavar="TIME",
                help=f"{what} (ISO 8601); {NONE}: without this bound",
            )
        parser.add_argument("--note", type=trimmed, metavar="N", help="why they exist")

    def handle(self, *args: Any, **options: Any) -> None:
        changed: dict[str, Any] = {}
        if options["enable"] or options["disable"]:
            changed["enabled"] = options["enable"]
        for name in ("valid_from", "valid_until"):
            if options[name] is not ...:
                changed[name] = options[name]
        if options["note"] is not None:
            changed["note"] = options["note"]
        if not changed:
            raise CommandError("nothing to change: see --help", returncode=2)
        wanted = sorted(set(options["rules"]))
        with self.change(options):
            rules = CommandPermission.objects.named().in_bulk(hold(CommandPermission, wanted))
            for pk in wanted:
                if pk not in rules:
                    raise CommandError(f"there is no rule #{pk}", returncode=1)
                for name, value in changed.items():
                    setattr(rules[pk], name, value)
                rules[pk].full_clean()
                rules[pk].save(update_fields=[*changed])
        for rule in rules.values():
            for finding in lint_saved(rule):
                self.stderr.write(f"warning: #{rule.pk} {finding.text}")
        self.answer(
            "\n".join(f"Changed #{pk} {rules[pk].notation}" for pk in wanted),
            {"rules": wanted, "changed": changed},
        )
