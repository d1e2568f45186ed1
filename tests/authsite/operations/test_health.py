"""Whether a process should be sent requests."""

from datetime import timedelta
from pathlib import Path

import pytest
from django.db import OperationalError, connection
from django.utils import timezone

from authsite.operations import health, metrics
from authsite.operations.health import Readiness
from authsite.operations.server import DRAINING, RUNTIME
from devices.database.slots import Slots
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
    assert not judged.is_ready()
    assert not judged.is_ready()
    assert len(caplog.messages) == 1, "once a reason"


def test_a_process_whose_database_fails_is_not_ready() -> None:
    def fail() -> None:
        raise OperationalError("gone\naway")

    assert not Readiness(Held(), fail).is_ready()


def test_a_process_without_a_pepper_in_use_is_not_ready() -> None:
    made = key(pepper="elsewhere", last_used=timezone.now())
    assert health.missing_peppers() == {"elsewhere"}
    assert not readiness().is_ready()
    PreSharedKey.objects.filter(pk=made.pk).update(last_used=timezone.now() - timedelta(hours=2))
    assert health.missing_peppers() == set(), "no process verifies it: no fault of this one"
    assert readiness().is_ready()


def test_a_server_that_stops_is_not_ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(RUNTIME, str(tmp_path))
    judged = readiness()
    assert judged.is_ready()
    (tmp_path / DRAINING).touch()
    assert not judged.is_ready()


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
