"""Command permissions: rules of who may send which command to whom."""

from datetime import datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.db import models, transaction
from django.db.models import Case, F, Q, Value, When
from django.db.models.functions import Cast, Coalesce, Concat
from django.utils import timezone
from django.utils.translation import gettext, gettext_lazy as _

from acl import sentences
from acl.models.command_set import CommandSet, well_formed
from acl.patterns import MAX_LENGTH, validate_pattern
from devices import history
from devices.history import Recorded, Records
from devices.models import Device, DeviceGroup
from devices.values.text import isolated

# The keys of what names neither a device (its primary key) nor a group (that, negated).
EVERYONE = 0
ITSELF = -(2**62)
SAME_GROUP = ITSELF - 1


class Effect(models.TextChoices):
    """What a rule does to the commands that it matches."""

    ALLOW = "allow", _("Allow")
    DENY = "deny", _("Deny")


class SourceKind(models.TextChoices):
    """Whom a rule is about as the sender of commands."""

    DEVICE = "device", _("One device")
    GROUP = "group", _("A group of devices")
    EVERYONE = "everyone", _("Everyone")


class DestinationKind(models.TextChoices):
    """Whom a rule is about as the receiver of commands."""

    DEVICE = "device", _("One device")
    GROUP = "group", _("A group of devices")
    EVERYONE = "everyone", _("Everyone")
    ITSELF = "itself", _("The sender itself")
    SAME_GROUP = "same-group", _("Devices that share a group with the sender")


class RuleState(models.TextChoices):
    """Whether a rule takes part in decisions at a moment."""

    IN_FORCE = "force", _("In force")
    OFF = "off", _("Switched off")
    NOT_YET = "later", _("Not valid yet")
    EXPIRED = "expired", _("Expired")


def state_conditions(now: datetime) -> dict[RuleState, Q]:
    """Return the condition of each state at that moment; each rule fulfils exactly one."""
    begun = Q(valid_from=None) | Q(valid_from__lte=now)
    open_ = Q(valid_until=None) | Q(valid_until__gt=now)
    return {
        RuleState.OFF: Q(enabled=False),
        RuleState.NOT_YET: Q(enabled=True, valid_from__gt=now),
        RuleState.EXPIRED: Q(enabled=True, valid_until__lte=now),
        RuleState.IN_FORCE: Q(begun, open_, enabled=True),
    }


def state_order(now: datetime) -> Case:
    """Return the place of a rule's state among the states, to sort by."""
    return Case(
        *(When(condition, then=nth) for nth, condition in enumerate(state_conditions(now).values()))
    )


class CommandPermissionQuerySet(models.QuerySet["CommandPermission"]):
    def enabled(self) -> "CommandPermissionQuerySet":
        return self.filter(enabled=True)

    def in_force_at(self, now: datetime) -> "CommandPermissionQuerySet":
        return self.filter(state_conditions(now)[RuleState.IN_FORCE])

    def like(self, permission: "CommandPermission") -> "CommandPermissionQuerySet":
        """Return the rules with the effect, ends and command of one that is not stored."""
        return self.filter(**{name: getattr(permission, name) for name in IDENTITY})

    def named(self) -> "CommandPermissionQuerySet":
        """Return the rules with everything that their text needs."""
        return self.select_related(*NAMED)

    def set_enabled(self, *, enabled: bool) -> int:
        """Let these rules decide from now on, or nothing any more; return how many changed."""
        changed = 0
        with transaction.atomic():
            for batch in history.locked(self.filter(enabled=not enabled)):
                for rule in batch:
                    rule.enabled, rule.updated = enabled, timezone.now()
                history.bulk_update(batch, ["enabled", "updated"])
                changed += len(batch)
        return changed


NAMED = ("source_device", "source_group", "destination_device", "destination_group", "command_set")
IDENTITY = (
    "effect",
    "source_kind",
    "source_device_id",
    "source_group_id",
    "destination_kind",
    "destination_device_id",
    "destination_group_id",
    "pattern",
    "command_set_id",
)


def end_is_consistent(end: str) -> Q:
    """Return the condition that the kind of an end and what it names go together."""
    device, group = f"{end}_device", f"{end}_group"
    nothing = {f"{device}__isnull": True, f"{group}__isnull": True}
    return (
        Q(**{f"{end}_kind": "device", f"{device}__isnull": False, f"{group}__isnull": True})
        | Q(**{f"{end}_kind": "group", f"{device}__isnull": True, f"{group}__isnull": False})
        | Q(**{f"{end}_kind__in": NAMELESS_KINDS[end]}, **nothing)
    )


def named_key(end: str) -> Coalesce:
    """Return the key of what an end names: a device's, a group's negated, or everyone's."""
    return Coalesce(
        F(f"{end}_device"),
        F(f"{end}_group") * Value(-1, models.BigIntegerField()),
        Value(EVERYONE, models.BigIntegerField()),
        output_field=models.BigIntegerField(),
    )


# How ends and commands are written in words (`acl.notation`): before a name, and in place of one.
DEVICE, GROUP, SET = "device:", "group:", "set:"
NAMELESS_KINDS = {"source": ["everyone"], "destination": ["everyone", "itself", "same-group"]}
AMBIGUOUS = frozenset({*NAMELESS_KINDS["destination"], "nobody"})


class CommandPermission(Recorded):
    """A rule: these senders may, or may not, send these commands to those receivers."""

    effect = models.CharField(_("effect"), max_length=8, choices=Effect, default=Effect.ALLOW)
    source_kind = models.CharField(_("sender"), max_length=16, choices=SourceKind)
    source_device = models.ForeignKey(
        Device,
        verbose_name=_("from device"),
        null=True,
        blank=True,
        on_delete=models.CASCADE,
        related_name="permissions_as_source",
    )
    source_group = models.ForeignKey(
        DeviceGroup,
        verbose_name=_("from group"),
        null=True,
        blank=True,
        on_delete=models.CASCADE,
        related_name="permissions_as_source",
        help_text=_("Covers the groups below it too."),
    )
    destination_kind = models.CharField(_("receiver"), max_length=16, choices=DestinationKind)
    destination_device = models.ForeignKey(
        Device,
        verbose_name=_("to device"),
        null=True,
        blank=True,
        on_delete=models.CASCADE,
        related_name="permissions_as_destination",
    )
    destination_group = models.ForeignKey(
        DeviceGroup,
        verbose_name=_("to group"),
        null=True,
        blank=True,
        on_delete=models.CASCADE,
        related_name="permissions_as_destination",
        help_text=_("Covers the groups below it too."),
    )
    pattern = models.CharField(
        _("command"),
        max_length=MAX_LENGTH,
        blank=True,
        validators=[validate_pattern],
        help_text=_(
            "A command such as /v1/Config.Get, or a pattern: /v1/Config.* for a service, /v1/* for "
            "all below a path, * for every command."
        ),
    )
    command_set = models.ForeignKey(
        CommandSet,
        verbose_name=_("command set"),
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="permissions",
        help_text=_("In place of one command: a named set, kept in one place for many rules."),
    )
    enabled = models.BooleanField(
        _("enabled"), default=True, help_text=_("A rule that is switched off decides nothing.")
    )
    valid_from = models.DateTimeField(_("valid from"), null=True, blank=True)
    valid_until = models.DateTimeField(
        _("valid until"),
        null=True,
        blank=True,
        help_text=_("From this moment on the rule decides nothing. Empty: for good."),
    )
    note = models.CharField(
        _("note"), max_length=255, blank=True, help_text=_("Why the rule exists, for staff.")
    )
    created = models.DateTimeField(_("created"), auto_now_add=True)
    updated = models.DateTimeField(_("updated"), auto_now=True)

    # What a decision looks rules up by: kept by the database itself, so that they are never stale.
    source_key = models.GeneratedField(
        expression=named_key("source"), output_field=models.BigIntegerField(), db_persist=True
    )
    destination_key = models.GeneratedField(
        expression=Case(
            When(destination_kind="itself", then=Value(ITSELF, models.BigIntegerField())),
            When(destination_kind="same-group", then=Value(SAME_GROUP, models.BigIntegerField())),
            default=named_key("destination"),
        ),
        output_field=models.BigIntegerField(),
        db_persist=True,
    )
    command_key = models.GeneratedField(
        expression=Case(
            When(
                command_set__isnull=False,
                then=Concat(Value("*"), Cast("command_set", models.CharField())),
            ),
            default=F("pattern"),
        ),
        output_field=models.CharField(max_length=MAX_LENGTH),
        db_persist=True,
    )

    objects = CommandPermissionQuerySet.as_manager()
    history = Records(
        without=["created", "updated", "source_key", "destination_key", "command_key"]
    )
    bulk_fields = ("enabled", "valid_from", "valid_until", "note")
    restored_fields = (*(name.removesuffix("_id") for name in IDENTITY), *bulk_fields)

    class Meta:
        ordering = ["-pk"]
        verbose_name = _("rule")
        verbose_name_plural = _("rules")
        indexes = [
            models.Index(
                fields=["source_key", "destination_key", "command_key"],
                name="acl_permission_lookup",
            ),
            # For explanations and reports. All three keys again: whichever of the two PostgreSQL
            # takes for a decision, it reads nothing that does not match.
            models.Index(
                fields=["command_key", "destination_key", "source_key"],
                name="acl_permission_by_command_full",
            ),
            # For the admin: searches, and what filters choose where it is rare. A decision finds
            # nothing else to read in them: none is on a key.
            models.Index(
                fields=["pattern"], opclasses=["varchar_pattern_ops"], name="acl_permission_prefix"
            ),
            models.Index(fields=["note"], condition=~Q(note=""), name="acl_permission_noted"),
            models.Index(
                fields=["destination_kind", "-id"],
                condition=Q(destination_device=None, destination_group=None),
                name="acl_permission_to_unnamed",
            ),
            models.Index(
                fields=["-id"], condition=Q(effect=Effect.DENY), name="acl_permission_denies"
            ),
            models.Index(fields=["-id"], condition=Q(enabled=False), name="acl_permission_off"),
            models.Index(
                fields=["valid_from"],
                condition=Q(valid_from__isnull=False),
                name="acl_permission_begins",
            ),
            models.Index(
                fields=["valid_until"],
                condition=Q(valid_until__isnull=False),
                name="acl_permission_ends",
            ),
        ]
        constraints = [
            models.CheckConstraint(
                condition=Q(effect__in=Effect.values), name="acl_permission_effect_known"
            ),
            models.CheckConstraint(
                condition=end_is_consistent("source"), name="acl_permission_source_one"
            ),
            models.CheckConstraint(
                condition=end_is_consistent("destination"), name="acl_permission_destination_one"
            ),
            models.CheckConstraint(
                condition=Q(pattern="", command_set__isnull=False)
                | (~Q(pattern="") & Q(command_set__isnull=True)),
                name="acl_permission_command_one",
            ),
            models.CheckConstraint(
                condition=well_formed("pattern"), name="acl_permission_pattern_well_formed"
            ),
            models.CheckConstraint(
                condition=Q(valid_from=None)
                | Q(valid_until=None)
                | Q(valid_from__lt=F("valid_until")),
                name="acl_permission_window_ordered",
            ),
        ]

    def __str__(self) -> str:
        """Return what the rule says, as plain text without a full stop."""
        commands = isolated(sentences.commands_of(self.pattern))
        if self.command_set is not None:
            commands = gettext("commands of set {name}").format(
                name=isolated(self.command_set.name)
            )
        return sentences.template(self.effect, self.source_kind, self.destination_kind).format(
            source=isolated(self.source_device or self.source_group),
            destination=isolated(self.destination_device or self.destination_group),
            commands=commands,
        )

    @property
    def notation(self) -> str:
        """The rule as the command line and documents write it, whatever the language."""
        source, destination, command = map(
            isolated, (self.source_text, self.destination_text, self.command_text)
        )
        return f"{self.effect} {source} → {destination}: {command}"

    def state_at(self, now: datetime) -> RuleState:
        """Return whether the rule takes part in decisions at that moment, and why not."""
        if not self.enabled:
            return RuleState.OFF
        if self.valid_from is not None and self.valid_from > now:
            return RuleState.NOT_YET
        if self.valid_until is not None and self.valid_until <= now:
            return RuleState.EXPIRED
        return RuleState.IN_FORCE

    @property
    def source_text(self) -> str:
        """The sender as staff write it: an identifier, `group:NAME` or `everyone`."""
        return self._end_text(self.source_kind, self.source_device, self.source_group)

    @property
    def destination_text(self) -> str:
        """The receiver as staff write it; also `itself` and `same-group`."""
        return self._end_text(
            self.destination_kind, self.destination_device, self.destination_group
        )

    @property
    def command_text(self) -> str:
        """The command as staff write it: a pattern, or `set:NAME`."""
        return self.pattern if self.command_set is None else f"{SET}{self.command_set.name}"

    @staticmethod
    def _end_text(kind: str, device: Device | None, group: DeviceGroup | None) -> str:
        if device is not None:
            identifier = device.identifier
            ambiguous = identifier in AMBIGUOUS or identifier.startswith((GROUP, DEVICE))
            return f"{DEVICE}{identifier}" if ambiguous else identifier
        return f"{GROUP}{group.name}" if group is not None else str(kind)

    def clean(self) -> None:
        """Refuse a rule with two senders or none, and so on, at the field that mends it."""
        super().clean()
        errors: dict[str, Any] = {}
        for end in ("source", "destination"):
            errors |= self._end_errors(end)
        if self.pattern and self.command_set_id is not None:
            errors["command_set"] = _("A rule has a command or a command set, not both.")
        if not self.pattern and self.command_set_id is None:
            errors["pattern"] = _("Which command? Write one, or choose a command set.")
        if (
            self.valid_from is not None
            and self.valid_until is not None
            and self.valid_from >= self.valid_until
        ):
            errors["valid_until"] = _("“Valid until” must lie after “valid from”.")
        if errors:
            raise ValidationError(errors)

    def _end_errors(self, end: str) -> dict[str, Any]:
        kind = getattr(self, f"{end}_kind")
        errors: dict[str, Any] = {}
        for named, missing, extra in (
            (
                "device",
                _("Which device? Choose one, or choose another kind."),
                _("The rule is not about one device: leave this empty, or choose “One device”."),
            ),
            (
                "group",
                _("Which group? Choose one, or choose another kind."),
                _("The rule is not about a group: leave this empty, or choose “A group”."),
            ),
        ):
            given = getattr(self, f"{end}_{named}_id") is not None
            if kind == named and not given:
                errors[f"{end}_{named}"] = missing
            elif kind != named and given:
                errors[f"{end}_{named}"] = extra
        return errors
