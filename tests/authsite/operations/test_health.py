"""Whether a process should be sent requests."""

from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.utils import timezone

from authsite.accounts.tokens.models import ApiToken
from authsite.operations import RUNTIME, health, metrics
from authsite.operations.health import Readiness, State
from authsite.operations.server import DRAINING
from authsite.operations.wsgi import Operations
from devices.database.slots import Slots
from devices.events.models import Webhook
from devices.models import Device, PreSharedKey

pytestmark = pytest.mark.django_db


class Held(Slots):
    """The connection of the test in place of one of its own."""

    def __init__(self) -> None:
        super().__init__(0, max_wait=0)

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass


def readiness() -> Readiness:
    return Readiness(Held(), connection.ensure_connection)


def key(**fields: object) -> PreSharedKey:
    device = Device.objects.create(identifier=f"device-{Device.objects.count():030}")
    made, _secret = PreSharedKey.objects.issue(device=device)
    PreSharedKey.objects.filter(pk=made.pk).update(**fields)
    return made


def test_a_process_without_a_free_slot_is_not_ready(caplog: pytest.LogCaptureFixture) -> None:
    judged = Readiness(Slots(0, max_wait=0.01), lambda: None)
    assert judged.state() is State.UNAVAILABLE
    assert judged.state() is State.UNAVAILABLE
    assert len(caplog.messages) == 1, "once a reason"


def test_a_process_whose_database_fails_is_not_ready() -> None:
    def fail() -> None:
        raise OperationalError("gone\naway")

    assert Readiness(Held(), fail).state() is State.UNAVAILABLE


def test_a_process_without_a_pepper_in_use_is_not_ready() -> None:
    made = key(pepper="elsewhere", last_used=timezone.now())
    assert health.missing_peppers() == {"elsewhere"}
    assert readiness().state() is State.UNAVAILABLE
    PreSharedKey.objects.filter(pk=made.pk).update(last_used=timezone.now() - timedelta(hours=2))
    assert health.missing_peppers() == set(), "no process verifies it: no fault of this one"
    assert readiness().state() is State.READY


def test_a_process_without_the_pepper_of_a_webhook_or_token_verifies_and_says_so(
    caplog: pytest.LogCaptureFixture, django_user_model: Any
) -> None:
    made = Webhook(name="hook", url="https://example.com/", pepper="elsewhere", sealed="x")
    Webhook.objects.bulk_create([made])
    owner = django_user_model.objects.create(username="owner", is_staff=True)
    ApiToken.objects.bulk_create(
        [ApiToken(owner=owner, name="t", identifier="i", digest="d", pepper="gone", scopes=[])]
    )
    assert readiness().state() is State.DEGRADED
    said = {"webhooks need the peppers elsewhere", "tokens need the peppers gone"}
    assert set(caplog.messages[-1].removeprefix("ready, but ").split("; ")) == said
    hang = {tuple(sample.labels.values()) for sample in metrics.beside_keys().samples}
    assert {("webhooks", "elsewhere", "no"), ("tokens", "gone", "no")} < hang
    Webhook.objects.all().delete()
    ApiToken.objects.update(revoked_at=timezone.now())
    assert readiness().state() is State.READY


def test_a_server_that_stops_is_not_ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(RUNTIME, str(tmp_path))
    judged = readiness()
    assert judged.state() is State.READY
    (tmp_path / DRAINING).touch()
    assert judged.state() is State.UNAVAILABLE


def test_what_ends_and_what_keys_hang_on_is_counted() -> None:
    soon = timezone.now() + timedelta(days=10)
    key(not_after=soon)
    key(pepper="elsewhere")
    key(revoked_at=timezone.now(), not_after=soon)
    found = {tuple(sample.labels.values()): sample.value for sample in metrics.ending().samples}
    assert found["keys", "7"] == 0
    assert found["keys", "30"] == 1
    hang = {tuple(sample.labels.values()): sample.value for sample in metrics.keys().samples}
    assert hang == {("elsewhere", "no"): 1, ("test-2", "yes"): 1}


@pytest.mark.parametrize(
    ("address", "method", "status"),
    [("10.9.9.1", "GET", 200), ("10.9.9.1", "POST", 405), ("10.9.8.1", "GET", 404)],
)
def test_metrics_are_told_to_their_networks_alone(
    settings: Any, address: str, method: str, status: int
) -> None:
    settings.METRICS_NETWORKS = (ip_network("10.9.9.0/24"),)
    said: list[Any] = []
    environ = {"PATH_INFO": "/metrics", "REQUEST_METHOD": method, "REMOTE_ADDR": address}
    operations: Any = Operations(lambda *_: [], readiness())
    answer = operations(environ, lambda *words: said.extend(words))
    assert int(said[0].split()[0]) == status
    assert (dict(said[1])["Content-Type"] == metrics.MEDIA_TYPE) is (status == 200)
    assert (b"authsite_" in b"".join(answer)) is (status == 200)


def test_a_database_that_fails_at_the_first_look_at_peppers_is_not_ready(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail() -> frozenset[str]:
        raise OperationalError("gone")

    judged = readiness()
    with monkeypatch.context() as broken:
        broken.setattr(health, "missing_peppers", fail)
        assert judged.state() is State.UNAVAILABLE
    assert judged.state() is State.READY
