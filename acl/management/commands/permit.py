from argparse import SUPPRESS
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import CommandParser
from django.utils.translation import gettext as _

from acl.analysis.lint import lint_saved
from acl.models import CommandPermission
from acl.models.command_permission import Effect
from acl.notation import read_rule
from devices.management.base import ChangeCommand, fields_of, moment, trimmed


class Command(ChangeCommand):
    help = (
        "Add a rule: whom it lets command whom, and what.\n\n"
        "X and Y: an identifier, group:NAME or everyone; Y also itself or same-group (the devices\n"
        "that share a group with the sender). PATTERN: a command, a pattern that ends in * after\n"
        "a slash or a dot, or set:NAME. Any rule that denies wins over every rule that allows."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--source", required=True, metavar="X", help="who sends")
        parser.add_argument("--destination", required=True, metavar="Y", help="who receives")
        parser.add_argument("--command", required=True, metavar="PATTERN", help="what is sent")
        parser.add_argument("--deny", action="store_true", help="deny it instead of allowing it")
        parser.add_argument(
            "--valid-from", type=moment, metavar="TIME", help="decides from then on (ISO 8601)"
        )
        parser.add_argument(
            "--valid-until", type=moment, metavar="TIME", help="decides until then (ISO 8601)"
        )
        parser.add_argument(
            "--note", type=trimmed, default="", metavar="N", help="why the rule exists"
        )
        # The name of --break-assertions before assertions were called so everywhere.
        parser.add_argument(
            "--break-expectations", dest="break_assertions", action="store_true", help=SUPPRESS
        )

    def handle(self, *args: Any, **options: Any) -> None:
        rule = read_rule(
            source=options["source"],
            destination=options["destination"],
            command=options["command"],
            effect=Effect.DENY if options["deny"] else Effect.ALLOW,
            **{name: options[name] for name in ("valid_from", "valid_until", "note")},
        )
        rule.full_clean()
        existing = CommandPermission.objects.like(rule).order_by("pk").first()
        if existing is not None:
            raise ValidationError(
                _("This rule exists: #%(pk)d %(rule)s.") % {"pk": existing.pk, "rule": existing}
            )
        with self.change(options):
            rule.save()
        for finding in lint_saved(rule):
            self.stderr.write(f"warning: this rule {finding.text}")
        self.answer(
            f"Added #{rule.pk}: {rule.notation}",
            {
                "rule": rule.pk,
                "effect": rule.effect,
                "source": rule.source_text,
                "destination": rule.destination_text,
                "command": rule.command_text,
                **fields_of(rule, "valid_from", "valid_until"),
            },
        )
