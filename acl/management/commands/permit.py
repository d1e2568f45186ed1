from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import CommandParser
from django.utils.translation import gettext as _

from acl.analysis import what_if
from acl.analysis.lint import lint_saved
from acl.models import CommandPermission
from acl.models.command_permission import Effect
from acl.notation import read_rule
from devices.management.base import RegistryCommand


class Command(RegistryCommand):
    help = (
        "Add a rule: whom it lets command whom, and what.\n\n"
        "X and Y: an identifier, group:NAME or everyone; Y also itself or same-group (the devices\n"
        "that share a group with the sender). PATTERN: a command, a pattern that ends in * after\n"
        "a slash or a dot, or set:NAME. Any rule that denies wins over every rule that allows."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--source", required=True, metavar="X", help="who sends")
        parser.add_argument("--destination", required=True, metavar="Y", help="who receives")
        parser.add_argument("--command", required=True, metavar="PATTERN", help="what is sent")
        parser.add_argument("--deny", action="store_true", help="deny it instead of allowing it")
        parser.add_argument("--note", default="", metavar="N", help="why the rule exists")
        parser.add_argument(
            "--break-assertions",
            "--break-expectations",  # its name before assertions were called so everywhere
            action="store_true",
            help="add it even if a saved assertion then no longer holds",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        rule = read_rule(
            source=options["source"],
            destination=options["destination"],
            command=options["command"],
            effect=Effect.DENY if options["deny"] else Effect.ALLOW,
            note=options["note"],
        )
        rule.full_clean()
        existing = CommandPermission.objects.like(rule).order_by("pk").first()
        if existing is not None:
            raise ValidationError(
                _("This rule exists: #%(pk)d %(rule)s.") % {"pk": existing.pk, "rule": existing}
            )
        broken = what_if.consequences_of(what_if.saving(rule), {}).broken
        if broken and not options["break_assertions"]:
            raise ValidationError(
                [_("This breaks an assertion: %s") % one for one in broken]
                + [_("Nothing was added; --break-assertions adds it all the same.")]
            )
        rule.save()
        for finding in lint_saved(rule):
            because = f" (#{finding.other.pk} {finding.other.notation})" if finding.other else ""
            self.stderr.write(f"warning: this rule {finding.fault.label}{because}")
        self.answer(
            options,
            f"Added #{rule.pk}: {rule.notation}",
            {
                "rule": rule.pk,
                "effect": rule.effect,
                "source": rule.source_text,
                "destination": rule.destination_text,
                "command": rule.command_text,
            },
        )
