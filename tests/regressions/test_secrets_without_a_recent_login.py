"""No page hands out a secret in a session whose password was given long ago.

CWE-306; OWASP ASVS asks to authenticate again before what is sensitive. A new webhook showed its
signing secret without, and went on sending events to wherever a stolen session had led it; a new
secret of one that was there asked.
"""

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from authsite.accounts.tokens.models import ApiToken
from devices.events.models import Webhook
from devices.models import Device, PreSharedKey

pytestmark = [pytest.mark.django_db, pytest.mark.once(on="sqlite")]
PASSWORD = "a long enough password"
WEBHOOK = {"name": "tickets", "url": "https://tickets.example.com/", "state": "active"}


@pytest.fixture
def client() -> Client:
    User.objects.create_superuser("kim", password=PASSWORD)
    found = Client()
    found.post("/admin/login/", {"username": "kim", "password": PASSWORD})
    session = found.session
    session["confirmed_at"] -= 3600
    session.save()
    return found


def pages() -> dict[str, dict[str, Any]]:
    """Return the pages that show a secret or take a password for an account, and what each takes.

    They ask before they look at what was sent.
    """
    device = Device.objects.create(identifier="d-1")
    webhook = Webhook(name="chat", url="https://chat.example.com/")
    webhook.new_secret()
    webhook.save()
    return {
        reverse("admin:devices_device_issue_key", args=[device.pk]): {},
        reverse("admin:devices_device_rotate_keys", args=[device.pk]): {"overlap": "0"},
        reverse("admin:devices_webhook_add"): WEBHOOK,
        reverse("admin:devices_webhook_new_secret", args=[webhook.pk]): {
            "shown": webhook.secrets_version
        },
        reverse("admin:authsite_apitoken_add"): {"name": "n", "scopes": "devices.view_device"},
        reverse("admin:auth_user_add"): {"username": "lee"},
        reverse("admin:auth_user_password_change", args=[User.objects.get().pk]): {},
        reverse("admin:enrol_app"): {},
        reverse("admin:new_codes"): {},
    }


def counts() -> list[int]:
    rows = (PreSharedKey, Webhook, ApiToken, User)
    return [model._default_manager.count() for model in rows]


def test_no_page_hands_out_a_secret(client: Client, settings: Any) -> None:
    settings.STAFF_SECOND_FACTOR = "optional"
    asked, before = pages(), counts()
    sealed = Webhook.objects.values_list("sealed", flat=True).get()
    for address, sent in asked.items():
        answers = [client.post(address, sent)]
        if address != reverse("admin:new_codes"):  # which has no form of its own
            answers.append(client.get(address))
        for answer in answers:
            assert answer.status_code == 302, address
            assert answer["Location"].startswith("/admin/confirm/?next="), address
    assert counts()[1:] == [before[1], before[2], before[3]]
    assert not PreSharedKey.objects.exists()
    assert Webhook.objects.values_list("sealed", flat=True).get() == sealed


def test_a_new_webhook_is_made_after_the_password(client: Client) -> None:
    address = reverse("admin:devices_webhook_add")
    asked = client.post(address, WEBHOOK)
    assert not Webhook.objects.exists()
    back = client.post(asked["Location"], {"password": PASSWORD})
    assert back["Location"] == address
    shown = client.post(address, WEBHOOK)
    assert "whsec_" in shown.content.decode()
    assert Webhook.objects.get().name == "tickets"
