"""Sessions that are ended at RTIO servers, and the receipts of those that were."""

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Any

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from devices import history
from devices.history import ChangeType, Origin, Recorded, Records
from devices.models import Device
from devices.values.addresses import MAX_LENGTH
from rpc.rtio.models.server import RtioServer

ID_BYTES = 36  # RTIO's device port takes no other length
PRUNED = 500  # receipts deleted at once
GIVE_UP_AFTER = timedelta(hours=1)  # of trying to end a session
ATTENTION = timedelta(days=7)  # how long the start page names what could not be ended


class Cause(models.TextChoices):
    """Why a session is ended."""

    DISABLED = "disabled", _("the device was disabled")
    DELETED = "deleted", _("the device was deleted")
    REVOKED = "revoked", _("its last credential was revoked")
    ROTATED = "rotated", _("its keys were rotated at once")
    ASKED = "asked", _("staff asked for it")


class EndingState(models.TextChoices):
    """What became of it."""

    WAITING = "waiting", _("not ended yet")
    ENDED = "ended", _("ended")
    NOT_CONNECTED = "not-connected", _("no session left; not known to be connected there")
    CANCELLED = "cancelled", _("not ended: the device may connect again")
    GIVEN_UP = "given-up", _("could not be ended")


class SessionEndingQuerySet(models.QuerySet["SessionEnding"]):
    def waiting(self) -> "SessionEndingQuerySet":
        """Return those that are not done."""
        return self.filter(state=EndingState.WAITING)

    def of(self, device: Device) -> "SessionEndingQuerySet":
        """Return those of a device, the newest first."""
        newest = self.filter(identifier=device.identifier).order_by("-requested_at", "-pk")
        return newest.select_related("server")

    def unresolved_at(self, now: datetime) -> "SessionEndingQuerySet":
        """Return those of the last week that staff must look after.

        Given up and not ended since, or with a secret that somebody else used.
        """
        later = SessionEnding.objects.filter(
            identifier=models.OuterRef("identifier"),
            server=models.OuterRef("server"),
            requested_at__gt=models.OuterRef("requested_at"),
            state__in=[EndingState.ENDED, EndingState.NOT_CONNECTED, EndingState.CANCELLED],
        )
        given_up = Q(state=EndingState.GIVEN_UP) & ~models.Exists(later)
        return self.filter(
            given_up | Q(intercepted__gt=0),
            requested_at__gte=now - ATTENTION,
            requested_at__lte=now,
        )

    def prune(self) -> int:
        """Delete the receipts, the oldest first and a few hundred at a time; return how many."""
        deleted = 0
        while rows := list(self.order_by("requested_at", "pk")[:PRUNED]):
            history.bulk_delete(rows)
            deleted += len(rows)
        return deleted


class SessionEnding(Recorded):
    """The session of one device, to be ended at one server; once done, the receipt.

    No constraint ties it to its device, which may be deleted: that is when a session is ended, too.
    """

    identifier = models.CharField(_("device"), max_length=MAX_LENGTH, editable=False)
    device = models.ForeignKey(
        Device,
        verbose_name=_("device"),
        null=True,
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        related_name="+",
        editable=False,
    )
    server = models.ForeignKey(
        RtioServer,
        verbose_name=_("RTIO server"),
        on_delete=models.CASCADE,
        related_name="endings",
        editable=False,
    )
    cause = models.CharField(_("why"), max_length=16, choices=Cause, editable=False)
    requested_at = models.DateTimeField(_("requested"), editable=False)
    requested_by = models.CharField(_("by"), max_length=150, blank=True, editable=False)
    origin = models.CharField(_("from"), max_length=16, choices=Origin, editable=False)
    admitted_here = models.BooleanField(
        _("last let in here"),
        default=False,
        editable=False,
        help_text=_("Whether the journal says that this server let the device in last."),
    )
    state = models.CharField(
        _("state"), max_length=16, choices=EndingState, default=EndingState.WAITING, editable=False
    )
    detail = models.CharField(_("last problem"), max_length=255, blank=True, editable=False)
    attempts = models.PositiveIntegerField(_("attempts"), default=0, editable=False)
    intercepted = models.PositiveIntegerField(
        _("one-time secrets used by others"), default=0, editable=False
    )
    ended_after = models.PositiveIntegerField(_("ended after (ms)"), null=True, editable=False)
    due_at = models.DateTimeField(_("next attempt"), editable=False)
    claim = models.UUIDField(null=True, editable=False)
    secret_digest = models.CharField(max_length=64, null=True, editable=False)  # noqa: DJ001 (unique)
    secret_valid_until = models.DateTimeField(null=True, editable=False)
    secret_used_at = models.DateTimeField(null=True, editable=False)

    objects = SessionEndingQuerySet.as_manager()
    history = Records(
        without=[
            "due_at",
            "claim",
            "secret_digest",
            "secret_valid_until",
            "secret_used_at",
            "origin",
            "admitted_here",
        ],
        owner="device",
    )

    class Meta:
        ordering = ["-requested_at", "-pk"]
        verbose_name = _("ended session")
        verbose_name_plural = _("ended sessions")
        default_permissions = ("view",)
        permissions = [("end_session", _("Can end a device's session"))]
        constraints = [
            models.UniqueConstraint(
                fields=["identifier", "server"],
                condition=Q(state="waiting"),
                name="rpc_ending_waits_once",
            ),
            models.UniqueConstraint(fields=["secret_digest"], name="rpc_ending_secret_unique"),
            models.CheckConstraint(
                condition=Q(state__in=EndingState.values), name="rpc_ending_state_known"
            ),
            models.CheckConstraint(
                condition=Q(cause__in=Cause.values), name="rpc_ending_cause_known"
            ),
            models.CheckConstraint(
                condition=Q(secret_digest=None) | Q(secret_valid_until__isnull=False),
                name="rpc_ending_secret_ends",
            ),
        ]
        indexes = [
            models.Index(fields=["due_at"], condition=Q(state="waiting"), name="rpc_ending_due"),
            models.Index(fields=["identifier", "-requested_at"], name="rpc_ending_device"),
            models.Index(fields=["-requested_at"], name="rpc_ending_time"),
        ]

    def __str__(self) -> str:
        return f"{self.identifier} · {self.get_state_display()}"

    def event_verb(self, change_type: ChangeType, before: Mapping[str, Any] | None) -> str:
        """Return what became of the session; it was not ended because its row is deleted."""
        if change_type is ChangeType.DELETED:
            return super().event_verb(change_type, before)
        return self.state.replace("-", "_")

    @property
    def gives_up_at(self) -> datetime:
        """Return until when it is retried."""
        return self.requested_at + GIVE_UP_AFTER

    def receipt(self) -> str:
        if self.state == EndingState.ENDED:
            return str(
                _("ended at %(server)s after %(ms)d ms")
                % {"server": self.server, "ms": self.ended_after or 0}
            )
        text = str(self.get_state_display())
        return f"{text}: {self.detail}" if self.detail else text


def may_connect_again(rows: Collection[SessionEnding]) -> set[str]:
    """Return the identifiers of those that were enabled, or registered, again meanwhile."""
    named = {row.identifier for row in rows if row.cause in (Cause.DISABLED, Cause.DELETED)}
    enabled = Device.objects.enabled().filter(identifier__in=named)
    return set(enabled.values_list("identifier", flat=True))


def can_be_ended(identifier: str) -> bool:
    """Whether RTIO's device port takes the id: 36 bytes, and no colon, which ends it there."""
    return len(identifier.encode("utf-8", "surrogatepass")) == ID_BYTES and ":" not in identifier
