"""Webhooks in the admin: the secret once, deliveries seen and sent again, and who may."""

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from devices.events import delivering, signing_secrets, stream
from devices.events.kinds import Kind
from devices.events.models import GIVE_UP_AFTER, Delivery, DeliveryState, Event, Webhook
from tests.support.forms import inputs
from tests.support.staff import browser_of, staff

pytestmark = [pytest.mark.django_db, pytest.mark.once(on="sqlite")]


def url(name: str, *args: object) -> str:
    return reverse(f"admin:devices_{name}", args=args)


def hook() -> Webhook:
    webhook = Webhook(name="hook", url="https://example.com/hook")
    webhook.new_secret()
    webhook.save()
    return webhook


def delivered(webhook: Webhook, **fields: Any) -> Delivery:
    event = Event.objects.create(kind=Kind.DEVICE_DISABLED, data={"identifier": "d<b>"})
    stream.number()
    now = timezone.now()
    return Delivery.objects.create(
        webhook=webhook, event=event, due_at=now, give_up_at=now + GIVE_UP_AFTER, **fields
    )


ADDED = {
    "name": "mine",
    "url": "https://example.com/",
    "state": "active",
    "kinds": ["device.disabled", "device.enabled"],
    "group": "",
}


def test_a_new_webhook_shows_its_secret_once(admin_client: Client) -> None:
    page = admin_client.post(url("webhook_add"), ADDED)
    webhook = Webhook.objects.get()
    secret = page.context["secret"]
    shown = page.content.decode()
    assert secret in shown
    assert "devices/copy.js" in shown, "else the button that copies it stays hidden"
    assert "devices/secrets.js" in shown, "which takes it off the page when that is left"
    assert "no-store" in page["Cache-Control"]
    assert webhook.secrets(timezone.now()) == [signing_secrets.key_of(secret)]
    assert webhook.kinds == ["device.disabled", "device.enabled"]
    again = admin_client.get(url("webhook_change", webhook.pk)).content.decode()
    assert secret not in again
    assert webhook.sealed not in again


def test_who_may_only_look_reads_the_kinds_by_their_names() -> None:
    webhook, client = hook(), browser_of(staff(role="Auditor"))
    kinds = "field-named_kinds"
    page = client.get(url("webhook_change", webhook.pk)).content.decode()
    assert ">all<" in page[page.index(kinds) :]
    webhook.kinds = [Kind.DEVICE_DISABLED]
    webhook.save()
    page = client.get(url("webhook_change", webhook.pk)).content.decode()
    assert str(Kind.DEVICE_DISABLED.label) in page[page.index(kinds) :]


def test_an_address_that_may_not_be_called_is_an_error_of_the_form(admin_client: Client) -> None:
    page = admin_client.post(url("webhook_add"), {**ADDED, "url": "https://169.254.169.254/"})
    assert "url" in page.context["adminform"].form.errors
    assert not Webhook.objects.exists()


def test_a_new_secret_signs_beside_the_one_before(admin_client: Client) -> None:
    webhook = hook()
    before = webhook.secrets(timezone.now())
    address = url("webhook_new_secret", webhook.pk)
    sent = inputs(admin_client.get(address))
    page = admin_client.post(address, sent)
    webhook.refresh_from_db()
    assert webhook.secrets(timezone.now()) == [
        signing_secrets.key_of(page.context["secret"]),
        *before,
    ]
    # A second click, or somebody else who had the page open, ends neither of the two unasked.
    again = admin_client.post(address, sent)
    assert "secret" not in again.context
    assert "the one before it ends at once" in again.content.decode()
    webhook.refresh_from_db()
    assert webhook.secrets(timezone.now())[1:] == before
    assert "secret" in admin_client.post(address, inputs(again)).context


def test_two_new_secrets_at_once_both_sign() -> None:
    hook()
    one, other = Webhook.objects.get(), Webhook.objects.get()
    secrets = [one.new_secret(), other.new_secret()]
    signing = Webhook.objects.get().secrets(timezone.now())
    assert signing == [signing_secrets.key_of(secret) for secret in reversed(secrets)]


def test_a_test_event_is_on_its_way(admin_client: Client) -> None:
    webhook = hook()
    stream.number()
    answer = admin_client.post(url("webhook_test", webhook.pk), follow=True)
    assert answer.status_code == 200
    stream.number()
    assert delivering.fan_out() >= 1
    assert Delivery.objects.filter(event__kind=Kind.WEBHOOK_TESTED).count() == 1
    webhook.switch_off("HTTP 410")
    answer = admin_client.post(url("webhook_test", webhook.pk), follow=True)
    assert [one.level_tag for one in answer.context["messages"]] == ["error"]
    assert Event.objects.filter(kind=Kind.WEBHOOK_TESTED).count() == 1


def test_deliveries_are_seen_and_sent_again(
    admin_client: Client, django_assert_max_num_queries: Any
) -> None:
    webhook = hook()
    rows = [
        delivered(webhook, state=DeliveryState.FAILED, code=500, answer="<script>", problem="no")
        for _ in range(5)
    ]
    with django_assert_max_num_queries(15):
        page = admin_client.get(url("delivery_changelist"))
    assert page.status_code == 200
    one = admin_client.get(url("delivery_change", rows[0].pk)).content.decode()
    assert "&lt;script&gt;" in one
    assert "d&lt;b&gt;" in one
    assert rows[0].event.name in one
    assert f"{rows[0].event.get_kind_display()} · failed" in one
    admin_client.post(
        url("delivery_changelist"),
        {"action": "resend", "_selected_action": [row.pk for row in rows[:2]]},
    )
    assert Delivery.objects.waiting().count() == 2
    admin_client.post(url("delivery_resend", rows[2].pk))
    assert Delivery.objects.waiting().count() == 3
    assert "Send again" not in admin_client.get(url("delivery_change", rows[2].pk)).content.decode()


def test_events_are_seen(admin_client: Client) -> None:
    row = delivered(hook())
    Event.objects.create(kind=Kind.ACCOUNT_CREATED, data={"account": {"id": 1, "username": "lee"}})
    Event.objects.create(kind=Kind.SERVICE_ACCOUNT_CREATED, data={"purpose": "counts"})
    page = admin_client.get(url("event_changelist")).content.decode()
    assert '<td class="field-about">lee</td>' in page
    assert '<td class="field-about">counts</td>' in page
    assert "d&lt;b&gt;" in page
    assert admin_client.get(url("event_change", row.event_id)).status_code == 200


@pytest.mark.parametrize(
    ("name", "sees", "changes", "resends"),
    [
        ("Viewer", 403, 403, False),
        ("Operator", 403, 403, False),
        ("Security", 200, 200, True),
        ("Auditor", 200, 403, False),
    ],
)
def test_who_may(name: str, sees: int, changes: int, resends: bool) -> None:
    webhook = hook()
    row = delivered(webhook, state=DeliveryState.FAILED)
    client = browser_of(staff(role=name))
    for page in ("webhook", "delivery", "event"):
        assert client.get(url(f"{page}_changelist")).status_code == sees
    assert client.get(url("webhook_add")).status_code == changes
    assert client.get(url("webhook_new_secret", webhook.pk)).status_code == changes
    assert client.post(url("webhook_test", webhook.pk)).status_code in {302, changes}
    client.post(url("delivery_changelist"), {"action": "resend", "_selected_action": [row.pk]})
    row.refresh_from_db()
    assert (row.state == DeliveryState.WAITING) is resends
    failed = delivered(webhook, state=DeliveryState.FAILED)
    shown = client.get(url("delivery_change", failed.pk)).content.decode()
    assert ("Send again" in shown) is resends


def test_deleting_a_webhook_counts_its_deliveries_and_lists_none(
    admin_client: Client, django_assert_max_num_queries: Any
) -> None:
    webhook = hook()
    events = [delivered(webhook).event for _ in range(3)]
    address = url("webhook_delete", webhook.pk)
    with django_assert_max_num_queries(12):
        page = admin_client.get(address).content.decode()
    assert "Deliveries: 3" in page
    assert str(events[0].uid) not in page
    admin_client.post(address, {"post": "yes"})
    assert not Webhook.objects.exists()
    assert not Delivery.objects.exists()
