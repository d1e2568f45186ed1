"""Webhooks: what is sent to whom, signed, retried, given up, and claimed by one process alone."""

import json
import re
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.core.exceptions import ValidationError
from django.db import connection
from django.utils import timezone
from standardwebhooks import Webhook as Verifier, WebhookVerificationError

from devices.background import housekeeping
from devices.credentials.sealing import SealedError
from devices.events import delivering, outgoing, signing_secrets, stream
from devices.events.delivering import Deliverer, claim, fan_out, pause, settle
from devices.events.kinds import Kind
from devices.events.models import (
    MAX_WEBHOOKS,
    Delivery,
    DeliveryState,
    Event,
    Webhook,
    WebhookState,
)
from devices.events.outgoing import Answer
from tests.support.receiver import Receiver, receiver

pytestmark = pytest.mark.django_db
Make = Callable[..., Any]


@pytest.fixture(scope="module")
def host() -> Iterator[Receiver]:
    with receiver() as made:
        yield made


@pytest.fixture(autouse=True)
def _near(settings: Any, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    settings.WEBHOOK_HTTP = True
    settings.WEBHOOK_NETWORKS = (ip_network("127.0.0.0/8"),)
    monkeypatch.setattr(outgoing, "TOTAL_SECONDS", 1.0)
    monkeypatch.setattr(outgoing, "BODY_SECONDS", 0.1)


@pytest.fixture
def deliverer() -> Iterator[Deliverer]:
    made = Deliverer()
    made._next_look = float("inf")
    yield made
    made.close()


SECRETS: dict[int, str] = {}  # of each webhook, the first one


def hook(url: str = "https://example.com/hook", name: str = "hook", **fields: Any) -> Webhook:
    webhook = Webhook(name=name, url=url, **fields)
    secret = webhook.new_secret()
    webhook.full_clean(exclude=["sealed", "pepper"])
    webhook.save()
    SECRETS[webhook.pk] = secret
    Event.objects.all().delete()  # of the webhook itself
    return webhook


def happen(kind: Kind = Kind.DEVICE_DISABLED, **fields: Any) -> Event:
    event = Event.objects.create(kind=kind, data={"identifier": "d"}, **fields)
    stream.number()
    event.refresh_from_db()
    return event


def only() -> Delivery:
    return Delivery.objects.get()


def done(state: DeliveryState = DeliveryState.WAITING) -> Callable[[], bool]:
    """Return whether no delivery is in a state any more."""
    return lambda: not Delivery.objects.filter(state=state).exists() and Delivery.objects.exists()


def test_a_message_is_what_standard_webhooks_says(host: Receiver, deliverer: Deliverer) -> None:
    webhook = hook(host.url("/ok"))
    event = happen()
    assert deliverer.run(done(), 10)
    _path, headers, body = host.requests[-1]
    message: Any = Verifier(SECRETS[webhook.pk]).verify(body, headers)
    assert message == json.loads(body)
    assert message["type"] == "device.disabled"
    assert message["data"] == {"identifier": "d"}
    assert datetime.fromisoformat(message["timestamp"]) == event.moment
    assert headers["webhook-id"] == message["id"] == f"evt_{event.uid.hex}"
    handled: list[Any] = []
    page = (django_settings.BASE_DIR / "docs" / "events.md").read_text()
    for example in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        names: dict[str, Any] = {"secret": SECRETS[webhook.pk], "headers": headers, "body": body}
        names |= {"handle_once": lambda *given: handled.append(given)}
        exec(example.replace("whsec_…", SECRETS[webhook.pk]), names)
        if "receive" in names:
            names["receive"](body, headers)
        else:
            with pytest.raises(AssertionError):
                exec(example, names | {"body": body + b" "})
    assert handled == [(headers["webhook-id"], message)]
    with pytest.raises(WebhookVerificationError):
        Verifier(SECRETS[webhook.pk]).verify(body.replace(b"disabled", b"enabled!"), headers)
    with pytest.raises(WebhookVerificationError):
        Verifier(signing_secrets.generate()).verify(body, headers)
    row = only()
    assert (row.state, row.code, row.attempts, row.problem) == ("delivered", 204, 1, "")
    assert row.duration is not None
    assert row.claim is None


def test_during_a_rotation_both_secrets_sign(settings: Any) -> None:
    webhook = hook()
    assert webhook.former_until is None
    first = SECRETS[webhook.pk]
    second = webhook.new_secret()
    event, now = happen(), timezone.now()
    body, headers = delivering.message(event, webhook.secrets(now), now)
    for secret in (first, second):
        Verifier(secret).verify(body, headers)
    later = webhook.former_until
    assert later is not None
    assert timedelta(hours=23) < later - now < timedelta(hours=25)
    assert len(webhook.secrets(later - timedelta(seconds=1))) == 2
    assert len(webhook.secrets(later)) == 1
    body, headers = delivering.message(event, webhook.secrets(later), now)
    Verifier(second).verify(body, headers)
    with pytest.raises(WebhookVerificationError):
        Verifier(first).verify(body, headers)


def test_secrets_are_sealed_and_move_to_the_newest_pepper(
    settings: Any, deliverer: Deliverer
) -> None:
    webhook = hook()
    webhook.new_secret()
    old = dict(settings.PEPPERS)
    now = timezone.now()
    keys = webhook.secrets(now)
    assert len(keys) == 2
    stored = Webhook.objects.values().get()
    assert SECRETS[webhook.pk] not in str(stored)
    settings.PEPPERS = {"test-3": bytes(32), **old}
    assert Webhook.objects.get().secrets(now) == keys
    assert deliverer.run(lambda: True)
    moved = Webhook.objects.get()
    assert moved.pepper == "test-3"
    settings.PEPPERS = {"test-3": bytes(32)}
    assert Webhook.objects.get().secrets(now) == keys
    settings.PEPPERS = old
    with pytest.raises(SealedError, match="test-3 is missing"):
        Webhook.objects.get().secrets(now)


def test_a_webhook_that_cannot_sign_is_tried_again(deliverer: Deliverer, settings: Any) -> None:
    hook()
    happen()
    settings.PEPPERS = {"other": bytes(32)}
    assert deliverer.run(lambda: Delivery.objects.exclude(problem="").exists(), 10)
    row = only()
    assert (row.state, row.code, "pepper" in row.problem) == ("waiting", None, True)


def test_who_is_told_of_what(make_group: Make) -> None:
    site = make_group("site")
    lab = make_group("lab", parent=site)
    other = make_group("other")
    wide = hook(name="wide")
    some = hook(name="some", kinds=[Kind.DEVICE_DISABLED])
    of_site = hook(name="of site", group=site)
    off = hook(name="off", state=WebhookState.OFF)
    paused = hook(name="paused", state=WebhookState.PAUSED)
    happen(Kind.DEVICE_DISABLED, groups=[lab.pk])
    happen(Kind.DEVICE_DISABLED, groups=[other.pk])
    happen(Kind.DEVICE_ENABLED, groups=[site.pk, other.pk])
    happen(Kind.RULE_CREATED)
    assert fan_out() == 4 + 2 + 2 + 4
    counts = {row: row.deliveries.count() for row in (wide, some, of_site, off, paused)}
    assert list(counts.values()) == [4, 2, 2, 0, 4]
    assert fan_out() == 0, "once"


def test_many_events_are_fanned_out_in_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivering, "MAX_FANNED", 2)
    hook(kinds=[Kind.DEVICE_DISABLED])
    for kind in (Kind.RULE_CREATED, Kind.RULE_CREATED, *[Kind.DEVICE_DISABLED] * 3):
        happen(kind)
    assert [fan_out() for _ in range(4)] == [0, 2, 1, 0]


def test_a_webhook_begins_with_what_happens_after_it_was_made() -> None:
    happen()
    webhook = hook()
    assert fan_out() == 0
    happen()
    assert fan_out() == 1
    webhook.refresh_from_db()
    webhook.state = WebhookState.OFF
    webhook.save()
    happen()
    stream.number()
    assert fan_out() == 0
    webhook.state = WebhookState.ACTIVE
    webhook.save()
    Event.objects.filter(position=None).delete()
    assert fan_out() == 0
    happen()
    assert fan_out() == 1


def test_events_that_are_gone_hold_up_no_webhook() -> None:
    webhook = hook()
    happen()
    Event.objects.all().delete()
    assert fan_out() == 0
    webhook.refresh_from_db()
    assert webhook.position == stream.head()


def test_what_expires_is_looked_for_once_in_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[datetime] = []
    monkeypatch.setattr("devices.events.expiring.announce", looks.append)
    deliverer, rounds = Deliverer(), iter([False] * 3 + [True] + [False, True])
    assert deliverer.run(lambda: next(rounds))
    assert len(looks) == 1
    monkeypatch.setattr(delivering, "ANNOUNCING", 0.0)
    deliverer._next_look = 0.0
    assert deliverer.run(lambda: next(rounds))
    assert len(looks) == 2
    deliverer.close()


def test_a_webhook_switched_on_forgets_why_it_was_off() -> None:
    webhook = hook(kinds=[Kind.DEVICE_DISABLED])
    webhook.switch_off("HTTP 500")
    happen()
    webhook.state = WebhookState.PAUSED
    webhook.save(update_fields=["state"])
    webhook.refresh_from_db()
    assert (webhook.state, webhook.off_because) == ("paused", "")
    assert fan_out() == 0
    happen()
    assert fan_out() == 1


def test_what_was_not_numbered_before_a_webhook_began_is_not_sent() -> None:
    webhook = hook(kinds=[Kind.DEVICE_DISABLED], state=WebhookState.OFF)
    Event.objects.create(kind=Kind.DEVICE_DISABLED, data={})
    webhook.state = WebhookState.ACTIVE
    webhook.save()
    stream.number()
    assert fan_out() == 0


def test_saving_an_active_webhook_leaves_out_and_repeats_nothing() -> None:
    webhook = hook(kinds=[Kind.DEVICE_DISABLED])
    happen()
    fan_out()
    (attempt,) = claim({webhook.pk: 1})
    happen()
    webhook.refresh_from_db()
    webhook.name = "renamed"
    webhook.save()
    assert only().claim == attempt.delivery.claim
    assert fan_out() == 1


def test_a_pause_that_ends_leaves_out_nothing() -> None:
    webhook = hook(kinds=[Kind.DEVICE_DISABLED], state=WebhookState.PAUSED)
    happen()
    webhook.state = WebhookState.ACTIVE
    webhook.save()
    assert fan_out() == 1


def test_a_webhook_that_is_off_stays_off_for_its_reason() -> None:
    webhook = hook()
    happen()
    fan_out()
    (attempt,) = claim({webhook.pk: 1})
    stale = Webhook.objects.get()
    webhook.switch_off("x" * 300)
    webhook.name = "renamed"
    webhook.save()
    stale.new_secret()  # by somebody who saw it active
    webhook.refresh_from_db()
    assert (webhook.state, webhook.off_because) == ("off", "x" * 255)
    assert only().claim == attempt.delivery.claim


def test_a_secret_that_cannot_be_read_is_replaced(settings: Any) -> None:
    webhook = hook()
    settings.PEPPERS = {"other": bytes(32)}
    secret = webhook.new_secret()
    assert webhook.secrets(timezone.now()) == [signing_secrets.key_of(secret)]


def test_what_is_sent_again_is_due_at_once_whoever_is_at_it() -> None:
    webhook = hook()
    happen()
    fan_out()
    (attempt,) = claim({webhook.pk: 1})
    Delivery.objects.all().resend()
    attempt.answer = Answer(500, "late")
    settle([attempt])
    assert only().problem == ""
    assert len(claim({webhook.pk: 1})) == 1


def test_what_happens_during_a_pause_is_sent_afterwards(
    host: Receiver, deliverer: Deliverer
) -> None:
    webhook = hook(host.url("/ok"), state=WebhookState.PAUSED)
    event = happen()
    deliverer.run(lambda: False, 0.5)
    row = only()
    assert (row.state, row.attempts) == ("waiting", 0)
    Delivery.objects.update(give_up_at=timezone.now() - timedelta(days=1))
    webhook.refresh_from_db()
    webhook.state = WebhookState.ACTIVE
    webhook.save()
    assert only().give_up_at > timezone.now() + timedelta(days=2)
    assert deliverer.run(done(), 10)
    assert host.requests[-1][1]["webhook-id"] == event.name or host.count() > 1


def test_a_test_goes_to_its_webhook_alone() -> None:
    one = hook(name="one", kinds=[Kind.RULE_CREATED])
    hook(name="two")
    one.test()
    stream.number()
    assert fan_out() == 1
    assert only().webhook == one


def test_it_is_tried_again_ever_later_and_given_up_after_three_days(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A host that answers 500 for three days, with the clock put on from attempt to attempt."""
    webhook = hook()
    happen()
    clock = begin = timezone.now()
    monkeypatch.setattr(timezone, "now", lambda: clock)
    fan_out()
    gaps: list[float] = []
    ids: set[str] = set()
    while only().state == DeliveryState.WAITING:
        if gaps:
            assert claim({webhook.pk: 10}) == [], "not before it is due"
        clock = max(clock, only().due_at)
        (attempt,) = claim({webhook.pk: 10})
        ids.add(attempt.headers["webhook-id"])
        attempt.answer = Answer(500, "HTTP 500", "sad", 0.01)
        settle([attempt])
        gaps.append((only().due_at - clock).total_seconds())
        assert len(gaps) < 100
    assert len(ids) == 1
    assert 20 < len(gaps) < 40
    assert 4 <= gaps[0] <= 6
    assert max(gaps) <= 1.2 * 4 * 3600
    assert clock - begin == timedelta(days=3)
    row = only()
    assert (row.state, row.code, row.answer) == ("failed", 500, "sad")
    webhook.refresh_from_db()
    assert (webhook.state, webhook.off_because) == ("off", "HTTP 500")
    assert webhook.history.latest().origin == "registry", "nobody asked for it"
    told = Event.objects.get(kind=Kind.WEBHOOK_SWITCHED_OFF)
    assert told.data["name"] == "hook"


def test_several_that_are_given_up_switch_off_once() -> None:
    webhook = hook()
    for _ in range(2):
        happen()
    fan_out()
    attempts = claim({webhook.pk: 2})
    for attempt in attempts:
        attempt.answer = Answer(delivering.GONE, "HTTP 410")
    settle(attempts)
    assert Delivery.objects.filter(state=DeliveryState.FAILED).count() == 2
    assert Event.objects.filter(kind=Kind.WEBHOOK_SWITCHED_OFF).count() == 1


def test_pauses_double_by_chance_and_heed_the_host() -> None:
    chosen = {pause(4).total_seconds() for _ in range(50)}
    assert len(chosen) > 10
    assert 0.8 * 40 <= min(chosen) < max(chosen) <= 1.2 * 40
    assert pause(1, 120) == timedelta(seconds=120)
    assert pause(1, 10**6) == timedelta(seconds=delivering.MAX_PAUSE)
    assert pause(10**6) <= 1.2 * timedelta(seconds=delivering.MAX_PAUSE)


def test_gone_switches_off_at_once(host: Receiver, deliverer: Deliverer) -> None:
    webhook = hook(host.url("/gone"))
    happen()
    assert deliverer.run(done(), 10)
    webhook.refresh_from_db()
    assert (only().state, webhook.state) == ("failed", "off")


def test_what_failed_is_sent_again_under_the_same_id(host: Receiver, deliverer: Deliverer) -> None:
    hook(host.url("/500"))
    event = happen()
    assert deliverer.run(lambda: Delivery.objects.exclude(problem="").exists(), 10)
    row = only()
    assert (row.state, row.answer) == ("waiting", "sad�")
    Webhook.objects.update(url=host.url("/ok"))
    deliverer._loads.clear()
    assert Delivery.objects.all().resend() == 1
    assert deliverer.run(done(), 10)
    assert [one[1]["webhook-id"] for one in host.requests[-2:]] == [event.name] * 2
    assert only().attempts == 2


def test_slow_hosts_hold_up_no_other(host: Receiver, deliverer: Deliverer) -> None:
    for n in range(6):
        hook(host.url("/hang"), name=f"hanging {n}")
        hook(host.url("/dripping-headers"), name=f"dripping {n}")
    hook(host.url("/ok"), name="good")
    events = [happen() for _ in range(20)]
    began = time.monotonic()
    good = Delivery.objects.filter(webhook__name="good")
    assert deliverer.run(
        lambda: good.filter(state=DeliveryState.DELIVERED).count() == len(events), 10
    )
    assert time.monotonic() - began < 5
    assert not Delivery.objects.filter(webhook__name__contains="ing ", state="delivered").exists()


def test_a_host_that_fails_is_left_alone_ever_longer(host: Receiver, deliverer: Deliverer) -> None:
    hook(host.url("/500?alone"))
    for _ in range(30):
        happen()
    deliverer.run(lambda: False, 2.0)
    came = host.count("/500?alone")
    assert came <= delivering.MAX_PER_WEBHOOK + 3


def test_an_end_waits_for_what_is_under_way(
    host: Receiver, deliverer: Deliverer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "close", lambda: None)  # the test goes on with it
    webhook = hook(host.url("/ok"))
    happen()
    fan_out()
    (attempt,) = claim({webhook.pk: 1})
    deliverer.begin(attempt)
    deliverer.close()
    assert only().state == DeliveryState.DELIVERED


def test_what_is_claimed_is_nobody_elses_until_the_lease_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    webhook = hook()
    events = [happen() for _ in range(3)]
    fan_out()
    first = claim({webhook.pk: 2})
    assert [one.delivery.event for one in first] == events[:2]
    second = claim({webhook.pk: 5})
    assert (len(first), len(second), claim({webhook.pk: 5})) == (2, 1, [])
    later = timezone.now() + delivering.LEASE + timedelta(seconds=1)
    monkeypatch.setattr(timezone, "now", lambda: later)
    again = claim({webhook.pk: 5})
    assert len(again) == 3
    assert {one.headers["webhook-id"] for one in again} == {
        one.headers["webhook-id"] for one in (*first, *second)
    }
    # The first process comes back, late: what it says counts for nothing.
    first[0].answer = Answer(500, "late")
    settle([first[0]])
    assert not Delivery.objects.filter(problem="late").exists()
    again[0].answer = Answer(200)
    settle([again[0]])
    assert Delivery.objects.filter(state=DeliveryState.DELIVERED).count() == 1


def test_what_a_webhook_may_be() -> None:
    with pytest.raises(ValidationError, match="kinds"):
        hook(kinds=["device.exploded"])
    with pytest.raises(ValidationError, match="WEBHOOK_NETWORKS"):
        hook("http://10.0.0.1/")
    with pytest.raises(ValidationError, match="https"):
        hook("gopher://example.com/")
    for n in range(MAX_WEBHOOKS):
        hook(name=f"hook {n}")
    with pytest.raises(ValidationError, match=str(MAX_WEBHOOKS)):
        hook(name="one too many")
    Webhook.objects.get(name="hook 1").clean()


def test_old_events_are_forgotten_with_what_was_sent_of_them() -> None:
    hook()
    happen(moment=datetime(2020, 1, 1, tzinfo=UTC))
    happen()
    fan_out()
    housekeeping.forget(timezone.now())
    assert Event.objects.filter(kind=Kind.DEVICE_DISABLED).count() == 1
    assert Delivery.objects.count() == 1
