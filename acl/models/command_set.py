"""Command sets: a role's commands, kept in one place."""

from collections.abc import Iterable

from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Length, StrIndex
from django.utils.translation import gettext_lazy as _

from acl.patterns import MAX_LENGTH, validate_pattern
from devices.history import Recorded, Records


def well_formed(field: str) -> Q:
    """Return the condition that a pattern has no `*` but one at its end, after a boundary."""
    first_is_last = models.lookups.Exact(StrIndex(F(field), models.Value("*")), Length(field))
    return (
        ~Q(**{f"{field}__contains": "*"})
        | Q(**{field: "*"})
        | Q(Q(**{f"{field}__endswith": "/*"}) | Q(**{f"{field}__endswith": ".*"}))
        & Q(Q(first_is_last))  # as the migration has it
    )


class CommandSet(Recorded):
    """A named set of command patterns, such as “read configuration”, that rules refer to."""

    name = models.CharField(
        _("name"), max_length=100, help_text=_("What staff call it, such as “read configuration”.")
    )
    description = models.TextField(_("description"), blank=True)

    history = Records()
    restored_fields = ("name", "description")

    class Meta:
        ordering = ["name"]
        verbose_name = _("command set")
        verbose_name_plural = _("command sets")
        constraints = [
            models.UniqueConstraint(
                fields=["name"],
                name="acl_set_name_unique",
                violation_error_message=_("A command set of this name exists."),
            ),
            models.CheckConstraint(condition=~Q(name=""), name="acl_set_name_present"),
        ]

    def __str__(self) -> str:
        return self.name

    def replace_commands(self, patterns: Iterable[str]) -> None:
        """Make these the patterns of the set; raises ValidationError, with some changed."""
        rows = {row.pattern: row for row in CommandSetPattern.objects.filter(command_set=self)}
        wanted = set(patterns)
        for pattern in sorted(wanted - rows.keys()):
            row = CommandSetPattern(command_set=self, pattern=pattern)
            try:
                row.full_clean()
            except ValidationError as error:
                raise ValidationError(error.messages) from None
            row.save()
        for pattern in sorted(rows.keys() - wanted):
            rows[pattern].delete()


class CommandSetPattern(Recorded):
    """One pattern of a command set."""

    command_set = models.ForeignKey(
        CommandSet, verbose_name=_("command set"), on_delete=models.CASCADE, related_name="patterns"
    )
    pattern = models.CharField(
        _("command"),
        max_length=MAX_LENGTH,
        validators=[validate_pattern],
        help_text=_("A command, or a pattern such as /v1/Config.* or /v1/*."),
    )

    history = Records(owner="command_set")

    class Meta:
        ordering = ["pattern"]
        verbose_name = _("command pattern")
        verbose_name_plural = _("command patterns")
        indexes = [models.Index(fields=["pattern", "command_set"], name="acl_set_pattern_lookup")]
        constraints = [
            models.UniqueConstraint(
                fields=["command_set", "pattern"],
                name="acl_set_pattern_unique",
                violation_error_message=_("The set has this pattern already."),
            ),
            models.CheckConstraint(
                condition=~Q(pattern="") & well_formed("pattern"),
                name="acl_set_pattern_well_formed",
                violation_error_message=_("“*” may stand only at the end, after “/” or “.”."),
            ),
        ]

    def __str__(self) -> str:
        return self.pattern
