"""A secret is shown once: no second sending of a form shows it, or issues another."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import connection
from django.test import Client

from devices.authentication import authenticate
from devices.models import Device, PreSharedKey
from tests.devices.admin.test_device import send, shown_secret, url

pytestmark = pytest.mark.once(on="sqlite")

Factory = Callable[..., Device]
FORMS = {"device_issue_key": {"label": "x"}, "device_rotate_keys": {"overlap": "0"}}


@pytest.mark.parametrize("page", FORMS)
def test_a_form_that_is_sent_again_issues_and_shows_nothing(
    admin_client: Client, make_device: Factory, page: str
) -> None:
    device = make_device()
    PreSharedKey.objects.issue(device=device)
    address = url(page, device.pk)
    first = send(admin_client, address, FORMS[page])
    secret = shown_secret(first)
    again = admin_client.post(address, first.wsgi_request.POST, follow=True)
    assert "sent before" in again.content.decode()
    assert 'id="secret"' not in again.content.decode()
    assert PreSharedKey.objects.filter(device=device).count() == 2
    assert authenticate(device.identifier, secret=secret).verified


@pytest.mark.parametrize("page", FORMS)
def test_each_rendering_is_a_form_of_its_own(
    admin_client: Client, make_device: Factory, page: str
) -> None:
    address = url(page, make_device().pk)
    tabs = [admin_client.get(address).context["form"]["token"].value() for _ in range(2)]
    secrets = {
        shown_secret(admin_client.post(address, FORMS[page] | {"token": token})) for token in tabs
    }
    assert len(secrets) == 2


@pytest.mark.parametrize("page", FORMS)
@pytest.mark.parametrize("token", ["", "nonsense"])
def test_a_form_without_its_token_issues_nothing(
    admin_client: Client, make_device: Factory, page: str, token: str
) -> None:
    answer = admin_client.post(url(page, make_device().pk), FORMS[page] | {"token": token})
    assert answer.status_code == 200
    assert not PreSharedKey.objects.exists()


@pytest.mark.parametrize("page", FORMS)
def test_a_label_that_nobody_can_read_is_refused_beside_its_field(
    admin_client: Client, make_device: Factory, page: str
) -> None:
    answer = send(admin_client, url(page, make_device().pk), FORMS[page] | {"label": "\u202ex"})
    assert "It holds U+202E" in answer.context["form"].errors["label"][0]
    assert not PreSharedKey.objects.exists()


def test_a_known_secret_is_registered_once(admin_client: Client, make_device: Factory) -> None:
    device = make_device()
    address = url("device_issue_key", device.pk)
    first = send(admin_client, address, {"secret": "of the factory, unchanged"})
    again = admin_client.post(address, first.wsgi_request.POST, follow=True)
    assert "sent before" in again.content.decode()
    assert PreSharedKey.objects.count() == 1


@pytest.mark.parametrize("secret", ["", "of the factory, unchanged"])
def test_a_key_that_has_ended_is_not_issued(
    admin_client: Client, make_device: Factory, secret: str
) -> None:
    form = {"not_after_0": "2020-01-01", "not_after_1": "00:00", "secret": secret}
    answer = send(admin_client, url("device_issue_key", make_device().pk), form)
    assert "This time is past" in answer.context["form"].errors["not_after"][0]
    assert not PreSharedKey.objects.exists()


def test_a_rotation_that_was_made_before_ends_no_key(make_device: Factory) -> None:
    from datetime import timedelta
    from uuid import uuid4

    device, token = make_device(), uuid4()
    PreSharedKey.objects.rotate(device=device, overlap=timedelta(), token=token)
    key = PreSharedKey.objects.get()
    with pytest.raises(ValidationError, match="sent before"):
        PreSharedKey.objects.rotate(device=device, overlap=timedelta(), token=token)
    key.refresh_from_db()
    assert key.not_after is None


@pytest.mark.once(on="postgres")
@pytest.mark.skipif(connection.vendor == "sqlite", reason="SQLite has one writer at a time")
@pytest.mark.django_db(transaction=True)
def test_a_double_click_issues_one_key() -> None:
    device = Device.objects.create(identifier="clicked")
    user = User.objects.create_superuser("admin")
    address = url("device_issue_key", device.pk)
    clients = [Client(), Client()]
    for client in clients:
        client.force_login(user)
    token = clients[0].get(address).context["form"]["token"].value()
    answers: list[Any] = []

    def click(client: Client) -> None:
        answers.append(client.post(address, {"token": token}))
        connection.close()

    threads = [threading.Thread(target=click, args=[client]) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answer.status_code for answer in answers) == [201, 302]
    assert PreSharedKey.objects.count() == 1


def test_the_rules_of_a_good_secret_come_with_the_form_and_no_secret_does(
    admin_client: Client, make_device: Factory
) -> None:
    device = make_device()
    page = admin_client.get(url("device_issue_key", device.pk))
    assert page.context["script_values"]["secret-rules"]["identifier"] == device.identifier
    refused = send(admin_client, url("device_issue_key", device.pk), {"secret": "¶§"})
    assert "¶§" not in refused.content.decode()
    assert "3 to 128" in refused.content.decode()
    assert "<script>" not in refused.content.decode()


def test_a_rotation_takes_few_statements(
    admin_client: Client, make_device: Factory, django_assert_max_num_queries: Any
) -> None:
    device = make_device()
    PreSharedKey.objects.issue(device=device)
    address = url("device_rotate_keys", device.pk)
    token = admin_client.get(address).context["form"]["token"].value()
    with django_assert_max_num_queries(12 + 5):  # and the events of two keys
        answer = admin_client.post(address, {"token": token, "overlap": "24"})
    assert shown_secret(answer)
