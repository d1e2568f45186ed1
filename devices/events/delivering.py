"""Calling webhooks: `manage.py deliver`, or a thread of `serve` where DELIVER is on.

What is to be sent is a row for each event and webhook, made from the stream in its order. A thread
claims the rows that are due, for longer than an attempt takes; a process that dies loses none: its
rows are claimed by another once the lease is over, and sent again under the same id. Attempts run
in an event loop, few at once for each webhook, so that a host that hangs holds up nobody else.
Failures are retried for three days, at growing intervals; then the webhook is switched off.
(docs/events.md)
"""

import base64
import hmac
import json
import logging
import random
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.core.serializers.json import DjangoJSONEncoder
from django.db import connection, transaction
from django.db.models import Exists, F, OuterRef
from django.utils import timezone

from devices.background import attempts
from devices.credentials.sealing import SealedError
from devices.database.deadlines import guard
from devices.events import expiring, outgoing, stream
from devices.events.models import (
    GIVE_UP_AFTER,
    MAX_ANSWER,
    Delivery,
    DeliveryState,
    Event,
    Webhook,
    WebhookState,
)
from devices.events.outgoing import Answer
from devices.history.context import by_itself

AGENT = "Authsite-Webhooks/1"
POLL = 0.2  # seconds between two looks
LEASE = timedelta(seconds=60)  # longer than an attempt takes
MAX_PER_WEBHOOK = 8  # attempts at once
MAX_FANNED = 500  # events in one step
FIRST_PAUSE = 5.0  # seconds before the second attempt; each further one waits twice as long
MAX_PAUSE = 4 * 60 * 60.0
GONE = 410  # what a host answers that wants to be called no more
ANNOUNCING = 60.0  # seconds between two looks at what expires
STATEMENT_SECONDS = 30.0
STOPPING = 20.0  # seconds that running attempts get when the process ends

log = logging.getLogger(__name__)


# --- Messages -------------------------------------------------------------------------------


def message(event: Event, keys: Iterable[bytes], now: datetime) -> tuple[bytes, dict[str, str]]:
    """Return the body and the headers of an event for a webhook, signed with each of the keys.

    In the form of Standard Webhooks: the id stays at each attempt, the time is the attempt's.
    """
    text = json.dumps(
        event.document(), cls=DjangoJSONEncoder, ensure_ascii=False, separators=(",", ":")
    )
    body = text.encode()
    seconds = str(int(now.timestamp()))
    signed = f"{event.name}.{seconds}.".encode() + body
    signatures = (base64.b64encode(hmac.digest(key, signed, "sha256")).decode() for key in keys)
    return body, {
        "Content-Type": "application/json; charset=utf-8",
        "User-Agent": AGENT,
        "webhook-id": event.name,
        "webhook-timestamp": seconds,
        "webhook-signature": " ".join(f"v1,{one}" for one in signatures),
    }


# --- What is to be sent ---------------------------------------------------------------------


def fan_out() -> int:
    """Make the deliveries of events that webhooks have not been looked at for; return how many."""
    head = stream.head()
    behind = Webhook.objects.exclude(state=WebhookState.OFF).filter(position__lt=head)
    return sum(_fan_out_to(pk, head) for pk in behind.values_list("pk", flat=True))


def _fan_out_to(pk: int, head: int) -> int:
    with transaction.atomic():
        held = Webhook.objects.select_for_update(skip_locked=True, of=("self",), no_key=True)
        webhook = held.exclude(state=WebhookState.OFF).filter(pk=pk, position__lt=head).first()
        if webhook is None:  # another process is at it, or was
            return 0
        groups = None if webhook.group_id is None else stream.groups_below(webhook.group_id)
        events = list(
            Event.objects.filter(position__gt=webhook.position, position__lte=head).order_by(
                "position"
            )[:MAX_FANNED]
        )
        now = timezone.now()
        wanted = [
            Delivery(webhook=webhook, event=event, due_at=now, give_up_at=now + GIVE_UP_AFTER)
            for event in events
            if webhook.wants(event, groups)
        ]
        Delivery.objects.bulk_create(wanted, ignore_conflicts=True)
        reached = events[-1].position if events else head
        Webhook.objects.filter(pk=pk).update(position=reached)
    return len(wanted)


@dataclass(slots=True)
class Attempt:
    """A claimed delivery and what came of it."""

    delivery: Delivery
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    answer: Answer | None = None


def due_webhooks(now: datetime) -> list[int]:
    """Return the active webhooks that have something to be sent."""
    due = Delivery.objects.waiting().filter(webhook=OuterRef("pk"), due_at__lte=now)
    active = Webhook.objects.filter(Exists(due), state=WebhookState.ACTIVE)
    return list(active.order_by("pk").values_list("pk", flat=True))


def claim(limits: Mapping[int, int]) -> list[Attempt]:
    """Claim deliveries that are due, at most so many of each webhook, by its primary key."""
    now, mine = timezone.now(), uuid.uuid4()
    chosen: list[int] = []
    with transaction.atomic():
        free = Delivery.objects.select_for_update(skip_locked=True).waiting()
        for webhook, limit in limits.items():
            due = free.filter(webhook=webhook, due_at__lte=now).order_by("due_at", "pk")
            chosen += [row.pk for row in due.only("pk")[:limit]]
        Delivery.objects.filter(pk__in=chosen).update(
            claim=mine, due_at=now + LEASE, attempts=F("attempts") + 1, tried_at=now
        )
    rows = Delivery.objects.filter(pk__in=chosen).select_related("webhook", "event").order_by("pk")
    return [_prepared(row, now) for row in rows]


def _prepared(delivery: Delivery, now: datetime) -> Attempt:
    attempt = Attempt(delivery)
    try:
        keys = delivery.webhook.secrets(now)
    except SealedError as error:
        attempt.answer = Answer(None, f"it cannot be signed: {error}")
    else:
        attempt.body, attempt.headers = message(delivery.event, keys, now)
    return attempt


def settle(attempts: Sequence[Attempt]) -> None:
    """Write down what came of attempts: a receipt, or when to try again."""
    now = timezone.now()
    for attempt in attempts:
        row, answer = attempt.delivery, attempt.answer or Answer(None, "unknown")
        row.code, row.problem = answer.code, answer.problem[:255]
        row.answer, row.duration = answer.text[:MAX_ANSWER], round(answer.seconds * 1000)
        if answer.is_success:
            row.state = DeliveryState.DELIVERED
        elif answer.code == GONE or now >= row.give_up_at:
            row.state = DeliveryState.FAILED
        else:
            row.due_at = min(now + pause(row.attempts, answer.retry_after), row.give_up_at)
        names = ["state", "code", "problem", "answer", "duration", "due_at"]
        with transaction.atomic():
            # Nothing, where the lease was over and another process has claimed it.
            mine = Delivery.objects.filter(pk=row.pk, claim=row.claim)
            written = mine.update(claim=None, **{name: getattr(row, name) for name in names})
            if written and row.state == DeliveryState.FAILED:
                _give_up(row, answer)


def _give_up(row: Delivery, answer: Answer) -> None:
    """Switch a webhook off that took nothing for so long, or wants no more."""
    webhook = Webhook.objects.select_for_update(of=("self",), no_key=True).get(pk=row.webhook_id)
    if webhook.state == WebhookState.OFF:
        return
    with by_itself():
        webhook.switch_off(answer.problem)
    log.warning("the webhook %s is switched off: %s", webhook, answer.problem)


def pause(attempts: int, asked: int | None = None) -> timedelta:
    """Return how long to wait after so many attempts: twice as long each time, and by chance.

    Longer where the host asked for that (Retry-After), in seconds.
    """
    longest = min(FIRST_PAUSE * 2.0 ** min(attempts - 1, 20), MAX_PAUSE)
    chosen = longest * random.uniform(0.8, 1.2)  # noqa: S311 - not all at one moment
    return timedelta(seconds=max(chosen, min(asked or 0, MAX_PAUSE)))


def seal_again() -> None:
    """Encrypt signing secrets under the newest pepper; log those whose pepper is missing."""
    for webhook in Webhook.objects.all():
        try:
            webhook.seal_again()
        except SealedError as error:
            log.error("the webhook %s cannot sign: %s", webhook, error)  # noqa: TRY400


# --- The work -------------------------------------------------------------------------------


class Deliverer(attempts.Worker[Attempt]):
    name = "webhooks"

    def __init__(self) -> None:
        super().__init__()
        self._next_look = 0.0

    def run(self, done: Callable[[], bool], seconds: float = float("inf")) -> bool:
        deadline = time.monotonic() + seconds
        seal_again()
        with connection.execute_wrapper(guard(STATEMENT_SECONDS)):
            while not done():
                if time.monotonic() >= deadline:
                    return False
                if time.monotonic() >= self._next_look:
                    self._next_look = time.monotonic() + ANNOUNCING
                    expiring.announce(timezone.now())
                stream.number()
                fan_out()
                due = due_webhooks(timezone.now())
                limits = {pk: self._loads[pk].capacity(MAX_PER_WEBHOOK) for pk in due}
                for attempt in claim({pk: limit for pk, limit in limits.items() if limit}):
                    self.begin(attempt)
                settle(self.finished(POLL))
        return True

    def host_of(self, attempt: Attempt) -> int:
        return attempt.delivery.webhook_id

    def has_failed(self, attempt: Attempt) -> bool:
        return attempt.answer is None or not attempt.answer.is_success

    async def attempt(self, attempt: Attempt) -> None:
        """Call the webhook, unless it is known already that it cannot be called."""
        delivery = attempt.delivery
        try:
            if attempt.answer is None:
                attempt.answer = await outgoing.post(
                    delivery.webhook.url, attempt.body, attempt.headers
                )
        except Exception:
            log.exception("an attempt to call a webhook failed")
            attempt.answer = Answer(None, "an unexpected failure; see the log")
        self._done.put(attempt)

    def close(self) -> None:
        """Let running attempts end and write down what came of them, as a command does."""
        deadline = time.monotonic() + STOPPING
        while any(load.running for load in self._loads.values()) and time.monotonic() < deadline:
            settle(self.finished(POLL))
        self.end_loop()
        connection.close()


deliverer = Deliverer()
