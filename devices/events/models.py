"""The tables of events: the outbox, the stream that numbers it, webhooks and what they are sent."""

import hashlib
import uuid
from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from django.core.exceptions import ValidationError
from django.core.serializers.json import DjangoJSONEncoder
from django.db import connection, models, transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from devices.credentials import hashing
from devices.credentials.sealing import SealedError
from devices.events import addresses, signing_secrets
from devices.events.kinds import Kind, kinds
from devices.history.context import circumstances
from devices.history.models import Recorded, Records
from devices.values.moments import written

NUMBERED = 1000  # events in one statement
MAX_WEBHOOKS = 50  # `deliver` has room for all of them at once, however slow they are
MAX_URL_LENGTH = 500
GIVE_UP_AFTER = timedelta(days=3)  # of trying to deliver an event
FORMER_SECRET = timedelta(days=1)  # how long messages are signed with the secret before, too
SEALED_FIELDS = ("pepper", "sealed", "former_sealed")
MAX_ANSWER = 500  # characters of a host's answer that are kept

NUMBER = """
UPDATE devices_event SET position = %s + waiting.nth
FROM (
    SELECT id, ROW_NUMBER() OVER (ORDER BY id) AS nth FROM devices_event
    WHERE position IS NULL ORDER BY id LIMIT %s
) AS waiting
WHERE devices_event.id = waiting.id
"""


class EventQuerySet(models.QuerySet["Event"]):
    def record(
        self, kind: Kind, data: Mapping[str, Any], *, groups: Collection[int] = ()
    ) -> "Event":
        """Leave an event, to be called in the transaction of what it is about."""
        return self.create(kind=kind, data={**data, **circumstances()}, groups=sorted(groups))


class Event(models.Model):
    """Something that happened, written in the transaction of the change.

    A reader gives it its `position` once it is committed, in `stream.number`.
    """

    uid = models.UUIDField(default=uuid.uuid4, editable=False)
    position = models.BigIntegerField(_("position"), null=True, editable=False)
    kind = models.CharField(_("kind"), max_length=64, choices=kinds, editable=False)
    moment = models.DateTimeField(_("time"), default=timezone.now, editable=False)
    groups = models.JSONField(default=list, editable=False)  # primary keys, of the devices in it
    data = models.JSONField(_("data"), encoder=DjangoJSONEncoder, editable=False)

    objects = EventQuerySet.as_manager()

    class Meta:
        verbose_name = _("event")
        verbose_name_plural = _("events")
        default_permissions = ("view",)
        ordering = ["-pk"]
        constraints = [
            models.UniqueConstraint(fields=["position"], name="devices_event_position_unique")
        ]
        indexes = [
            models.Index(
                fields=["id"], condition=Q(position=None), name="devices_event_not_numbered"
            )
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()}, {self.moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"

    @property
    def name(self) -> str:
        """Return the event's id as readers see it, which is also a webhook's `webhook-id`."""
        return f"evt_{self.uid.hex}"

    def document(self) -> dict[str, Any]:
        """Return the event as readers get it; the same at every delivery. (docs/events.md)"""
        return {
            "id": self.name,
            "type": self.kind,
            "timestamp": written(self.moment),
            "position": self.position,
            "data": self.data,
        }


class EventStream(models.Model):
    """The one row that says how far events are numbered, forgotten, and looked ahead."""

    position = models.BigIntegerField(default=0)  # the last one given
    pruned_position = models.BigIntegerField(default=0)  # the last one forgotten
    pruned_uid = models.UUIDField(null=True)
    # Credentials that end until then are announced: by days before the end, as ISO 8601.
    announced = models.JSONField(default=dict)

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return str(self.position)

    @classmethod
    def held(cls) -> "EventStream":
        """Return the row, locked until the transaction ends."""
        return cls.objects.select_for_update().get_or_create(pk=1)[0]


def number() -> int:
    """Give the committed events positions, in short transactions; return how many there were."""
    total, numbered = 0, NUMBERED
    while numbered == NUMBERED and Event.objects.filter(position=None).exists():
        with transaction.atomic():
            stream = EventStream.held()
            with connection.cursor() as cursor:
                cursor.execute(NUMBER, [stream.position, NUMBERED])
                numbered = cursor.rowcount
            if numbered:
                EventStream.objects.filter(pk=stream.pk).update(position=stream.position + numbered)
        total += numbered
    return total


def head() -> int:
    """Return the position of the newest event that has one; 0 before the first."""
    return EventStream.objects.filter(pk=1).values_list("position", flat=True).first() or 0


# --- Webhooks -------------------------------------------------------------------------------


class WebhookState(models.TextChoices):
    ACTIVE = "active", _("active")
    PAUSED = "paused", _("paused: what happens is sent later")
    OFF = "off", _("off: what happens is not sent")


class WebhookQuerySet(models.QuerySet["Webhook"]):
    def live_at(self, now: datetime) -> "WebhookQuerySet":
        """Return those whose secrets are needed: all of them, for what is switched off returns."""
        return self.all()


class Webhook(Recorded):
    """An address that is told of events, signed in the form of Standard Webhooks."""

    name = models.CharField(_("name"), max_length=100)
    url = models.CharField(
        _("URL"),
        max_length=MAX_URL_LENGTH,
        help_text=_("What is posted to: https://… A redirection is not followed."),
    )
    kinds = models.JSONField(
        _("kinds of events"), default=list, blank=True, help_text=_("None: all of them.")
    )
    group = models.ForeignKey(
        "devices.DeviceGroup",
        verbose_name=_("device group"),
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="+",
        help_text=_("Only events of devices in this group or below it."),
    )
    state = models.CharField(
        _("state"), max_length=8, choices=WebhookState, default=WebhookState.ACTIVE
    )
    off_because = models.CharField(_("switched off because"), max_length=255, blank=True)
    pepper = models.CharField(_("pepper"), max_length=32, editable=False)  # of what is sealed
    sealed = models.TextField(editable=False)
    former_sealed = models.TextField(blank=True, editable=False)
    former_until = models.DateTimeField(null=True, editable=False)
    position = models.BigIntegerField(default=0, editable=False)  # of the last event looked at
    created = models.DateTimeField(_("created"), auto_now_add=True)

    objects = WebhookQuerySet.as_manager()
    history = Records(
        without=["pepper", "sealed", "former_sealed", "former_until", "position", "created"]
    )
    restored_fields = ("name", "url", "state")

    class Meta:
        ordering = ["name"]
        verbose_name = _("webhook")
        verbose_name_plural = _("webhooks")
        constraints = [
            models.UniqueConstraint(
                fields=["name"],
                name="devices_webhook_name_unique",
                violation_error_message=_("A webhook of this name exists."),
            ),
            models.CheckConstraint(
                condition=~Q(name="") & ~Q(url=""), name="devices_webhook_named"
            ),
            models.CheckConstraint(
                condition=Q(state__in=WebhookState.values), name="devices_webhook_state_known"
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        """Refuse what would never be called, kinds that do not exist, and one webhook too many."""
        super().clean()
        errors: dict[str, Any] = {}
        try:
            if self.url:  # a field of its own says that it is required
                addresses.check_url(self.url)
        except addresses.RefusedError as refused:
            errors["url"] = str(refused)
        if not isinstance(self.kinds, list) or not set(self.kinds) <= set(Kind.values):
            errors["kinds"] = _("Choose among the kinds of events.")
        if errors:
            raise ValidationError(errors)
        if self._state.adding and Webhook.objects.count() >= MAX_WEBHOOKS:
            raise ValidationError(
                _("There are at most %(most)d webhooks.") % {"most": MAX_WEBHOOKS}, code="many"
            )

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Save; a webhook that is switched on is told of what happens from then on."""
        stored = None
        if not self._state.adding:
            stored = Webhook.objects.filter(pk=self.pk).values_list("state", flat=True).first()
        changes = stored != self.state
        if changes and stored in {None, WebhookState.OFF}:
            number()
            self.position = head()  # what happened before is not sent
            self.off_because = ""
            if fields := kwargs.get("update_fields"):
                kwargs["update_fields"] = {*fields, "position", "off_because"}
        with transaction.atomic():
            super().save(*args, **kwargs)
            if changes and stored is not None and self.state == WebhookState.ACTIVE:
                self.deliveries.waiting().resend()  # they have three days again

    def new_secret(self) -> str:
        """Give the webhook a signing secret and return it, which is shown once.

        The one before signs beside it for FORMER_SECRET, unless it cannot be read: nothing was
        signed with it any more. The row is saved where it is stored, under its lock.
        """
        secret = signing_secrets.generate()
        with transaction.atomic():
            if not self._state.adding:
                self.hold(*SEALED_FIELDS)
            try:
                former = signing_secrets.unseal(self.sealed, self.pepper) if self.sealed else ""
            except SealedError:
                former = ""
            self.former_until = timezone.now() + FORMER_SECRET if former else None
            self._seal(secret, former)
            if not self._state.adding:
                self.save(update_fields=[*SEALED_FIELDS, "former_until"])
        return secret

    @property
    def secrets_version(self) -> str:
        """Return what stands for the secrets as they are stored, and says nothing of them."""
        return hashlib.sha256(self.sealed.encode()).hexdigest()[:32]

    def _seal(self, secret: str, former: str) -> None:
        self.pepper = hashing.newest_pepper()
        self.sealed = signing_secrets.seal(secret)
        self.former_sealed = signing_secrets.seal(former) if former else ""

    def seal_again(self) -> bool:
        """Seal the secrets under the newest pepper; return False where they are."""
        if self.pepper == hashing.newest_pepper():
            return False
        former = (
            signing_secrets.unseal(self.former_sealed, self.pepper) if self.former_sealed else ""
        )
        self._seal(signing_secrets.unseal(self.sealed, self.pepper), former)
        rows = Webhook.objects.filter(pk=self.pk)
        rows.update(**{name: getattr(self, name) for name in SEALED_FIELDS})
        return True

    def secrets(self, now: datetime) -> list[bytes]:
        """Return the keys that messages are signed with, the newest first.

        Raises SealedError where the pepper is missing that they were sealed under.
        """
        sealed = [self.sealed]
        if self.former_sealed and self.former_until is not None and self.former_until > now:
            sealed.append(self.former_sealed)
        return [signing_secrets.key_of(signing_secrets.unseal(one, self.pepper)) for one in sealed]

    def wants(self, event: Event, groups: frozenset[int] | None) -> bool:
        """Whether it is told of an event; `groups` are its group and those below, None: any."""
        if event.kind == Kind.WEBHOOK_TESTED:
            return bool(event.data.get("id") == self.pk)
        if self.kinds and event.kind not in self.kinds:
            return False
        return groups is None or not groups.isdisjoint(event.groups)

    def switch_off(self, why: str) -> None:
        """Call the webhook no more, until staff switch it on again."""
        self.state, self.off_because = WebhookState.OFF, why[:255]
        self.save(update_fields=["state", "off_because"])
        Event.objects.record(
            Kind.WEBHOOK_SWITCHED_OFF, {"id": self.pk, "name": self.name, "why": self.off_because}
        )

    def test(self) -> None:
        """Have a message sent that says nothing but that the webhook works.

        Raises ValidationError where it is switched off: it is sent nothing then, nor later.
        """
        if self.state == WebhookState.OFF:
            text = _("“%(name)s” is switched off: nothing is sent to it.")
            raise ValidationError(text % {"name": self.name})
        Event.objects.record(Kind.WEBHOOK_TESTED, {"id": self.pk, "name": self.name})


class DeliveryState(models.TextChoices):
    WAITING = "waiting", _("waiting")
    DELIVERED = "delivered", _("delivered")
    FAILED = "failed", _("failed")


class DeliveryQuerySet(models.QuerySet["Delivery"]):
    def waiting(self) -> "DeliveryQuerySet":
        return self.filter(state=DeliveryState.WAITING)

    def resend(self) -> int:
        """Send these again, as soon as their webhooks are active; return how many."""
        now = timezone.now()
        return self.update(
            state=DeliveryState.WAITING, due_at=now, give_up_at=now + GIVE_UP_AFTER, claim=None
        )


class Delivery(models.Model):
    """One event for one webhook: to be sent, or the receipt."""

    webhook = models.ForeignKey(
        Webhook, verbose_name=_("webhook"), on_delete=models.CASCADE, related_name="deliveries"
    )
    event = models.ForeignKey(
        Event, verbose_name=_("event"), on_delete=models.CASCADE, related_name="deliveries"
    )
    state = models.CharField(
        _("state"), max_length=16, choices=DeliveryState, default=DeliveryState.WAITING
    )
    attempts = models.PositiveIntegerField(_("attempts"), default=0)
    due_at = models.DateTimeField(_("next attempt"))
    give_up_at = models.DateTimeField(_("given up"))
    claim = models.UUIDField(null=True, editable=False)
    tried_at = models.DateTimeField(_("last attempt"), null=True)
    code = models.PositiveSmallIntegerField(_("answer"), null=True)
    problem = models.CharField(_("problem"), max_length=255, blank=True)
    answer = models.CharField(_("text of the answer"), max_length=MAX_ANSWER, blank=True)
    duration = models.PositiveIntegerField(_("duration (ms)"), null=True)

    objects = DeliveryQuerySet.as_manager()

    class Meta:
        ordering = ["-pk"]
        verbose_name = _("delivery")
        verbose_name_plural = _("deliveries")
        default_permissions = ("view",)
        permissions = [("resend_delivery", _("Can send events again"))]
        constraints = [
            models.UniqueConstraint(fields=["webhook", "event"], name="devices_delivery_once"),
            models.CheckConstraint(
                condition=Q(state__in=DeliveryState.values), name="devices_delivery_state_known"
            ),
        ]
        indexes = [
            models.Index(
                fields=["webhook", "due_at"],
                condition=Q(state="waiting"),
                name="devices_delivery_due",
            ),
            models.Index(fields=["state", "-id"], name="devices_delivery_by_state"),
        ]

    def __str__(self) -> str:
        return f"{self.event.get_kind_display()} · {self.get_state_display()}"
